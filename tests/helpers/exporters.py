"""The same 20 labelled images as annotation tools write them: names, folders, keys and decimals are theirs.

No two images have one size, so that an image is known by its size whatever a tool calls it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np
from PIL import Image

CLASSES = ("car", "person", "traffic light")
Box = tuple[str, tuple[int, int, int, int]]  # class, xyxy
Boxes = dict[tuple[int, int], list[Box]]  # by (width, height)


@dataclass(frozen=True)
class Labelled:
    """One image: its name without ending, its size, and its objects in the order in which they were drawn."""

    stem: str
    width: int
    height: int
    boxes: tuple[Box, ...]

    @property
    def name(self) -> str:
        return f"{self.stem}.jpg"

    def save(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (self.width, self.height), (self.width, self.height, 90)).save(file)


def _make() -> tuple[Labelled, ...]:
    numbers = np.random.default_rng(0)
    made = []
    for i in range(20):
        width, height = 40 + 3 * i, 90 - 2 * i
        boxes = []
        for _ in range(i % 4):  # each fourth is background
            left, top = (int(numbers.integers(1, side - 10)) for side in (width, height))
            right, bottom = (int(numbers.integers(low + 4, side + 1)) for low, side in ((left, width), (top, height)))
            boxes.append((CLASSES[int(numbers.integers(len(CLASSES)))], (left, top, right, bottom)))
        made.append(Labelled(f"street_{i:02d}", width, height, tuple(boxes)))
    return tuple(made)


IMAGES = _make()
WANTED: Boxes = {(one.width, one.height): list(one.boxes) for one in IMAGES}


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def _coco(
    file: Path,
    name: Callable[[int, Labelled], str],
    *,
    first: int = 1,
    category: int = 1,
    image: dict[str, Any] | None = None,
    annotation: dict[str, Any] | None = None,
    number: type = int,
    more: dict[str, Any] | None = None,
) -> None:
    """A COCO file; ``first`` is the first id of images and boxes, ``category`` that of classes."""
    images, annotations = [], []
    for i, one in enumerate(IMAGES):
        images.append({"id": i + first, "width": one.width, "height": one.height, "file_name": name(i, one)})
        images[-1] |= image or {}
        for label, (left, top, right, bottom) in one.boxes:
            bbox = [number(value) for value in (left, top, right - left, bottom - top)]
            annotations.append(
                {
                    "id": len(annotations) + first,
                    "image_id": i + first,
                    "category_id": CLASSES.index(label) + category,
                    "bbox": bbox,
                    "area": bbox[2] * bbox[3],
                    "segmentation": [],
                    "iscrowd": 0,
                    **(annotation or {}),
                }
            )
    categories = [{"id": i + category, "name": name, "supercategory": ""} for i, name in enumerate(CLASSES)]
    _write(file, json.dumps({"images": images, "categories": categories, "annotations": annotations} | (more or {})))


def coco_own(root: Path) -> None:
    """COCO 2017 as it is downloaded: other tasks' files are beside the boxes'."""
    _coco(
        root / "annotations" / "instances_train2017.json",
        lambda i, one: f"{i + 1:012d}.jpg",
        number=float,
        image={"license": 3, "coco_url": "", "flickr_url": "http://farm4.staticflickr.com/1_z.jpg"},
        more={"info": {"description": "COCO 2017 Dataset"}, "licenses": [{"id": 3, "name": "x", "url": ""}]},
    )
    captions = {
        "info": {},
        "images": [],
        "licenses": [],
        "annotations": [{"id": 1, "image_id": 1, "caption": "A car."}],
    }
    _write(root / "annotations" / "captions_train2017.json", json.dumps(captions))
    _coco(root / "annotations" / "person_keypoints_train2017.json", lambda i, one: f"{i + 1:012d}.jpg", category=9)
    for i, one in enumerate(IMAGES):
        one.save(root / "train2017" / f"{i + 1:012d}.jpg")


def _uploaded(i: int, one: Labelled) -> str:
    return f"{0x1A2B3C00 + i:08x}-{one.name}"


def coco_label_studio(root: Path) -> None:
    """Label Studio 1.16 on Windows, "COCO with images": names lead to its own folder of uploads."""
    _coco(
        root / "result.json",
        lambda i, one: f"..\\..\\label-studio\\label-studio\\media\\upload\\4\\{_uploaded(i, one)}",
        first=0,
        category=0,
        number=float,
        annotation={"ignore": 0},
        more={"info": {"year": 2025, "version": "1.0", "description": "", "contributor": "Label Studio", "url": ""}},
    )
    for i, one in enumerate(IMAGES):
        one.save(root / "images" / _uploaded(i, one))


def coco_cvat(root: Path) -> None:
    """CVAT "COCO 1.0" with images."""
    _coco(
        root / "annotations" / "instances_default.json",
        lambda i, one: one.name,
        number=float,
        image={"license": 0, "flickr_url": "", "coco_url": "", "date_captured": 0},
        annotation={"attributes": {"occluded": False, "rotation": 0.0}},
        more={"licenses": [{"name": "", "id": 0, "url": ""}], "info": {"contributor": "", "version": ""}},
    )
    for one in IMAGES:
        one.save(root / "images" / "default" / one.name)


def _roboflow(i: int, one: Labelled) -> str:
    return f"{one.stem}_jpg.rf.{i:032x}.jpg"


def coco_roboflow(root: Path) -> None:
    """Roboflow "COCO": class 0 is the group of the others, and has no boxes."""
    _coco(root / "train" / "_annotations.coco.json", _roboflow, first=0, image={"license": 1, "extra": {}})
    file = root / "train" / "_annotations.coco.json"
    content = json.loads(file.read_text())
    content["categories"].insert(0, {"id": 0, "name": "street", "supercategory": "none"})
    file.write_text(json.dumps(content))
    for i, one in enumerate(IMAGES):
        one.save(root / "train" / _roboflow(i, one))


def _yolo_line(one: Labelled, box: Box, digits: int | None) -> str:
    label, (left, top, right, bottom) = box
    shares = ((left + right) / 2 / one.width, (top + bottom) / 2 / one.height)
    shares += ((right - left) / one.width, (bottom - top) / one.height)
    values = [f"{share:.{digits}f}" if digits else repr(share) for share in shares]
    return " ".join([str(CLASSES.index(label)), *values])


def _yolo(one: Labelled, image: Path, label: Path, digits: int | None = 6) -> None:
    one.save(image)
    _write(label, "".join(_yolo_line(one, box, digits) + "\n" for box in one.boxes))


def yolo_ultralytics(root: Path) -> None:
    """As Ultralytics' own data sets are: a yaml with a path beside its home; no label file for background."""
    names = "".join(f"  {i}: {name}\n" for i, name in enumerate(CLASSES))
    _write(root / "street.yaml", f"path: ../datasets/street\ntrain: images/train\nval:\ntest:\n\nnames:\n{names}")
    for one in IMAGES:
        label = root / "labels" / "train" / f"{one.stem}.txt"
        _yolo(one, root / "images" / "train" / one.name, label)
        if not one.boxes:
            label.unlink()


