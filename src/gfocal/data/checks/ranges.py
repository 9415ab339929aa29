"""Whether images of more than 8 bits need another range than that of their type, and which one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gfocal.data.checks.images import ImageFacts
from gfocal.data.index.data_index import DataIndex
from gfocal.data.kinds import Finding, Kind
from gfocal.images.depth import Values, suggested_range

_LEAST_SHARE = 0.5  # of its type's range that a data set uses, or it is worth a range of its own


def range_findings(splits: Mapping[str, DataIndex], facts: Mapping[str, Sequence[ImageFacts]]) -> list[Finding]:
    """One finding about all splits, whose images are read by one range; none where that of the type does.

    Args:
        splits: by name.
        facts: of the images of each.
    """
    wide = {split: [own.values for own in facts[split] if own.values is not None] for split in splits}
    values = [one for own in wide.values() for one in own]
    needed = [one for one in values if one.needs_range]
    if not values or not (needed or _little_used(values)):
        return []
    low, high = suggested_range(values)
    ends = f"{min(one.low for one in values):.6g} to {max(one.high for one in values):.6g}"
    many = f"{len(needed) or len(values):,} of {sum(map(len, facts.values())):,} pictures have more than 8 bits"
    fault = (
        "and numbers of no known range: training and prediction refuse them"
        if needed
        else "and use a part of their range: few of the 256 grey levels are left"
    )
    split = next(split for split, own in wide.items() if own)
    message = f"{many} {fault}; all use {ends}: train with --set data.range=[{low:.6g},{high:.6g}]"
    return [Finding(Kind.IMAGE_RANGE, split, splits[split].images_dir, message)]


def _little_used(values: Sequence[Values]) -> bool:
    low, high = min(one.low for one in values), max(one.high for one in values)
    whole = 1 if all(one.type == "float32" for one in values) else (1 << 16) - 1
    return high - low < _LEAST_SHARE * whole
