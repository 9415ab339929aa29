"""Checkpoint files of torch, read without torch's unpickler: tensors and plain values, nothing else.

Both formats are read: the zip files of torch 1.6 and later, and the older ones, in which most weights of 2020 are
published. What a file's pickle names besides tensors (an optimizer's objects, a message hub, anything hostile) is never
imported or called; see :mod:`gfocal.serialization.pickled`.
"""

from __future__ import annotations

import io
import math
import mmap
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from gfocal.errors import UsageError
from gfocal.serialization.pickled import Foreign, Name, PickleMachine

_ZIP_MAGIC = b"PK\x03\x04"
_LEGACY_MAGIC, _LEGACY_VERSION = 0x1950A86A20F9469CFC6C, 1001
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        state: the tensors of its state dict by name; an entry that is none stays as it was read.
        meta: what the file says about itself; empty if it says nothing.
        foreign: classes and functions that its pickle names; none of them was imported or called.
    """

    state: dict[str, object]
    meta: dict[str, object]
    foreign: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Storage:
    """A run of numbers: ``count`` of them from ``start``, in the file's record ``key``, which has ``total``."""

    key: str
    dtype: torch.dtype
    total: int
    start: int
    count: int


@dataclass(frozen=True)
class _Stored:
    """A tensor that has not been read yet."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def read_checkpoint(file: Path) -> Checkpoint:
    """The tensors and the description that a ``.pth``, ``.pt`` or ``.ckpt`` file of torch holds.

    The tensors are those under ``state_dict``, or all of them where the file is a state dict itself. Optimizer state
    and the like stays unread.

    Raises:
        UsageError: there is no such file, or it is damaged or of another kind (TorchScript, safetensors, tar, ...).
    """
    if not file.is_file():
        raise UsageError(f"there is no checkpoint {file}")
    try:
        with file.open("rb") as opened:
            zipped = opened.read(4) == _ZIP_MAGIC
        return _read_zip(file) if zipped else _read_legacy(file)
    except Exception as error:  # damaged files fail in many ways
        reason = str(error) if isinstance(error, _Unreadable) else f"damaged: {type(error).__name__}"
        raise UsageError(f"{file} is not a checkpoint of tensors ({reason}); nothing in it was run") from error


class _Unreadable(ValueError):
    """Why a file cannot be read, in words."""


# --- the two formats


def _read_zip(file: Path) -> Checkpoint:
    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
        roots = [n.removesuffix("data.pkl") for n in names if n.endswith("data.pkl") and n.count("/") <= 1]
        if len(roots) != 1:
            raise _Unreadable("a zip file of another kind")
        root = roots[0]
        if f"{root}constants.pkl" in names:
            raise _Unreadable("a TorchScript archive, a program rather than weights")

        def record(name: str) -> bytes:
            # torch never compresses; a compressed record could unpack to any size.
            if archive.getinfo(root + name).compress_type != zipfile.ZIP_STORED:
                raise _Unreadable("it has compressed records, which torch does not write")
            return archive.read(root + name)

        if f"{root}byteorder" in names and record("byteorder") != b"little":
            raise _Unreadable("written on a big-endian machine")
        machine = PickleMachine(_MAKERS, _zip_storage)
        content = machine.read(io.BytesIO(record("data.pkl")))
        return _checkpoint(content, machine, lambda storage: record(f"data/{storage.key}"))


def _zip_storage(identifier: Any) -> Any:
    """Of ("storage", type, key, location, count)."""
    _, kind, key, _, count = identifier
    return _storage(kind, key, count, 0, count)


def _read_legacy(file: Path) -> Checkpoint:
    """Pickles one after the other (magic number, version, machine, content, keys of the records), then the records."""
    if file.stat().st_size == 0:
        raise _Unreadable("an empty file")
    storages: dict[Any, _Storage] = {}

    def persistent(identifier: Any) -> Any:
        # ("storage", type, key, location, count, None or (key, start, count) of a part). The other kind is
        # ("module", class, file, source), of times when whole networks were pickled.
        if identifier[0] != "storage":
            return Foreign("torch.nn.Module")
        _, kind, key, _, count, view = identifier
        start, part = (0, count) if view is None else view[1:]
        storage = _storage(kind, key, count, start, part)
        if isinstance(storage, _Storage):
            storages[storage.key] = storage
        return storage

    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        machine = PickleMachine(_MAKERS, persistent)
        stream = cast(Any, mapped)  # it reads like a file
        if mapped[:1] != b"\x80" or machine.read(stream) != _LEGACY_MAGIC:
            raise _Unreadable("no format of torch's")
        if machine.read(stream) != _LEGACY_VERSION or machine.read(stream).get("little_endian") is not True:
            raise _Unreadable("a version or byte order that nobody writes any more")
        content, keys = machine.read(stream), machine.read(stream)
        places: dict[str, slice] = {}
        end = mapped.tell()
        for key in keys:
            if key not in storages:
                raise _Unreadable("it has tensors of a type that cannot be read")
            count, start = int.from_bytes(mapped[end : end + 8], "little"), end + 8
            end = start + count * storages[key].dtype.itemsize
            if end > len(mapped):  # also where it ends inside the count of an empty storage
                raise _Unreadable("it is cut off")
            places[key] = slice(start, end)
        return _checkpoint(content, machine, lambda storage: mapped[places[storage.key]])


# --- from stored numbers to tensors


def _checkpoint(content: Any, machine: PickleMachine, read: Callable[[_Storage], bytes]) -> Checkpoint:
    if not isinstance(content, dict):
        raise _Unreadable("it holds no dictionary")
    inner = content.get("state_dict")
    named, meta = (inner, content.get("meta")) if isinstance(inner, dict) else (content, None)
    records: dict[str, Tensor] = {}  # tensors may share one
    state = {
        str(name).removeprefix("module."): _tensor(value, read, records) if isinstance(value, _Stored) else value
        for name, value in named.items()
    }
    return Checkpoint(state, meta if isinstance(meta, dict) else {}, tuple(machine.foreign))


def _tensor(stored: _Stored, read: Callable[[_Storage], bytes], records: dict[str, Tensor]) -> Tensor:
    storage, size, stride = stored.storage, stored.size, stored.stride
    numbers = (stored.offset, storage.total, storage.start, storage.count, *size, *stride)
    if any(type(number) is not int or number < 0 for number in numbers) or math.prod(size) > storage.count:
        raise _Unreadable("a tensor has an impossible shape")
    if math.prod(size) == 0:
        return torch.empty(size, dtype=storage.dtype)
    if storage.key not in records:
        records[storage.key] = torch.frombuffer(bytearray(read(storage)), dtype=storage.dtype)
    flat = records[storage.key]
    last = stored.offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if last >= storage.count or storage.start + storage.count > storage.total or len(flat) != storage.total:
        raise _Unreadable("a tensor does not lie inside the file")
    return flat.as_strided(size, stride, storage.start + stored.offset).contiguous()


def _storage(kind: Any, key: Any, total: Any, start: Any, count: Any) -> Any:
    if not isinstance(kind, Name) or kind.module not in _STORAGE_MODULES or kind.name not in _DTYPES:
        return Foreign(str(kind))
    return _Storage(str(key), _DTYPES[kind.name], total, start, count)


def _make_tensor(arguments: tuple[Any, ...]) -> Any:
    storage, offset, size, stride = arguments[:4]
    if not isinstance(storage, _Storage):
        return Foreign("torch.Tensor")
    return _Stored(storage, offset, tuple(size), tuple(stride))


_MAKERS: dict[tuple[str, str], Callable[[tuple[Any, ...]], Any]] = {
    ("collections", "OrderedDict"): lambda arguments: {},
    ("torch", "Size"): lambda arguments: tuple(arguments[0]) if arguments else (),
    ("torch._utils", "_rebuild_tensor"): _make_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _make_tensor,
    ("torch._utils", "_rebuild_parameter"): lambda arguments: arguments[0],
    ("torch._utils", "_rebuild_parameter_with_state"): lambda arguments: arguments[0],
}
"""What the names that tensors are stored under mean here: functions of ours that only arrange values."""
