"""Faults planted into a COCO data set, and what a check must find because of them."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gfocal.data.checks.report import Report

LARGE = 1_300_000
"""What the tests call a large image, in place of 25 million pixels."""

Key = tuple[str, str, str | None]


def found_in(report: Report) -> Counter[Key]:
    """(kind, split, image or class) of each finding."""
    return Counter((f.kind, f.split, f.image if f.image is not None else f.class_name) for f in report.findings)


class Planter:
    """A data set with ``annotations/{train,val}.json`` and ``images/`` that gets worse.

    Args:
        root: its folder; changed in place.
        seed: of the choice of images.
        spared: file names that are left alone.
    """

    def __init__(self, root: Path, seed: int, spared: set[str]) -> None:
        self.root, self.rng = root, np.random.default_rng(seed)
        self.content = {s: json.loads((root / "annotations" / f"{s}.json").read_text()) for s in ("train", "val")}
        self.expected: Counter[Key] = Counter()
        train = self.content["train"]
        boxes = Counter(a["image_id"] for a in train["annotations"])
        free = [i for i in train["images"] if boxes[i["id"]] >= 2 and i["file_name"] not in spared]
        self.free = [free[k] for k in self.rng.permutation(len(free))]
        self.numbers = iter(range(10**7, 10**8))

    def save(self) -> None:
        for split, content in self.content.items():
            (self.root / "annotations" / f"{split}.json").write_text(json.dumps(content))

    def take(self, *kinds: str) -> dict[str, Any]:
        """An image of train that nothing else happens to, where these kinds are to be found."""
        image = self.free.pop()
        self.expect("train", image["file_name"], *kinds)
        return image

    def expect(self, split: str, subject: str | None, *kinds: str) -> None:
        self.expected.update((kind, split, subject) for kind in kinds)

    def path(self, image: dict[str, Any]) -> Path:
        return self.root / "images" / image["file_name"]

    def rename(self, image: dict[str, Any], suffix: str) -> Path:
        """Another ending, in the annotations too; the file is gone."""
        before = self.path(image)
        before.unlink()
        image["file_name"] = Path(image["file_name"]).with_suffix(suffix).as_posix()
        return self.path(image)

    def boxes_of(self, image: dict[str, Any]) -> list[dict[str, Any]]:
        return [a for a in self.content["train"]["annotations"] if a["image_id"] == image["id"]]

    def add_box(self, image: dict[str, Any], bbox: Any, category: int | None = None, split: str = "train") -> dict:
        content = self.content[split]
        category = content["categories"][0]["id"] if category is None else category
        box = {"id": next(self.numbers), "image_id": image["id"], "category_id": category, "bbox": bbox, "area": 9.0}
        content["annotations"].append({**box, "iscrowd": 0})
        return content["annotations"][-1]

    def add_image(self, split: str, name: str, data: bytes, like: dict[str, Any]) -> dict[str, Any]:
        """A further image with the boxes of one of train."""
        (self.root / "images" / name).write_bytes(data)
        image = {**like, "id": next(self.numbers), "file_name": name}
        self.content[split]["images"].append(image)
        for box in self.boxes_of(like):
            self.content[split]["annotations"].append({**box, "id": next(self.numbers), "image_id": image["id"]})
        return image

    def add_class(self, name: str, *splits: str) -> int:
        number = next(self.numbers)
        for split in splits:
            self.content[split]["categories"].append({"id": number, "name": name})
        return number


def opened(path: Path) -> Image.Image:
    """An image whose file is closed again."""
    with Image.open(path) as image:
        image.load()
        return image.copy()


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(rng: np.random.Generator, width: int = 80, height: int = 64) -> bytes:
    """An image like no other."""
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return encoded(small.resize((width, height), Image.Resampling.BICUBIC))


def huge_png(width: int = 100_000, height: int = 100_000) -> bytes:
    """A few bytes that claim to be an enormous image."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


