"""How far apart image hashes are: of different images, and of altered copies.

python benchmarks/likeness.py FOLDER...      # folders of images that all differ
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from gfocal.data.formats.common import images_in
from gfocal.data.image_hash import hash_of, image_hashes

COPIES = 300  # images a folder that are altered


def scaled(factor: float) -> Callable[[Image.Image], Image.Image]:
    def change(image: Image.Image) -> Image.Image:
        size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
        return image.resize(size, Image.Resampling.LANCZOS)

    return change


def cropped(share: float) -> Callable[[Image.Image], Image.Image]:
    def change(image: Image.Image) -> Image.Image:
        width, height = image.size
        return image.crop(
            (int(share * width), int(share * height), int((1 - share) * width), int((1 - share) * height))
        )

    return change


CHANGES: dict[str, tuple[Callable[[Image.Image], Image.Image], int]] = {
    "saved again, quality 75": (lambda image: image, 75),
    "saved again, quality 30": (lambda image: image, 30),
    "half the size": (scaled(0.5), 75),
    "a third of the size, quality 50": (scaled(1 / 3), 50),
    "1.5 times the size": (scaled(1.5), 75),
    "15 % brighter": (lambda image: image.point(lambda value: min(255, int(1.15 * value))), 75),
    "cropped by 2 % on each side": (cropped(0.02), 75),
    "mirrored": (lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 75),
}


def main() -> None:
    for folder in map(Path, sys.argv[1:]):
        files = [folder / name for name in images_in(folder)]
        hashes, _ = image_hashes(files)
        apart = np.array(
            [
                [bin(int(a) ^ int(b)).count("1") for b in hashes[:i]] + [64] * (len(files) - i)
                for i, a in enumerate(hashes)
            ]
        )
        counts = np.bincount(apart[np.tril_indices(len(files), -1)], minlength=20)
        print(f"\n{folder}: {len(files)} pictures, {counts.sum():,} pairs")
        print("pairs at 0, 1, 2, ... bits:", " ".join(map(str, counts[:20].tolist())))
        print("| altered copy | median | 95 % | most |\n|---|---|---|---|")
        rows = range(0, len(files), max(1, len(files) // COPIES))
        for name, (change, quality) in CHANGES.items():
            bits = []
            for row in rows:
                data = io.BytesIO()
                with Image.open(files[row]) as image:
                    change(image.convert("RGB")).save(data, "JPEG", quality=quality)
                with Image.open(data) as copy:
                    bits.append(bin(int(hashes[row]) ^ hash_of(copy)).count("1"))
            print(f"| {name} | {np.median(bits):.0f} | {np.percentile(bits, 95):.0f} | {max(bits)} |")


if __name__ == "__main__":
    main()
