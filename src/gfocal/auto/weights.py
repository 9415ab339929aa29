"""Trained weights: which are here, and which could be had from where."""

from __future__ import annotations

from pathlib import Path

from gfocal.catalogue.addresses import addresses, file_name
from gfocal.catalogue.describe import describe_licence, describe_size, describe_unreadable
from gfocal.catalogue.entries import Published, find
from gfocal.catalogue.home import download_file, model_folder, read_record
from gfocal.catalogue.resolve import model_path, planned_path
from gfocal.catalogue.settings import is_offline
from gfocal.catalogue.web import CutOff, host_of
from gfocal.errors import UsageError
from gfocal.hub.names import is_hub_name
from gfocal.runs.checkpoint import BEST
from gfocal.utils.text import Say, listed, program


def is_here(name: str) -> bool:
    """Whether published weights were fetched before."""
    return read_record(name) is not None and (model_folder(name) / BEST).is_file()


def hosts_of(entry: Published) -> frozenset[str]:
    """Who is asked for a file."""
    return frozenset(host_of(address.url) for address in addresses(entry))


def is_silent(error: BaseException | None) -> bool:
    """Whether a host was asked again and again without an answer, as behind a firewall: that takes minutes."""
    while error is not None:
        if isinstance(error, CutOff):
            return True
        error = error.__cause__
    return False


def weights_here(model: str | Path, *, say: Say) -> Path | None:
    """What :func:`gfocal.catalogue.resolve.model_path` gives, where it fetches nothing; else None and a line.

    Args:
        model: see there.
        say: gets a line about what would be fetched.

    Raises:
        UsageError: there is no such thing, or it has no weights, or it could not be fetched either.
    """
    text = str(model)
    if is_hub_name(text):
        path = planned_path(text)
        if path.exists():
            return path
        _check_allowed(text)
        say(f"would fetch {text}")
        return None
    entry = find(text)
    if entry is None or Path(model).exists() or is_here(entry.name):
        return model_path(model, say=say)
    say(describe_planned(entry))
    return None


def describe_planned(entry: Published) -> str:
    """What a training would fetch, as a line.

    Raises:
        UsageError: it could not be fetched.
    """
    if not entry.is_readable:
        raise UsageError(f"{describe_unreadable(entry)}; `{program()} models {entry.name}` shows what is known of it")
    if (file := download_file(file_name(entry))).is_file():
        return f"would take {entry.name} from {file}"
    _check_allowed(entry.name)
    if not (hosts := hosts_of(entry)):
        raise UsageError(f"{entry.name} is behind a page that asks for a person: `{program()} models {entry.name}`")
    size, licence = describe_size(entry), describe_licence(entry)
    return f"would fetch {entry.name} from {listed(sorted(hosts))}: {size}; licence: {licence}"


def _check_allowed(name: str) -> None:
    if (variable := is_offline()) is not None:
        raise UsageError(f"{name} is not here, and {variable} forbids connections")