def yolo_darknet(root: Path) -> None:
    """Darknet: names and lists in data/, paths from the folder above it, labels beside images."""
    _write(root / "data" / "obj.names", "".join(f"{name}\n" for name in CLASSES))
    _write(
        root / "data" / "obj.data",
        "classes = 3\ntrain  = data/train.txt\nvalid  = data/test.txt\nnames = data/obj.names\nbackup = backup/\n",
    )
    _write(root / "data" / "train.txt", "".join(f"data/obj/{one.name}\n" for one in IMAGES))
    for one in IMAGES:
        _yolo(one, root / "data" / "obj" / one.name, root / "data" / "obj" / f"{one.stem}.txt")


def yolo_roboflow(root: Path) -> None:
    """Roboflow "YOLOv8": paths that begin with ../, names that end with its hash."""
    _write(
        root / "data.yaml",
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 3\n"
        f"names: {list(CLASSES)}\n\nroboflow:\n  workspace: x\n  project: street\n  version: 1\n",
    )
    for i, one in enumerate(IMAGES):
        name = _roboflow(i, one)
        label = root / "train" / "labels" / f"{name.removesuffix('.jpg')}.txt"
        _yolo(one, root / "train" / "images" / name, label, None)


def yolo_cvat(root: Path) -> None:
    """CVAT "YOLO 1.1" with images."""
    _write(root / "obj.names", "".join(f"{name}\n" for name in CLASSES))
    _write(root / "obj.data", "classes = 3\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n")
    _write(root / "train.txt", "".join(f"data/obj_train_data/{one.name}\n" for one in IMAGES))
    for one in IMAGES:
        _yolo(one, root / "obj_train_data" / one.name, root / "obj_train_data" / f"{one.stem}.txt")


