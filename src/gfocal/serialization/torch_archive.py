"""Zip files as torch writes them, opened within bounds."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gfocal.serialization import bounds
from gfocal.serialization.bounds import Unreadable, check_at_most

ZIP_MAGIC = b"PK\x03\x04"


@dataclass(frozen=True)
class Archive:
    """A zip file as torch writes it: records below one folder, none of them compressed."""

    zipped: zipfile.ZipFile
    root: str

    @classmethod
    @contextmanager
    def opened(cls, file: Path) -> Iterator[Archive]:
        size = file.stat().st_size
        check_at_most(directory_size(file), bounds.DIRECTORY, "its directory has {} bytes")
        with zipfile.ZipFile(file) as zipped:
            entries = zipped.infolist()
            names = {entry.filename for entry in entries}
            roots = [n.removesuffix("data.pkl") for n in names if n.endswith("data.pkl") and n.count("/") <= 1]
            if len(roots) != 1:
                raise Unreadable("a zip file of another kind")
            if f"{roots[0]}constants.pkl" in names:
                raise Unreadable("a TorchScript archive, a program rather than weights")
            # torch never compresses; a compressed record could unpack to any size.
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
                raise Unreadable("it has compressed records, which torch does not write")
            if any(entry.external_attr & 0x10 for entry in entries):  # of which torch reads nothing, without a word
                raise Unreadable("a record is marked as a folder")
            # Records may lie on each other, and then each of them is read for itself.
            if len(names) != len(entries) or sum(entry.file_size for entry in entries) > size:
                raise Unreadable("its records are larger than the file")
            archive = cls(zipped, roots[0])
            if f"{archive.root}byteorder" in names and archive.read("byteorder") != b"little":
                raise Unreadable("written on a big-endian machine")
            yield archive

    @property
    def records(self) -> list[str]:
        return [entry.filename.removeprefix(self.root) for entry in self.zipped.infolist()]

    def length(self, name: str) -> int:
        return self.zipped.getinfo(self.root + name).file_size

    def read(self, name: str) -> bytes:
        return self.zipped.read(self.root + name)

    def is_intact(self, name: str) -> bool:
        try:
            with self.zipped.open(self.root + name) as record:
                while record.read(2**20):  # which compares the sum at the end
                    pass
        except zipfile.BadZipFile:
            return False
        return True


def directory_size(file: Path) -> int:
    """Bytes of a zip file's directory, as its end says: whoever opens it makes an object of each entry there."""
    with file.open("rb") as opened:
        end = opened.seek(0, 2)
        opened.seek(max(0, end - 2**16 - 22 - 20))
        tail = opened.read()
        opened.seek(0)
        if opened.read(4) != ZIP_MAGIC:
            raise zipfile.BadZipFile("no zip file")
        place = tail.rfind(b"PK\x05\x06")
        if place < 0 or place + 22 > len(tail):
            raise Unreadable("a zip file without its end: it is cut off")
        size = int.from_bytes(tail[place + 12 : place + 16], "little")
        if tail[max(place - 20, 0) :].startswith(b"PK\x06\x07"):  # where the end of a large file stands
            opened.seek(int.from_bytes(tail[place - 12 : place - 4], "little"))
            size = max(size % 0xFFFFFFFF, int.from_bytes(opened.read(56)[40:48], "little"))
    return size
