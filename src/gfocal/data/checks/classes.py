"""Classes: ids and names that disagree between splits, and classes with too few boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gfocal.data.checks.boxes import images_of_boxes, learnt_boxes
from gfocal.data.index.data_index import DataIndex
from gfocal.data.kinds import FEW_BOXES, LONG_TAIL, Finding, Kind
from gfocal.utils.records import named
from gfocal.utils.text import distinguish, fold_name

_PLACEHOLDERS = {
    *(
        "",
        "n/a",
        "na",
        "nan",
        "none",
        "null",
        "nil",
        "nothing",
        "empty",
        "background",
        "bg",
        "backgroundclass",
        "dummy",
    ),
    *("placeholder", "unused", "unlabeled", "unlabelled", "unknown", "void", "ignore", "ignored", "reserved"),
}
"""Names, folded, of classes that are no objects."""


@dataclass(frozen=True)
class ClassCount:
    """How often a class is in a split; crowds, ignored boxes and those without area do not count.

    Attributes:
        name: of the class.
        id: the data set's own.
        images: that show it.
        boxes: of it.
    """

    name: str = field(metadata=named("class"))
    id: int
    images: int = field(metadata=named("pictures"))
    boxes: int


def count_classes(index: DataIndex) -> tuple[ClassCount, ...]:
    """Boxes and images of each class, in the order of the labels; two classes of one name stay two."""
    learnt = learnt_boxes(index)
    classes = len(index.names)
    labels = np.asarray(index.labels)[learnt]
    shown = np.unique(images_of_boxes(index)[learnt] * max(classes, 1) + labels) % max(classes, 1)
    counts = (np.bincount(each, minlength=classes).tolist() for each in (shown, labels))
    rows = zip(index.names, index.category_ids.tolist(), *counts, strict=True)
    return tuple(ClassCount(*row) for row in rows)


def by_class(splits: Mapping[str, Sequence[ClassCount]]) -> list[tuple[str, dict[str, ClassCount]]]:
    """Each class with its counts by split, the commonest of the first split first; classes go together by name."""
    rows: dict[tuple[str, int], dict[str, ClassCount]] = {}
    for split, counts in splits.items():
        for key, count in zip(distinguish([count.name for count in counts]), counts, strict=True):
            rows.setdefault(key, {})[split] = count

    def order(row: tuple[tuple[str, int], dict[str, ClassCount]]) -> list[int]:
        return [-(row[1][split].boxes if split in row[1] else -1) for split in splits]

    return [(name, counts) for (name, _), counts in sorted(rows.items(), key=order)]


def boxes_of_classes(index: DataIndex) -> Counter[str]:
    """Learnt boxes of each class name, 0 for those without."""
    total: Counter[str] = Counter()
    for each in count_classes(index):
        total[each.name] += each.boxes
    return total


def class_findings(splits: Mapping[str, DataIndex]) -> list[Finding]:
    """What is to say of the classes of all splits, the train split first.

    Args:
        splits: by name; what trains is called "train".
    """
    found = [finding for split, index in splits.items() for finding in _within(split, index)]
    train = splits.get("train")
    for split, index in splits.items():
        if train is not None and split != "train":
            found += _between(split, index, train)
    found += _alike(splits)
    if train is not None:
        found += _amounts(splits, train)
    return found


def _within(split: str, index: DataIndex) -> list[Finding]:
    return [
        Finding(
            Kind.CLASS_NAME_TWICE, split, index.annotations, f"{count} classes are called {name!r}", class_name=name
        )
        for name, count in Counter(index.names).items()
        if count > 1
    ]


def _between(split: str, index: DataIndex, train: DataIndex) -> list[Finding]:
    """Names and ids of a split beside those of train."""
    found = []
    boxes, trained = boxes_of_classes(index), boxes_of_classes(train)
    own, other = (dict(zip(each.category_ids.tolist(), each.names, strict=True)) for each in (index, train))
    ids_of: dict[str, set[int]] = {}
    for number, name in other.items():
        ids_of.setdefault(name, set()).add(number)
    for number, name in own.items():
        if number in other and other[number] != name:
            message = f"id {number} is {name!r}, in train {other[number]!r}"
            found.append(Finding(Kind.CLASS_NAME_DIFFERS, split, index.annotations, message, class_name=name))
        if name in ids_of and number not in ids_of[name]:
            message = f"class {name!r} has id {number}, in train {min(ids_of[name])}"
            found.append(Finding(Kind.CLASS_ID_DIFFERS, split, index.annotations, message, class_name=name))
        if name not in ids_of:
            kind = Kind.CLASS_NOT_IN_TRAIN if boxes[name] else Kind.CLASS_NOT_NAMED
            message = f"class {name!r} ({boxes[name]} boxes) is not among the classes of train"
            found.append(Finding(kind, split, index.annotations, message, class_name=name))
    for name in ids_of:
        if name not in boxes and not trained[name]:
            message = f"class {name!r} (no boxes) is not among the classes of {split}"
            found.append(Finding(Kind.CLASS_NOT_NAMED, "train", train.annotations, message, class_name=name))
    return found


def _alike(splits: Mapping[str, DataIndex]) -> list[Finding]:
    """Names that are one but for capitals and blanks, within a split or between two."""
    first: dict[str, tuple[str, str]] = {}
    seen: set[str] = set()
    found = []
    for split, index in splits.items():
        for name in index.names:
            before, where = first.setdefault(fold_name(name), (name, split))
            if before != name and name not in seen:
                message = f"class {name!r} is {before!r} in {where}" + (" too" if where == split else "")
                found.append(Finding(Kind.CLASS_NAME_ALIKE, split, index.annotations, message, class_name=name))
            seen.add(name)
    return found


def _placeholder(name: str, index: DataIndex) -> str:
    """What a class without boxes may be, and what to do about it."""
    number = int(index.category_ids[index.names.index(name)])
    if fold_name(name, also="_-<>[]().?") in _PLACEHOLDERS:
        what = "a placeholder by its name, "
    elif number == 0 and len(index.names) > 1:
        what = "number 0, as Roboflow writes the group of all classes, "
    else:
        return ""
    return f": {what}which training leaves out with --set data.drop_empty_classes=true"


def _amounts(splits: Mapping[str, DataIndex], train: DataIndex) -> list[Finding]:
    """Classes with few boxes or none."""
    counts = {split: boxes_of_classes(index) for split, index in splits.items()}
    found = []
    elsewhere: Counter[str] = Counter()
    for split, own in counts.items():
        if split != "train":
            elsewhere += own
    for name, count in counts["train"].items():
        if 0 < count < FEW_BOXES:
            message = f"class {name!r} has {count} box{'' if count == 1 else 'es'} to learn from"
            found.append(Finding(Kind.CLASS_FEW, "train", train.annotations, message, class_name=name))
        elif not count and not elsewhere[name]:
            message = f"class {name!r} has no boxes{_placeholder(name, train)}"
            found.append(Finding(Kind.CLASS_EMPTY, "train", train.annotations, message, class_name=name))
        elif not count:
            message = f"class {name!r} has {elsewhere[name]} boxes to find and none to learn from"
            found.append(Finding(Kind.CLASS_UNTRAINED, "train", train.annotations, message, class_name=name))
    present = {name: count for name, count in counts["train"].items() if count}
    if present and max(present.values()) >= LONG_TAIL * min(present.values()):
        most, least = max(present, key=present.__getitem__), min(present, key=present.__getitem__)
        message = f"{most!r} has {present[most]} boxes, {least!r} {present[least]}"
        found.append(Finding(Kind.LONG_TAIL, "train", train.annotations, message))
    return found
