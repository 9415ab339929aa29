"""Whether a detector learnt from the images that it is to be calibrated on, or whose labels it is to doubt."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from gfocal.data.fingerprint import fingerprint, images_fingerprint
from gfocal.data.formats.open import open_dataset
from gfocal.data.index.data_index import DataIndex
from gfocal.data.split import divide
from gfocal.errors import GfocalError, UsageError
from gfocal.runs import card
from gfocal.runs.checkpoint import find_weights, read_about
from gfocal.runs.datasets import recorded
from gfocal.runs.replacement import LAST
from gfocal.utils.text import counted

_MOST = 10  # weights that weights began with, and so on
HOW = (
    "Give pictures that it did not learn from: another split (--split val, --split test), other data, or a run that "
    "sets some apart (`gfocal train ... --val 0.2`; `gfocal calibrate` takes these by itself)"
)


def check_unseen(file: Path, index: DataIndex) -> list[str]:
    """Refuse images that the weights, or those that they began with, learnt from, as far as that is recorded.

    Args:
        file: the weights.
        index: the images, as they were opened.

    Returns:
        Lines about what is not known.

    Raises:
        UsageError: they did; the message says how to get others.
    """
    learnt, lines = learnt_from(file, index)
    if learnt is not None:
        raise UsageError(f"{learnt}: its errors on them are too small. {HOW}")
    if lines is None:
        return [
            f"note: {file} does not say what it learnt from: intervals hold only if these pictures were not among it"
        ]
    return lines


def learnt_from(file: Path, index: DataIndex) -> tuple[str | None, list[str] | None]:
    """What the weights, or those that they began with, say of images.

    Returns:
        (what learnt from them, in words, or None), and lines about what was chosen by them; None instead of lines
        where nothing is recorded.
    """
    data, images = fingerprint(index), images_fingerprint(index)
    known = False
    lines: list[str] = []
    for each in _lineage(file):
        notes = read_about(each).notes
        own = _card(each)
        learnt = {str(value) for key in ("data", "pictures") for value in (notes.get(key), own.get(key)) if value}
        known |= bool(learnt)
        if learnt & {data, images}:
            return f"{each} learnt from these very pictures", lines
        if shared := _shared_files(each, index):
            return f"{each} learnt from {counted(shared, 'picture')} of these {len(index):,}", lines
        val = own.get("val")
        if each.name != LAST and isinstance(val, dict) and val.get("pictures") == images:
            lines.append(
                "note: the best weights of the run were chosen on these pictures, so that errors on them are a little "
                "too small; pictures that nothing was chosen on (--split test) are better"
            )
    return None, lines if known else None


def _card(weights: Path) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], card.read(weights.parent) or {})


def _lineage(file: Path) -> Iterator[Path]:
    """The weights, those that they began with, and so on, as far as they are still there."""
    for _ in range(_MOST):
        yield file
        start = _card(file).get("init")
        source = start.get("source") if isinstance(start, dict) else None
        if not isinstance(source, str):
            return
        with suppress(GfocalError, OSError):
            before = find_weights(Path(source))
            read_about(before)
            if not before.samefile(file):
                file = before
                continue
        return


def _shared_files(weights: Path, index: DataIndex) -> int:
    """How many of the images are files of the training data, where these are still there."""
    held_out, files = recorded(weights), _files(index)
    shared: set[str] = set()
    for place in _training_data(_card(weights)):
        with suppress(GfocalError, OSError):
            learnt = open_dataset(place, "train")
            of = fingerprint(learnt)
            apart = None if held_out is None else next((part for part in held_out.parts if part.of == of), None)
            shared |= files & _files(learnt if apart is None else divide(learnt, apart.chosen(learnt))[0])
    return len(shared)


def _training_data(own: Mapping[str, Any]) -> list[Path]:
    """What the card names: the annotations, of several data sets the first ones', and what was typed as ``--data``."""
    command = own.get("command")
    words = [str(word) for word in command] if isinstance(command, list) else []
    typed = [value for word, value in pairwise(words) if word == "--data"]
    typed += [word.removeprefix("--data=") for word in words if word.startswith("--data=")]
    places = [str(own.get("annotations") or ""), *typed]
    return [Path(place) for place in dict.fromkeys(places) if place and Path(place).exists()]


def _files(index: DataIndex) -> set[str]:
    return {os.path.realpath(index.path(i)) for i in range(len(index))}
