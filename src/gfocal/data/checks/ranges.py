"""Whether images of more than 8 bits need another range than that of their type, and which one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from gfocal.data.checks.images import ImageFacts
from gfocal.data.index.data_index import DataIndex
from gfocal.data.kinds import Finding, Kind
from gfocal.images.decode import ForeignError, TooLargeError, UndecodableError, says_wide, wide_values
from gfocal.images.depth import Values, suggested_range
from gfocal.utils.text import counted

_LEAST_SHARE = 0.5  # of its type's range that a data set uses, or it is worth a range of its own


def range_findings(splits: Mapping[str, DataIndex], facts: Mapping[str, Sequence[ImageFacts]]) -> list[Finding]:
    """One finding about all splits, whose images are read by one range; none where that of the type does.

    Args:
        splits: by name.
        facts: of the images of each.
    """
    wide = {split: [own.values for own in facts[split] if own.values is not None] for split in splits}
    values = [one for own in wide.values() for one in own]
    message = describe_range(values, counted(sum(map(len, facts.values())), "picture"))
    if message is None:
        return []
    split = next(split for split, own in wide.items() if own)
    return [Finding(Kind.IMAGE_RANGE, split, splits[split].images_dir, message)]


def describe_range(values: Sequence[Values], of: str) -> str | None:
    """What is wrong with reading images by the range of their type, and which one to set; None where that does.

    Args:
        values: of the images with more than 8 bits a channel, of ``of``, such as "12 pictures".
    """
    needed = [one for one in values if one.needs_range]
    if not values or not (needed or _little_used(values)):
        return None
    low, high = suggested_range(list(values))
    ends = f"{min(one.low for one in values):.6g} to {max(one.high for one in values):.6g}"
    many = f"{len(needed) or len(values):,} of {of} have more than 8 bits"
    fault = (
        "and numbers of no known range: training and prediction refuse them"
        if needed
        else "and use a part of their range: few of the 256 grey levels are left"
    )
    return f"{many} {fault}; all use {ends}: train with --set data.range=[{low:.6g},{high:.6g}]"


def look_at_values(paths: Iterable[Path]) -> list[Values]:
    """What is in the pixels of some image files: of those whose headers tell of more than 8 bits a channel.

    The others cost no more than their headers. Files that cannot be read are left to whoever needs them.
    """
    found = []
    for path in paths:
        with suppress(OSError, TooLargeError, ForeignError, UndecodableError):
            if says_wide(path) and (values := wide_values(path.read_bytes())) is not None:
                found.append(values)
    return found


def _little_used(values: Sequence[Values]) -> bool:
    low, high = min(one.low for one in values), max(one.high for one in values)
    whole = 1 if all(one.type == "float32" for one in values) else (1 << 16) - 1
    return high - low < _LEAST_SHARE * whole
