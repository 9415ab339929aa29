"""A class without a name is refused in every format, with the file and the class."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gfocal.data.formats.open import open_dataset
from gfocal.errors import BrokenInputError, UsageError
from helpers.layouts import CONTENT, boxes_of, lay_out


def _coco(root: Path, change: Callable[[dict[str, object]], object]) -> Path:
    file = lay_out(root, "one_json") / "export 3.json"
    content = json.loads(file.read_text())
    change(content["categories"][1])
    file.write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: one.update(name=""), r"export 3\.json: category 2 has an empty name; give each class a name"),
        (lambda one: one.update(name=" \t "), "category 2 has an empty name"),
        (lambda one: one.pop("name"), r"export 3\.json: category 2: lacks the key 'name'"),
        (lambda one: one.update(name=None), "category 2: expected 'str', got 'null'"),
    ],
)
def test_coco(tmp_path: Path, change: Callable[[dict[str, object]], object], message: str, skip: bool) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        open_dataset(_coco(tmp_path, change), "train", skip_broken=skip)
    assert "--skip-broken" not in str(caught.value), "which would not help"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("classes.txt", "\ndog\n", "class 0 has an empty name"),
        ("classes.txt", "cat\n  \ndog\n", "class 1 has an empty name"),
        ("data.yaml", "train: images\nnames: [cat, '']\n", r"data\.yaml.*: class 1 has an empty name"),
        ("data.yaml", "train: images\nnames: [' ', dog]\n", r"data\.yaml.*: class 0 has an empty name"),
        ("data.yaml", "train: images\nnames: {0: cat, 7: }\n", r"data\.yaml.*: class 7 has an empty name"),
    ],
)
def test_yolo(tmp_path: Path, file: str, text: str, message: str) -> None:
    root = lay_out(tmp_path, "label_studio_yolo")
    (root / "classes.txt").unlink()
    (root / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / "labels" / "b c.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (root / file).write_text(text)
    with pytest.raises(UsageError, match=message):
        open_dataset(root, "train")


@pytest.mark.parametrize("name", ["<name/>", "<name></name>", "<name> \n </name>", "<Name/>", ""])
def test_voc(tmp_path: Path, name: str) -> None:
    root = lay_out(tmp_path, "label_studio_voc")
    file = root / "Annotations" / "a.xml"
    file.write_text(file.read_text().replace("<name>cat</name>", name))
    with pytest.raises(BrokenInputError, match=r"a\.xml: object 1: has no name"):
        open_dataset(root, "train")
    wanted = {image: [box for box in boxes if box[0] != "cat"] for image, (_, boxes) in CONTENT.items()}
    index = open_dataset(root, "train", skip_broken=True)
    assert (boxes_of(index), index.names) == (wanted, ("dog",))
