"""Writing label files: COCO JSON, YOLO text, VOC XML."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import msgspec
import numpy as np
import yaml

from gfocal.data.formats.coco.parser import CategoryRecord, ImageRecord
from gfocal.data.formats.sidecar import NAME, Kept, keep, write_sidecar
from gfocal.data.formats.yolo.reader import label_path
from gfocal.data.index.data_index import DataIndex
from gfocal.errors import UsageError

Splits = Mapping[str, DataIndex]
Names = Mapping[str, Sequence[str]]
"""The name of each image of a split below its folder of images."""


def rows_of(index: DataIndex, i: int) -> slice:
    return slice(int(index.box_start[i]), int(index.box_start[i + 1]))


def cut(index: DataIndex, i: int) -> np.ndarray:
    """The boxes (n, 4) of an image, cut at its edges."""
    width, height = float(index.widths[i]), float(index.heights[i])
    return np.clip(np.asarray(index.boxes[rows_of(index, i)], np.float64), 0, (width, height, width, height))


def plain_number(value: float) -> str:
    """The shortest text that is read as the same number; 3 for 3.0."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


# COCO


def write_coco(splits: Splits, names: Names, root: Path) -> None:
    """``annotations/{split}.json``, written an image at a time."""
    encode = msgspec.json.encode
    (root / "annotations").mkdir()
    for split, index in splits.items():
        with (root / "annotations" / f"{split}.json").open("wb") as file:
            file.write(b'{"images":[\n')
            file.write(b",\n".join(encode(_image(index, i, name)) for i, name in enumerate(names[split])))
            file.write(b'\n],\n"annotations":[\n')
            separator = b""
            for i in range(len(index)):
                for annotation in _annotations(index, i):
                    file.write(separator + encode(annotation))
                    separator = b",\n"
            ids = np.asarray(index.category_ids).tolist()
            categories = [CategoryRecord(number, name) for number, name in zip(ids, index.names, strict=True)]
            file.write(b'\n],\n"categories":' + encode(categories) + b"}\n")


def _image(index: DataIndex, i: int, name: str) -> ImageRecord:
    size = {"width": int(index.widths[i]), "height": int(index.heights[i])}
    return ImageRecord(id=int(index.image_ids[i]), file_name=name, **size)


class _Annotation(msgspec.Struct, gc=False, omit_defaults=True):
    """One entry of ``annotations``, in the order in which it is written."""

    image_id: int
    id: int
    category_id: int
    bbox: list[float]
    area: float
    iscrowd: int
    ignore: int = 0
    edge_ambiguity: list[float] | None = None


def _annotations(index: DataIndex, i: int) -> Iterator[_Annotation]:
    own = rows_of(index, i)
    boxes = np.asarray(index.boxes[own], np.float64)
    columns = zip(
        np.asarray(index.annotation_ids[own]).tolist(),
        np.asarray(index.category_ids)[np.asarray(index.labels[own])].tolist(),
        np.concatenate([boxes[:, :2], sides(boxes)], 1).tolist(),
        np.asarray(index.area[own], np.float64).tolist(),
        np.asarray(index.crowd[own]).astype(int).tolist(),
        np.asarray(index.ignore[own]).astype(int).tolist(),
        strict=True,
    )
    ambiguity = None if index.edge_ambiguity is None else np.asarray(index.edge_ambiguity[own], np.float64)
    for k, (number, category, bbox, area, crowd, ignore) in enumerate(columns):
        annotation = _Annotation(int(index.image_ids[i]), number, category, bbox, area, crowd, ignore)
        if ambiguity is not None and not np.isnan(ambiguity[k]).any():
            annotation.edge_ambiguity = ambiguity[k].tolist()
        yield annotation


def sides(boxes: np.ndarray) -> np.ndarray:
    """Widths and heights (N, 2) that added to left and top give right and bottom again, to the last bit.

    Of those the one with the fewest decimals, which is what the file that was read said: 40.4 - 10.3 is
    30.099999999999998.
    """
    low, high = boxes[:, :2], boxes[:, 2:]
    result = high - low
    exact = low + result == high
    for towards in (-np.inf, np.inf):
        near = np.nextafter(result, towards)
        result = np.where(~exact & (low + near == high), near, result)
    done = np.zeros(result.shape, bool)
    for decimals in range(10):
        short = np.round(high - low, decimals)
        fits = ~done & (low + short == high)
        result = np.where(fits, short, result)
        done |= fits
    return result


# YOLO


