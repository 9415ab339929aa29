"""Small data sets as labelling tools export them: files are listed as the tools write them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gfocal.data.index.data_index import DataIndex

CLASSES = ("cat", "dog")
Box = tuple[str, tuple[float, float, float, float]]
# Name, size, boxes. Each has its own colour; the last is background.
CONTENT: dict[str, tuple[tuple[int, int], list[Box]]] = {
    "a.jpg": ((40, 30), [("cat", (4, 6, 20, 18)), ("dog", (10, 3, 40, 30))]),
    "b c.jpg": ((20, 10), [("dog", (0, 0, 15, 10))]),
    "ü.png": ((24, 16), []),
}


def image(file: Path, size: tuple[int, int], colour: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, 90, 160)).save(file)


def images(folder: Path, names: Mapping[str, str] | None = None, colour: int = 0) -> None:
    """The images of CONTENT, under other names where ``names`` says so."""
    for i, (name, (size, _)) in enumerate(CONTENT.items()):
        image(folder / (names or {}).get(name, name), size, colour + 40 * i)


def yolo_text(name: str) -> str:
    (width, height), boxes = CONTENT[name]
    lines = []
    for label, (left, top, right, bottom) in boxes:
        shares = ((left + right) / 2 / width, (top + bottom) / 2 / height)
        sides = ((right - left) / width, (bottom - top) / height)
        lines.append(" ".join([str(CLASSES.index(label)), *(f"{value:.6f}" for value in (*shares, *sides))]))
    return "".join(line + "\n" for line in lines)


def yolo_labels(folder: Path, *, empty: bool = True) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in CONTENT:
        if (text := yolo_text(name)) or empty:
            (folder / f"{Path(name).stem}.txt").write_text(text)


def voc_xml(name: str, *, database: str = "Unknown", shift: int = 0, extra: str = "") -> str:
    (width, height), boxes = CONTENT[name]
    objects = "".join(
        f"<object><name>{label}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>"
        f"<bndbox><xmin>{box[0] + shift}</xmin><ymin>{box[1] + shift}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax>"
        "</bndbox></object>"
        for label, box in boxes
    )
    return (
        f"<annotation><folder>x</folder><filename>{name}</filename><source><database>{database}</database></source>"
        f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>{objects}{extra}</annotation>"
    )


def voc_labels(folder: Path, *, background: bool = True, **options: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (_, boxes) in CONTENT.items():
        if boxes or background:
            (folder / f"{Path(name).stem}.xml").write_text(voc_xml(name, **options), encoding="utf-8")


def coco(file: Path, prefix: str = "") -> None:
    images, annotations = [], []
    for i, (name, ((width, height), boxes)) in enumerate(CONTENT.items()):
        images.append({"id": i, "file_name": prefix + name, "width": width, "height": height})
        for label, (left, top, right, bottom) in boxes:
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": i,
                    "category_id": CLASSES.index(label) + 1,
                    "bbox": [left, top, right - left, bottom - top],
                }
            )
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)]
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    file.write_text(json.dumps(content))


def boxes_of(index: DataIndex) -> dict[str, list[Box]]:
    """The boxes of each image by the name of its file, to 1e-3 pixels."""
    found = {}
    for i in range(len(index)):
        own = slice(int(index.box_start[i]), int(index.box_start[i + 1]))
        names = [index.names[label] for label in np.asarray(index.labels[own]).tolist()]
        rounded = np.round(np.asarray(index.boxes[own], float), 3).tolist()
        found[index.path(i).name] = [(name, tuple(box)) for name, box in zip(names, rounded, strict=True)]
    return found


def zipped(folder: Path, archive: Path, inside: str = "") -> Path:
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, Path(inside) / path.relative_to(folder))
    return archive


# What each tool writes. The value: which splits there are.


def _plain_coco(root: Path) -> None:
    for split in ("train", "val"):
        coco(root / "annotations" / f"{split}.json")
    images(root / "images")


def _cvat_coco(root: Path) -> None:
    coco(root / "annotations" / "instances_default.json")
    images(root / "images" / "default")


def _cvat_coco_subsets(root: Path) -> None:
    for name in ("Train", "Validation"):
        coco(root / "annotations" / f"instances_{name}.json")
        images(root / "images" / name)


def _cvat_coco_other_name(root: Path) -> None:
    coco(root / "annotations" / "instances_Street_7.json")
    images(root / "images" / "Street_7")


def _label_studio_coco(root: Path) -> None:
    coco(root / "result.json", prefix="images/")
    images(root / "images")


def _label_studio_coco_windows(root: Path) -> None:
    coco(root / "result.json", prefix="images\\")
    images(root / "images")


def _roboflow_coco(root: Path) -> None:
    for split in ("train", "valid", "test"):
        coco(root / split / "_annotations.coco.json")
        images(root / split)
    (root / "README.roboflow.txt").write_text("exported")


def _coco_own(root: Path) -> None:
    for split in ("train", "val"):
        coco(root / "annotations" / f"instances_{split}2014.json")
        (root / "annotations" / f"captions_{split}2014.json").write_text("{}")
        images(root / f"{split}2014")


def _one_json(root: Path) -> None:
    coco(root / "export 3.json")
    images(root / "images")


def _ultralytics(root: Path) -> None:
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(CLASSES))
    yaml = f"path: ../datasets/toys # elsewhere\ntrain: images/train\nval: images/val\ntest:\n\nnames:\n{names}"
    (root / "toys.yaml").write_text(yaml)
    for split in ("train", "val"):
        images(root / "images" / split)
        yolo_labels(root / "labels" / split, empty=False)


def _ultralytics_lists(root: Path) -> None:
    (root / "data.yaml").write_text("train: [images/train, more.txt]\nval: val.txt\nnc: 2\nnames: ['cat', 'dog']\n")
    images(root / "images" / "all")
    yolo_labels(root / "labels" / "all")
    for name in ("a.jpg", "ü.png"):
        image(root / "images" / "train" / name, CONTENT[name][0])
        stem = Path(name).stem
        (root / "labels" / "train").mkdir(parents=True, exist_ok=True)
        (root / "labels" / "train" / f"{stem}.txt").write_text(yolo_text(name))
    (root / "more.txt").write_text("./images/all/b c.jpg\n")
    (root / "val.txt").write_text("".join(f"images\\all\\{name}\n" for name in CONTENT), encoding="utf-8")


def _roboflow_yolo(root: Path) -> None:
    (root / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 2\nnames: ['cat', 'dog']\n\n"
        "roboflow:\n  workspace: x\n  url: https://example.org\n"
    )
    for split in ("train", "valid", "test"):
        images(root / split / "images")
        yolo_labels(root / split / "labels")
    (root / "README.dataset.txt").write_text("exported")


def _colab_yolo(root: Path) -> None:
    (root / "data.yaml").write_text(
        "path: /content/toys\ntrain: /content/toys/train/images\nval: D:\\work\\toys\\valid\\images\n"
        "names: [cat, dog]\n"
    )
    for split in ("train", "valid"):
        images(root / split / "images")
        yolo_labels(root / split / "labels")


def _label_studio_yolo(root: Path) -> None:
    (root / "classes.txt").write_text("cat\ndog\n")
    (root / "notes.json").write_text(json.dumps({"categories": [{"id": 0, "name": "cat"}], "info": {}}))
    images(root / "images")
    yolo_labels(root / "labels")


def _cvat_yolo(root: Path) -> None:
    (root / "obj.names").write_text("cat\ndog\n")
    (root / "obj.data").write_text("classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    (root / "train.txt").write_text("".join(f"data/obj_train_data/{name}\n" for name in CONTENT), encoding="utf-8")
    images(root / "obj_train_data")
    yolo_labels(root / "obj_train_data")


def _cvat_yolo_subsets(root: Path) -> None:
    (root / "obj.names").write_text("cat\ndog\n")
    for list_name, folder in (("train", "obj_train_data"), ("valid", "obj_valid_data")):
        names = "".join(f"data/{folder}/{name}\n" for name in CONTENT)
        (root / f"{list_name}.txt").write_text(names, encoding="utf-8")
        images(root / folder)
        yolo_labels(root / folder)


def _cvat_ultralytics(root: Path) -> None:
    (root / "data.yaml").write_text("names:\n  0: cat\n  1: dog\npath: .\ntrain: train.txt\nval: val.txt\n")
    for split in ("train", "val"):
        names = "".join(f"data/images/{split}/{name}\n" for name in CONTENT)
        (root / f"{split}.txt").write_text(names, encoding="utf-8")
        images(root / "images" / split)
        yolo_labels(root / "labels" / split)


def _cvat_yolo_other_names(root: Path) -> None:
    (root / "obj.names").write_text("cat\ndog\n")
    images(root / "obj_Street_data")
    yolo_labels(root / "obj_Street_data")
    names = "".join(f"data/obj_Street_data/{name}\n" for name in CONTENT)
    (root / "Street.txt").write_text(names, encoding="utf-8")


def _label_img_yolo(root: Path) -> None:
    (root / "classes.txt").write_text("cat\ndog\n\n")
    images(root)
    yolo_labels(root, empty=False)


def _voc(root: Path) -> None:
    images(root / "JPEGImages")
    voc_labels(root / "Annotations")
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    stems = [Path(name).stem for name in CONTENT]
    for name in ("train", "val", "trainval"):
        (lists / f"{name}.txt").write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")
    (lists / "cat_train.txt").write_text("a  1\nb c -1\n")


def _voc_from_one(root: Path) -> None:
    _voc(root)
    voc_labels(root / "Annotations", database="The VOC2012 Database", shift=1)


def _cvat_voc(root: Path) -> None:
    images(root / "JPEGImages")
    voc_labels(root / "Annotations", background=False)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    stems = "".join(f"{Path(name).stem}\n" for name in CONTENT)
    (root / "ImageSets" / "Main" / "default.txt").write_text(stems, encoding="utf-8")
    (root / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:1,2,3::\n")


def _roboflow_voc(root: Path) -> None:
    for split in ("train", "valid"):
        images(root / split)
        voc_labels(root / split, database="roboflow.com")


def _label_studio_voc(root: Path) -> None:
    images(root / "images")
    voc_labels(root / "Annotations", background=False)


def _label_img_voc(root: Path) -> None:
    images(root)
    voc_labels(root)


def _folders_of_voc(root: Path) -> None:
    for split in ("train", "val"):
        images(root / "images" / split)
        voc_labels(root / "annotations" / split)


Maker = Callable[[Path], None]
LAYOUTS: dict[str, tuple[str, Maker, tuple[str, ...]]] = {
    maker.__name__.strip("_"): (fmt, maker, tuple(splits.split()))
    for fmt, maker, splits in [
        ("coco", _plain_coco, "train val"),
        ("coco", _cvat_coco, "all"),
        ("coco", _cvat_coco_subsets, "train val"),
        ("coco", _cvat_coco_other_name, "all"),
        ("coco", _label_studio_coco, "all"),
        ("coco", _label_studio_coco_windows, "all"),
        ("coco", _roboflow_coco, "train val test"),
        ("coco", _coco_own, "train val"),
        ("coco", _one_json, "all"),
        ("yolo", _ultralytics, "train val"),
        ("yolo", _ultralytics_lists, "train val"),
        ("yolo", _roboflow_yolo, "train val test"),
        ("yolo", _colab_yolo, "train val"),
        ("yolo", _label_studio_yolo, "all"),
        ("yolo", _cvat_yolo, "all"),
        ("yolo", _cvat_yolo_subsets, "train val"),
        ("yolo", _cvat_ultralytics, "train val"),
        ("yolo", _cvat_yolo_other_names, "all"),
        ("yolo", _label_img_yolo, "all"),
        ("voc", _voc, "train val"),
        ("voc", _voc_from_one, "train val"),
        ("voc", _cvat_voc, "all"),
        ("voc", _roboflow_voc, "train val"),
        ("voc", _label_studio_voc, "all"),
        ("voc", _label_img_voc, "all"),
        ("voc", _folders_of_voc, "train val"),
    ]
}


def lay_out(root: Path, name: str) -> Path:
    """The data set of a layout in a new folder."""
    root.mkdir(parents=True, exist_ok=True)
    LAYOUTS[name][1](root)
    return root
