"""Hashes of data sets: their annotations, their image files."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gfocal.data.index.columns import parts
from gfocal.data.index.data_index import DataIndex

_LOOKED_INTO = 2000  # images of which bytes are read
_PIECE = 4096  # bytes, at the beginning, in the middle and at the end
_MISSING = (-1).to_bytes(8, "little", signed=True)
_HASH = 10  # hexadecimal digits: of 5,000 images beside 5,000 others, one is mistaken once in 40,000 times
_THREADS = 8  # for the delay of network disks; the work itself is nothing


def fingerprint(index: DataIndex) -> str:
    """A hash of a data set: images (ids, file names, sizes), boxes and classes, not the images' content.

    Where the folders lie does not count, not even those of data sets that were joined.
    """
    digest = hashlib.sha256()
    columns = (index.image_ids, index.widths, index.heights, index.box_start, index.boxes, index.labels)
    for values in (*columns, index.crowd, index.ignore, index.category_ids):
        for rows in parts(len(values)):
            digest.update(values[rows].tobytes())
    digest.update("\0".join(index.names).encode(errors="surrogatepass"))
    start = 0
    for count in index.parts or (len(index),):
        names = [index.file_name(i) for i in range(start, start + count)]
        start += count
        # A joined index writes names relative to a folder around all of its data sets.
        common = os.path.commonpath([os.path.dirname(name) for name in names]) if index.parts and names else ""
        own = (os.path.relpath(name, common) if common else name for name in names)
        digest.update("\0".join(["", *own]).encode(errors="surrogatepass"))
    return digest.hexdigest()[:16]


def images_fingerprint(index: DataIndex) -> str:
    """A hash of the images' files that takes seconds for 100,000 of them.

    It covers the size of every file, and 12 KiB (beginning, middle, end) of up to 2,000 of them, evenly spread: all of
    a small data set. Names, dates and places do not count; the annotations have a hash of their own. A file that is
    missing, or no file, counts as one of size -1.
    """
    step = max(-(-len(index) // _LOOKED_INTO), 1)
    digest = hashlib.sha256()
    for found in _described(index, lambda i: i % step == 0):
        digest.update(found or _MISSING)
    return digest.hexdigest()[:16]


def file_hashes(index: DataIndex) -> list[str | None]:
    """A hash of each image's file, by its size and 12 KiB of its content; None for what is no file that can be read.

    Names, dates and places do not count: a copy has the same one, an image that was encoded again has not.
    """
    found = _described(index, lambda _: True)
    return [None if one is None else hashlib.sha256(one).hexdigest()[:_HASH] for one in found]


def _described(index: DataIndex, looked_into: Callable[[int], bool]) -> Iterator[bytes | None]:
    """Size of each image's file, and a digest of pieces of those that are looked into."""

    def describe(i: int) -> bytes | None:
        try:
            path = index.path(i)
            about = path.stat()
            # Opening a pipe would wait for somebody to write into it; whoever reads it as an image says what is wrong.
            if stat.S_ISREG(about.st_mode):
                size = about.st_size
                return size.to_bytes(8, "little") + (_pieces(path, size) if looked_into(i) else b"")
        except (OSError, ValueError):  # ValueError: a null character in the name
            pass
        return None

    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(index), 10_000):  # map keeps a future for every image
            yield from pool.map(describe, range(start, min(start + 10_000, len(index))), chunksize=64)


def _pieces(path: Path, size: int) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for start in (0, max(size // 2 - _PIECE // 2, 0), max(size - _PIECE, 0)):
            file.seek(start)
            digest.update(file.read(_PIECE))
    return digest.digest()
