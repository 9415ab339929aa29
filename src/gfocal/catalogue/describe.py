"""Published weights in words: before they are fetched, and where a person has to fetch them."""

from __future__ import annotations

import shlex

from gfocal.catalogue.addresses import addresses, file_name
from gfocal.catalogue.entries import Published
from gfocal.catalogue.home import download_file, model_folder
from gfocal.utils.text import listed, program


def describe_figure(entry: Published) -> str:
    """40.2 (COCO val2017, AP); "no published figure"."""
    figures = [] if entry.ap is None else [f"{entry.ap:.1f} ({entry.measure})"]
    figures += [] if entry.test_dev is None else [f"{entry.test_dev:.1f} (COCO test-dev, AP)"]
    return ", ".join(figures) or "no published figure"


def describe_licence(entry: Published) -> str:
    """Of the repository, since none names the weights apart."""
    forbids = ", which FORBIDS COMMERCIAL USE" if entry.source.noncommercial else ""
    return f"{entry.source.licence}{forbids}; of the repository, which does not name the weights apart"


def describe_size(entry: Published) -> str:
    return "not published; the server says it" if entry.megabytes is None else f"{entry.megabytes:g} MB, as published"


def describe_offer(entry: Published) -> list[str]:
    """What, from where, under which licence, how large, and where to."""
    asked = addresses(entry)
    where = asked[0].published if asked else entry.addresses[0]
    return [
        f"{entry.name}: {entry.detector}, {entry.backbone}, {describe_figure(entry)}",
        f"  from {where} ({entry.source.title}: {entry.source.page})",
        f"  licence: {describe_licence(entry)}",
        f"  size: {describe_size(entry)}",
        f"  to {model_folder(entry.name)}",
    ]


def describe_by_hand(entry: Published) -> str:
    """What a person can do where the file cannot be fetched, as a sentence."""
    code = f" (code {entry.code})" if entry.code else ""
    style = f" --style {entry.style}" if entry.style else ""
    place = shlex.quote(str(download_file(file_name(entry))))
    return (
        f"by hand: fetch it with a browser from {' or '.join(entry.addresses)}{code}, put it at {place}, and repeat "
        f"the command; or `{program()} import FILE{style} -o DIR`, and give DIR as MODEL"
    )


def describe_unreadable(entry: Published) -> str:
    """Why a checkpoint is no MODEL."""
    if entry.state == "no":
        return f"gfocal does not read {entry.name}: {entry.reason}"
    return f"gfocal cannot read {entry.name} yet: missing is {entry.reason}"


def describe_near(names: list[str]) -> str:
    """What may have been meant."""
    return f"; published weights of nearly that name: {listed(names)} (`{program()} models`)" if names else ""