def yolo_label_studio(root: Path) -> None:
    """Label Studio "YOLO with images": shares with all their digits."""
    _write(root / "classes.txt", "".join(f"{name}\n" for name in CLASSES))
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES)]
    _write(root / "notes.json", json.dumps({"categories": categories, "info": {"contributor": "Label Studio"}}))
    for i, one in enumerate(IMAGES):
        name = _uploaded(i, one)
        _yolo(one, root / "images" / name, root / "labels" / f"{name.removesuffix('.jpg')}.txt", None)


def _voc(
    file: Path, one: Labelled, source: dict[str, str], *, path: str = "", shift: int = 0, number: type = int
) -> None:
    top = Element("annotation")
    SubElement(top, "folder").text = file.parent.name
    SubElement(top, "filename").text = one.name
    if path:
        SubElement(top, "path").text = path
    for key, text in source.items():
        found = top.find("source")
        SubElement(SubElement(top, "source") if found is None else found, key).text = text
    size = SubElement(top, "size")
    for key, value in (("width", one.width), ("height", one.height), ("depth", 3)):
        SubElement(size, key).text = str(value)
    SubElement(top, "segmented").text = "0"
    for label, box in one.boxes:
        each = SubElement(top, "object")
        for key, text in (("name", label), ("pose", "Unspecified"), ("truncated", "0"), ("difficult", "0")):
            SubElement(each, key).text = text
        corners = SubElement(each, "bndbox")
        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            SubElement(corners, key).text = str(number(value + (shift if key.endswith("min") else 0)))
    indent(top, "\t")
    _write(file, tostring(top, "unicode"))


def voc_devkit(root: Path) -> None:
    """The challenge's own: pixels counted from 1, the last one inside; code and results beside the data."""
    source = {"database": "The VOC2007 Database", "annotation": "PASCAL VOC2007", "image": "flickr"}
    year = root / "VOCdevkit" / "VOC2007"
    for one in IMAGES:
        one.save(year / "JPEGImages" / one.name)
        _voc(year / "Annotations" / f"{one.stem}.xml", one, source, shift=1)
    names = "".join(f"{one.stem}\n" for one in IMAGES)
    for name in ("train", "trainval"):
        _write(year / "ImageSets" / "Main" / f"{name}.txt", names)
    _write(year / "ImageSets" / "Main" / "car_train.txt", "".join(f"{one.stem} -1\n" for one in IMAGES))
    for name in ("VOCcode/VOCinit.m", "results/VOC2007/Main/README", "local/VOC2007/README", "devkit_doc.pdf"):
        _write(root / "VOCdevkit" / name, "x")


def voc_label_img(root: Path) -> None:
    """LabelImg: beside the images, with the path that they had."""
    for one in IMAGES:
        one.save(root / one.name)
        if one.boxes:
            path = f"C:\\Users\\me\\street\\{one.name}"
            _voc(root / f"{one.stem}.xml", one, {"database": "Unknown"}, path=path)


def voc_cvat(root: Path) -> None:
    """CVAT "PASCAL VOC 1.1" with images: edges, with decimals."""
    source = {"database": "Unknown", "annotation": "Unknown", "image": "Unknown"}
    for one in IMAGES:
        one.save(root / "JPEGImages" / one.name)
        _voc(root / "Annotations" / f"{one.stem}.xml", one, source, number=float)
    _write(root / "ImageSets" / "Main" / "default.txt", "".join(f"{one.stem}\n" for one in IMAGES))
    rows = "".join(f"{name}:1,2,3::\n" for name in CLASSES)
    _write(root / "labelmap.txt", f"# label:color_rgb:parts:actions\nbackground:0,0,0::\n{rows}")


Exporter = Callable[[Path], None]
EXPORTERS: dict[str, tuple[Exporter, float]] = {  # with the error in pixels that the digits of a file allow
    "coco_own": (coco_own, 0),
    "coco_label_studio": (coco_label_studio, 0),
    "coco_cvat": (coco_cvat, 0),
    "coco_roboflow": (coco_roboflow, 0),
    "yolo_ultralytics": (yolo_ultralytics, 1e-4),
    "yolo_darknet": (yolo_darknet, 1e-4),
    "yolo_roboflow": (yolo_roboflow, 1e-12),
    "yolo_cvat": (yolo_cvat, 1e-4),
    "yolo_label_studio": (yolo_label_studio, 1e-12),
    "voc_devkit": (voc_devkit, 0),
    "voc_label_img": (voc_label_img, 0),
    "voc_cvat": (voc_cvat, 0),
}
