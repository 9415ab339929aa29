"""What there is to say first, in plain sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gfocal.report.numbers import NONE, points
from gfocal.run_report.content import Measured
from gfocal.run_report.sections.accuracy import limits
from gfocal.utils.text import counted

_FEW_CLASSES = 2
_ENOUGH = 10  # objects: of fewer AP is chance


@dataclass(frozen=True)
class Tile:
    """A number in large letters."""

    name: str
    value: str
    remark: str
    changes: bool = False


def verdict(measured: Measured) -> list[str]:
    """Two or three sentences."""
    found = measured.diagnosis.intervals
    if not measured.micro.objects:
        boxes = counted(int((measured.findings.scores > measured.score).sum()), "box", "boxes")
        return [f"There is no object to find in these pictures, so nothing can be measured; it finds {boxes} there."]
    at = measured.micro.at(measured.score)
    if at.precision is None:
        return [f"It finds nothing: no box scores higher than {measured.score:.3g}."]
    found_part, right_part = in_ten(at.recall, at.precision)
    lines = [
        f"Above a score of {measured.score:.3g} it finds {_whole(found_part, 'objects')}, and "
        f"{_whole(right_part, 'boxes')} are right."
    ]
    fault = _commonest(measured)
    if fault:
        lines.append(fault)
    known = {
        name: one.ap.value
        for (name, one), curve in zip(found.per_class.items(), measured.each, strict=True)
        if one.ap.value is not None and curve.objects >= _ENOUGH
    }
    if len(known) >= _FEW_CLASSES:
        best, worst = max(known, key=lambda name: known[name]), min(known, key=lambda name: known[name])
        lines.append(
            f"Of the classes with at least {_ENOUGH} objects the best is {best} (AP {points(known[best])}), the worst "
            f"{worst} (AP {points(known[worst])})."
        )
    return lines


def in_ten(*parts: float | None) -> list[str]:
    """In words: 9 of 10 of each, or 93 of 100 of all where tenths would be off; all and none only where it is true."""
    tenths = all(part is None or _near_tenth(part) for part in parts)
    return [_of(part, 10 if tenths else 100) for part in parts]


def _whole(part: str, what: str) -> str:
    return f"{part} {what}" if " " in part else f"{part} of the {what}"


def _near_tenth(part: float) -> bool:
    return part in (0.0, 1.0) or (0.05 < part < 0.95 and abs(10 * part - round(10 * part)) < 0.25)


def _of(part: float | None, whole: int) -> str:
    if part is None or part == 0.0:
        return "none"
    return "all" if part == 1.0 else f"{min(max(round(whole * part), 1), whole - 1)} of {whole}"


def _commonest(measured: Measured) -> str:
    """The fault that there is most of, and the one that costs most AP."""
    errors = measured.diagnosis.errors
    if errors is None:
        return ""
    total = sum(one.above for one in errors.types)
    most = max(errors.types, key=lambda one: one.above)
    if not total:
        return "It makes no fault there."
    words = f"The commonest fault is {_fault(most.kind)} ({most.above:,} of {total:,} faults)"
    costly = errors.types[0]
    if costly.gain < 0.0005:
        return f"{words}."
    also = "it costs" if costly.kind == most.kind else f"{_fault(costly.kind)} costs"
    return f"{words}; {also} most AP: without it AP50 would be {points(costly.gain)} points higher."


def _fault(kind: str) -> str:
    return {
        "localisation": "a badly placed box",
        "class": "a wrong class",
        "both": "a badly placed box of a wrong class",
        "duplicate": "an object found twice",
        "background": "a box where nothing is",
        "missed": "a missed object",
    }[kind]


def tiles(measured: Measured) -> Sequence[Tile]:
    """The numbers that most people ask for."""
    stats, at = measured.diagnosis.intervals.stats, measured.micro.at(measured.score)
    result = measured.evaluation.result
    above = f"at a score above {measured.score:.3g}"
    speed = measured.evaluation.ms_per_image
    return [
        Tile("AP", points(stats["AP"].value), f"95 % interval {limits(stats['AP'])}"),
        Tile("AP50", points(stats["AP50"].value), f"{limits(stats['AP50'])}"),
        Tile("Objects found", _percent(at.recall), f"recall {above}"),
        Tile("Boxes right", _percent(at.precision), f"precision {above}"),
        Tile("A picture takes", f"{speed:.1f} ms", "network and post-processing, in batches", changes=True),
        Tile("Pictures", f"{result.num_images:,}", f"{counted(result.num_objects or 0, 'object')}"),
    ]


def _percent(part: float | None) -> str:
    return NONE if part is None else f"{100 * part:.0f} %"