def with_orientation(image: Image.Image, value: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = value
    return encoded(image, quality=95, exif=exif)


def plant_files(p: Planter, times: int) -> None:
    """Image files that cannot be read."""
    for k in range(times):
        path = p.path(p.take("picture-unreadable"))
        path.write_bytes(b"" if k % 2 else path.read_bytes()[:4] + b"\0" * 4000)
        image = p.take("picture-truncated")
        data = p.path(image).read_bytes()
        if k % 3 == 2:
            data = encoded(opened(p.path(image)), progressive=True)
        # Closed again: decoders read it and say nothing.
        p.path(image).write_bytes(data[: len(data) * 3 // 4] + (b"" if k % 2 else b"\xff\xd9"))
        p.path(p.take("picture-not-a-picture")).write_bytes(b"<html>404 not found</html>")
        p.path(p.take("picture-unsupported")).write_bytes(b"%PDF-1.7" if k % 2 else b"\0\0\0\x18ftypheic" + b"\0" * 99)
        p.path(p.take("picture-too-large")).write_bytes(huge_png())
        p.path(p.take("picture-missing")).unlink()
        (p.root / "images" / f"nobody{k}.jpg").write_bytes(noise(p.rng))
        p.expect("train", f"nobody{k}.jpg", "picture-unlisted")


def plant_kinds(p: Planter, times: int) -> None:
    """Images that can be read and are odd."""
    for _ in range(times):
        path = p.path(p.take("picture-wrong-suffix"))
        path.write_bytes(encoded(opened(path), "PNG"))
        image = p.free.pop()
        frames = [opened(p.path(image)).quantize(64), Image.new("P", opened(p.path(image)).size)]
        p.rename(image, ".gif").write_bytes(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
        p.expect("train", image["file_name"], "picture-animated")
        path = p.path(p.take("picture-grey"))
        path.write_bytes(encoded(opened(path).convert("L")))
        path = p.path(p.take("picture-cmyk"))
        path.write_bytes(encoded(opened(path).convert("CMYK")))
        for kinds, convert in (
            (("picture-alpha",), lambda source: source.convert("RGBA")),
            (
                ("picture-16-bit", "picture-grey"),
                lambda s: Image.fromarray(np.asarray(s.convert("L"), np.uint16) * 16),
            ),
        ):
            image = p.free.pop()
            converted = convert(opened(p.path(image)))
            p.rename(image, ".png").write_bytes(encoded(converted, "PNG"))
            p.expect("train", image["file_name"], *kinds)
    p.expect("train", None, "picture-range")  # of all that have 16 bits: 12 are in use


def plant_sizes(p: Planter, times: int) -> None:
    """Sizes that disagree, EXIF, large, small and long images."""
    for _ in range(times):
        image = p.take("size-wrong")
        image["width"], image["height"] = image["width"] + 7, image["height"] + 40
        for kind, orientation in (("exif-turned", 6), ("exif-stored", 6), ("exif-ambiguous", 3)):
            image = p.take(kind)
            wide = resized(p, image, (image["width"] + 16, image["height"]), paste=True)
            turned = wide.transpose(Image.Transpose.ROTATE_90) if kind == "exif-turned" else wide
            p.path(image).write_bytes(with_orientation(turned, orientation))
        image = p.take("picture-large")
        p.path(image).write_bytes(encoded(resized(p, image, (1300, LARGE // 1300 + 1))))
        image = p.take("picture-long")
        p.path(image).write_bytes(encoded(resized(p, image, (image["height"] * 5, image["height"]), paste=True)))
        image = p.take("picture-small")
        p.path(image).write_bytes(encoded(resized(p, image, (40, 24)), quality=95))
        p.content["train"]["annotations"] = [
            a for a in p.content["train"]["annotations"] if a["image_id"] != image["id"]
        ]
        p.add_box(image, [2, 3, 20, 15])
        image = p.take("picture-without-boxes")
        p.content["train"]["annotations"] = [
            a for a in p.content["train"]["annotations"] if a["image_id"] != image["id"]
        ]
        image = p.take("picture-listed-twice")
        p.content["train"]["images"].append({**image, "id": next(p.numbers)})
        p.boxes_of(image)[0]["image_id"] = p.content["train"]["images"][-1]["id"]


def resized(p: Planter, image: dict[str, Any], size: tuple[int, int], paste: bool = False) -> Image.Image:
    """The image in another size, or on a larger black canvas; the annotated size follows."""
    source = opened(p.path(image)).convert("RGB")
    image["width"], image["height"] = size
    if not paste:
        return source.resize(size)
    canvas = Image.new("RGB", size)
    canvas.paste(source, (0, 0))
    return canvas


def plant_records(p: Planter, times: int) -> None:
    """Records and boxes."""
    faults: list[tuple[str, Callable[[int, int], list[Any]]]] = [
        ("box-not-finite", lambda w, h: [3, float("nan"), 8, 8]),
        ("box-negative", lambda w, h: [20, 20, -8, 8]),
        ("box-outside", lambda w, h: [w + 2, 4, 8, 8]),
        ("box-empty", lambda w, h: [11, 13, 0, 7]),
        ("box-beyond-edge", lambda w, h: [w - 9, 5.5, 14, 20]),
        ("box-tiny", lambda w, h: [31, 29, 1.25, 19]),
    ]
    train = p.content["train"]
    for k in range(times):
        for kind, bbox in faults:
            image = p.take(kind)
            p.add_box(image, bbox(image["width"], image["height"]))
        for kind in ("box-duplicate", "box-two-classes"):
            image = p.take(kind)
            own = p.boxes_of(image)[0]
            other = next(c["id"] for c in train["categories"] if c["id"] != own["category_id"])
            p.add_box(image, own["bbox"], own["category_id"] if kind == "box-duplicate" else other)
        own = p.boxes_of(p.take())
        own[0]["id"] = own[1]["id"]
        p.expect("train", None, "annotation-id-twice")
        image = p.take()
        p.add_box(image, [[1, 2, 3], "1 2 3 4", None, [1, 2, 3, "x"], 7][k % 5])
        p.expect("train", None, "record-broken")
        p.add_box({"id": 5 * 10**8 + k}, [1, 2, 3, 4])
        p.expect("train", None, "image-unknown")
        p.add_box(p.take("class-unknown"), [1, 2, 9, 9], category=10**9)
        (p.root / "images" / f"second{k}.jpg").write_bytes(noise(p.rng))
        train["images"].append({**p.take(), "file_name": f"second{k}.jpg"})
        p.expect("train", f"second{k}.jpg", "image-id-twice")


def plant_crowd(p: Planter, times: int) -> None:
    """An image with one object more than the limit; said once of a split, whatever ``times`` is."""
    image = p.take("many-objects")
    own = {box["id"] for box in p.boxes_of(image)}
    p.content["train"]["annotations"] = [a for a in p.content["train"]["annotations"] if a["id"] not in own]
    for k in range(101):
        p.add_box(image, [1 + 11 * (k % 11), 1 + 11 * (k // 11), 8, 8])


def plant_classes(p: Planter, times: int) -> None:
    """Classes. Those without boxes are empty as well; one that has many beside few makes a long tail."""
    val_image = p.content["val"]["images"][0]
    host = p.take()
    for k in range(times):
        number = p.add_class(f"only val {k}", "val")
        p.add_box(val_image, [2 + k, 3, 20, 20], number, "val")
        p.expect("val", f"only val {k}", "class-not-in-train")
        number = p.add_class(f"untrained {k}", "train", "val")
        p.add_box(val_image, [2 + k, 9, 16, 20], number, "val")
        p.expect("train", f"untrained {k}", "class-untrained")
        number = p.add_class(f"few {k}", "train", "val")
        p.add_box(host, [2 + 3 * k, 3, 11, 20], number)
        p.expect("train", f"few {k}", "class-few")
        p.add_class(f"empty {k}", "train", "val")
        p.expect("train", f"empty {k}", "class-empty")
        p.add_class(f"train only {k}", "train")
        p.expect("train", f"train only {k}", "class-empty", "class-not-named")
        ids = next(p.numbers), next(p.numbers)
        for split, order in (("train", (0, 1)), ("val", (1, 0))):
            for number, letter in zip(ids, order, strict=True):
                p.content[split]["categories"].append({"id": number, "name": f"swapped {k} {letter}"})
        for letter in (0, 1):
            p.expect("val", f"swapped {k} {letter}", "class-id-differs", "class-name-differs")
            p.expect("train", f"swapped {k} {letter}", "class-empty")
        for _ in range(2):
            p.add_class(f"twin {k}", "train", "val")
        for split in ("train", "val"):
            p.expect(split, f"twin {k}", "class-name-twice")
        p.add_class(f"Alike {k}", "train", "val")
        p.add_class(f"alike{k} ", "train", "val")
        p.expect("train", f"alike{k} ", "class-name-alike", "class-empty")
        p.expect("train", f"Alike {k}", "class-empty")
        p.expect("train", f"twin {k}", "class-empty")
    p.expect("train", None, "long-tail")


def plant_copies(p: Planter, times: int) -> None:
    """The same images again."""
    for k in range(times):
        for split, exact, similar in (
            ("val", "leak-exact", "leak-similar"),
            ("train", "picture-duplicate", "picture-similar"),
        ):
            image = p.take()
            same = p.add_image(split, f"copy{split}{k}.jpg", p.path(image).read_bytes(), image)
            p.expect(split, same["file_name"], exact)
            image = p.take()
            smaller = opened(p.path(image)).convert("RGB")
            again = p.add_image(split, f"again{split}{k}.jpg", encoded(smaller, quality=60), image)
            p.expect(split, again["file_name"], similar)


def plant_all(root: Path, *, seed: int, times: int, spared: set[str]) -> Counter[Key]:
    """Every kind that a single data set can have, ``times`` times; what must be found because of it."""
    p = Planter(root, seed, spared)
    # Copies and classes first: the first class gets further boxes below.
    for plant in (plant_copies, plant_classes, plant_crowd, plant_records, plant_files, plant_kinds, plant_sizes):
        plant(p, times)
    p.save()
    return p.expected