def write_yolo(splits: Splits, names: Names, root: Path) -> None:
    """``data.yaml``, ``labels/{split}/*.txt`` and the sidecar."""
    classes = next(iter(splits.values())).names
    content = {split: f"images/{split}" for split in splits} | {"names": dict(enumerate(classes))}
    text = yaml.safe_dump(content, allow_unicode=True, sort_keys=False)
    (root / "data.yaml").write_text(text, encoding="utf-8")
    _label_files(splits, names, root, "yolo", lambda split: f"images/{split}", label_path, _yolo_lines)


def _yolo_lines(index: DataIndex, i: int, name: str) -> str:
    own = rows_of(index, i)
    boxes = cut(index, i) / (np.array([index.widths[i], index.heights[i]] * 2, np.float64))
    hidden = np.asarray(index.crowd[own]) | np.asarray(index.ignore[own])
    lines = []
    for label, (left, top, right, bottom), skip in zip(
        np.asarray(index.labels[own]).tolist(), boxes.tolist(), hidden.tolist(), strict=True
    ):
        if not skip:
            shares = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
            lines.append(" ".join([str(label), *map(_share, shares)]))
    return "".join(line + "\n" for line in lines)


def _share(value: float) -> str:
    # 12 decimals: 1e-9 pixels in an image of 1,000.
    return f"{value:.12f}".rstrip("0").rstrip(".") or "0"


# VOC


def write_voc(splits: Splits, names: Names, root: Path) -> None:
    """``ImageSets/Main/{split}.txt``, ``Annotations/*.xml`` and the sidecar."""
    check_xml_names(next(iter(splits.values())).names)
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split in splits:
        stems = [Path(name).with_suffix("").as_posix() for name in names[split]]
        (lists / f"{split}.txt").write_text("".join(stem + "\n" for stem in stems), encoding="utf-8")

    def place(image: Path) -> Path:
        return Path("Annotations", *image.parts[1:]).with_suffix(".xml")

    _label_files(splits, names, root, "voc", lambda split: "JPEGImages", place, _voc_xml)


def check_xml_names(names: Sequence[str]) -> None:
    """Refuse class names that XML cannot hold.

    Raises:
        UsageError: there is one.
    """
    for name in names:
        if not name.strip() or re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]", name):
            raise UsageError(f"the class name {name!r} cannot be written as XML; rename it, or convert --to coco")


def _voc_xml(index: DataIndex, i: int, name: str) -> str:
    own = rows_of(index, i)
    image = Path(name)
    head = (
        f"<annotation>\n  <folder>{escape(Path('JPEGImages', image.parent).as_posix())}</folder>\n"
        f"  <filename>{escape(image.name)}</filename>\n"
        # Anything but the challenge's own name: its coordinates count from 1.
        "  <source>\n    <database>gfocal</database>\n  </source>\n"
        f"  <size>\n    <width>{int(index.widths[i])}</width>\n    <height>{int(index.heights[i])}</height>\n"
        "    <depth>3</depth>\n  </size>\n  <segmented>0</segmented>\n"
    )
    hidden = np.asarray(index.crowd[own]) | np.asarray(index.ignore[own])
    parts = [head]
    labels = np.asarray(index.labels[own]).tolist()
    for label, box, difficult in zip(labels, cut(index, i).tolist(), hidden.tolist(), strict=True):
        edges = zip(("xmin", "ymin", "xmax", "ymax"), map(plain_number, box), strict=True)
        parts.append(
            f"  <object>\n    <name>{escape(index.names[label])}</name>\n    <pose>Unspecified</pose>\n"
            f"    <truncated>0</truncated>\n    <difficult>{int(difficult)}</difficult>\n    <bndbox>\n"
            + "".join(f"      <{key}>{value}</{key}>\n" for key, value in edges)
            + "    </bndbox>\n  </object>\n"
        )
    return "".join([*parts, "</annotation>\n"])


def _label_files(
    splits: Splits,
    names: Names,
    root: Path,
    fmt: str,
    folder: Callable[[str], str],
    place: Callable[[Path], Path],
    text: Callable[[DataIndex, int, str], str],
) -> None:
    """A label file for every image, and the sidecar of all of them."""
    kept: dict[str, list[Kept]] = {}
    for split, index in splits.items():
        kept[split] = []
        for i, name in enumerate(names[split]):
            image = Path(folder(split), name)
            content = text(index, i, name).encode("utf-8", errors="surrogateescape")
            file = root / place(image)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            kept[split].append(keep(index, i, image.as_posix(), content))
    first = next(iter(splits.values()))
    write_sidecar(root / NAME, fmt, first.names, np.asarray(first.category_ids).tolist(), kept)
