"""Classes under other names, some classes only, classes compared by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from gfocal.data.index.class_match import compare_classes, describe_comparison
from gfocal.data.index.data_index import DataIndex
from gfocal.data.index.rename import empty_classes, keep_classes, parse_renames, rename_classes, without_labels
from gfocal.errors import UsageError


def made(names: Sequence[str], labels: Sequence[Sequence[int]]) -> DataIndex:
    """Images with boxes of these labels; box n is n pixels from the left."""
    flat = [label for own in labels for label in own]
    return DataIndex.build(
        images_dir=Path("nowhere"),
        annotations=Path("nowhere.json"),
        image_ids=range(1, len(labels) + 1),
        file_names=[f"{i}.jpg" for i in range(len(labels))],
        widths=[640] * len(labels),
        heights=[480] * len(labels),
        box_start=np.cumsum([0, *map(len, labels)]),
        boxes=np.array([[n, 0, n + 10, 10] for n in range(len(flat))], float).reshape(-1, 4),
        labels=flat,
        names=names,
        category_ids=[10 * (n + 1) for n in range(len(names))],
    )


def classes_of(index: DataIndex) -> list[list[tuple[str, float]]]:
    """Of each image (class, left edge) of each box."""
    labels, left = np.asarray(index.labels), np.asarray(index.boxes)[:, 0]
    rows = [range(*index.box_start[i : i + 2].tolist()) for i in range(len(index))]
    return [[(index.names[labels[n]], float(left[n])) for n in own] for own in rows]


INDEX = made(["car", "bus", "man"], [[0, 1], [], [2, 2, 0]])


@pytest.mark.parametrize(
    ("words", "names", "boxes"),
    [
        ([], ("car", "bus", "man"), "car bus man man car"),
        (["man=person"], ("car", "bus", "person"), "car bus person person car"),
        (["car=bus", "bus=car"], ("bus", "car", "man"), "bus car man man bus"),  # a swap
        (["car=bus", "bus=man", "man=car"], ("bus", "man", "car"), "bus man car car bus"),
        (["car=vehicle", "bus=vehicle"], ("vehicle", "man"), "vehicle vehicle man man vehicle"),  # become one
        (["man=car"], ("car", "bus"), "car bus car car car"),
        (["car=car"], ("car", "bus", "man"), "car bus man man car"),
    ],
)
def test_all_at_once(words: list[str], names: tuple[str, ...], boxes: str) -> None:
    index = rename_classes(INDEX, parse_renames(words, INDEX.names))
    assert index.names == names
    assert [name for own in classes_of(index) for name, _ in own] == boxes.split()
    assert len(set(index.category_ids.tolist())) == len(names)
    assert [[left for _, left in own] for own in classes_of(index)] == [[0, 1], [], [2, 3, 4]]


def test_two_classes_of_one_name_stay_two_unless_they_are_renamed() -> None:
    index = made(["N/A", "car", "N/A"], [[0, 1, 2]])
    assert rename_classes(index, {"car": "auto"}).names == ("N/A", "auto", "N/A")
    assert rename_classes(index, {"N/A": "thing"}).names == ("thing", "car")


def test_names_with_a_sign_of_equality_and_blanks() -> None:
    assert parse_renames(["a=b=c"], ["a=b", "x"]) == {"a=b": "c"}
    assert parse_renames(["a=b=c"], ["a", "x"]) == {"a": "b=c"}
    assert parse_renames(["traffic light=light"], ["traffic light"]) == {"traffic light": "light"}
    assert parse_renames(["a=b", "a=b"], ["a"]) == {"a": "b"}
    assert parse_renames(["=thing"], ["", "a"]) == {"": "thing"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["car"], "--rename car: give OLD=NEW"),
        (["car="], "--rename car=: give OLD=NEW"),
        (["cra=x"], "the data have no class 'cra' (did you mean car?); they have car, bus, man"),
        (["person=man"], "no class 'person' (did you mean --rename man=person?)"),
        (["xyz=q"], "no class 'xyz'; they have car, bus, man"),
        (["Car=q"], "no class 'Car' (did you mean car?)"),
        (["car=a", "car=b"], "--rename gives class 'car' two names, 'a' and 'b'"),
    ],
)
def test_what_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        parse_renames(words, INDEX.names)


def test_some_classes_only() -> None:
    index = keep_classes(INDEX, ["man", "tree", "car"])
    assert index.names == ("man", "tree", "car")
    assert classes_of(index) == [[("car", 0)], [], [("man", 2), ("man", 3), ("car", 4)]]
    assert len(keep_classes(INDEX, ["tree"]).boxes) == 0
    assert len(keep_classes(INDEX, ["tree"])) == 3  # images stay: they are background for the others


def test_classes_without_boxes_go_and_the_others_keep_their_order() -> None:
    train = made(["cells", "N/A", "RBC", "N/A", "WBC", "tail"], [[2, 4, 2]])
    val = made(["cells", "N/A", "RBC", "N/A", "WBC", "tail"], [[3]])
    assert empty_classes(train) == [0, 1, 3, 5]
    assert empty_classes(train, val, None) == [0, 1, 5]  # the second N/A has a box to find
    index = without_labels(train, empty_classes(train, val))
    assert index.names == ("RBC", "N/A", "WBC")
    assert index.category_ids.tolist() == [30, 40, 50]
    assert classes_of(index) == [[("RBC", 0), ("WBC", 1), ("RBC", 2)]]
    assert classes_of(without_labels(val, empty_classes(train, val))) == [[("N/A", 0)]]
    assert without_labels(index, []) is index


def test_compared_by_name_not_by_index() -> None:
    found = compare_classes(["bus", "lorry", "car", "none"], np.array([1, 1, 2]), ["car", "Lorry", "bus", "tree"])
    assert found.common == ("car", "bus")
    assert found.only_data == {"lorry": 2, "none": 0}
    assert found.unknown == {"lorry": 2}
    assert found.only_detector == ("Lorry", "tree")
    assert found.renames() == ["lorry=Lorry"]
    assert describe_comparison(found, left_out=True) == [
        "of the detector's 4 classes the data lack 2, which have no AP: Lorry, tree",
        "the detector does not know 2 classes of the data, their boxes are left out: lorry (2 boxes), none (0 boxes)",
        "if two names mean one class: --rename lorry=Lorry",
    ]
    same = compare_classes(["a", "b"], np.array([0]), ["b", "a"])
    assert (same.common, same.only_data, same.only_detector) == (("b", "a"), {}, ())
    assert describe_comparison(same, left_out=False) == []
    twice = compare_classes(["a", "a"], np.array([1]), ["a"])
    assert (twice.common, twice.unknown) == (("a",), {"a": 1})
