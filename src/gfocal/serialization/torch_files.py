"""Checkpoint files of torch, read without torch's unpickler: tensors and plain values, nothing else.

Both formats are read: the zip files of torch 1.6 and later, and the older ones, in which most weights of 2020 are
published. What a file's pickle names besides tensors (an optimizer's objects, a message hub, anything hostile) is never
imported or called; see :mod:`gfocal.serialization.pickled`.
"""

from __future__ import annotations

import io
import math
import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from gfocal.errors import UsageError
from gfocal.serialization import bounds
from gfocal.serialization.bounds import Unreadable, check_at_most
from gfocal.serialization.pickled import Foreign, Name, PickleMachine
from gfocal.serialization.torch_archive import ZIP_MAGIC, Archive

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
"""The first value of a file of torch before 1.6."""
_LEGACY_VERSION = 1001
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
_CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "ema_state_dict", "model")
"""Where tensors stand, the averaged ones of timm and torchvision first; mmengine has those under ``state_dict``."""
_STORAGE_MODULES = ("torch", "torch.cuda", "torch.storage")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        state: the tensors of its state dict by name; an entry that is none stays as it was read.
        meta: what the file says about itself; empty if it says nothing.
        foreign: classes and functions that its pickle names; none of them was imported or called.
        container: under what key the tensors stood; empty if the file is a state dict itself.
        others: the file's other keys, if the tensors stood under one.
        notes: which of several sets of weights the tensors are, a sentence each.
    """

    state: dict[str, object]
    meta: dict[str, object]
    foreign: tuple[str, ...] = ()
    container: str = ""
    others: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


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

    The tensors are those under ``state_dict`` (averaged ones under ``state_dict_ema`` or ``model_ema`` go before, those
    under ``ema_state_dict`` or ``model`` come after), or all of them where the file is a state dict itself. Optimizer
    state and the like stays unread.

    Raises:
        UsageError: there is no such file, or it is damaged or of another kind (TorchScript, safetensors, tar, ...).
    """
    if not file.is_file():
        raise UsageError(f"there is no checkpoint {file}")
    try:
        with file.open("rb") as opened:
            zipped = opened.read(4) == ZIP_MAGIC
        return _read_zip(file) if zipped else _read_legacy(file)
    except Exception as error:  # damaged files fail in many ways
        reason = str(error) if isinstance(error, Unreadable) else f"damaged: {type(error).__name__}"
        raise UsageError(f"{file} is not a checkpoint of tensors ({reason}); nothing in it was run") from error


# --- the two formats


def check_torch_file(file: Path) -> None:
    """Refuse a zip file of torch's that is not as it was written, without making anything of it.

    Every record is compared with its sum (CRC-32), as torch itself does not, and must be as long as its tensors say.

    Raises:
        Unreadable: naming what is wrong, and the tensors whose numbers are.
        Exception: of any kind, for a file that is damaged elsewhere.
    """
    with Archive.opened(file) as archive:
        content, _ = _content(archive)
        owners: dict[str, list[str]] = {}
        for name, stored in _stored_in(content):
            owners.setdefault(f"data/{stored.storage.key}", []).append(name)
            _check_shape(stored)
            if archive.length(f"data/{stored.storage.key}") != stored.storage.total * stored.storage.dtype.itemsize:
                raise Unreadable(f"{name} has another length than its record")
        damaged = [record for record in archive.records if not archive.is_intact(record)]
    if damaged:
        names = [name for record in damaged for name in owners.get(record, [record])]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise Unreadable(f"not what was written: {', '.join(names[:3])}{more}")


def check_weights_file(file: Path) -> None:
    """Refuse a file of weights that is damaged or asks for more than it holds, before another reader opens it.

    Raises:
        Unreadable: a zip file of torch's, see :func:`check_torch_file`; or the header of a safetensors file.
        Exception: of any kind, for a file that is damaged elsewhere.
    """
    if file.suffix == ".safetensors":
        from gfocal.serialization.tensor_files import read_texts  # here: backbones are imported without safetensors

        read_texts(file)
        return
    with file.open("rb") as opened:
        zipped = opened.read(4) == ZIP_MAGIC
    if zipped:  # the older format has no room for such things: its records follow each other
        check_torch_file(file)


def _stored_in(content: Any) -> Iterator[tuple[str, _Stored]]:
    """The tensors in nested dictionaries and lists, with the keys that lead to each."""
    waiting: list[tuple[str, Any]] = [("", content)]
    seen: set[int] = set()  # one inside itself, or in itself many times
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, _Stored):
            yield name.removeprefix("."), value
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += [(f"{name}.{str(key)[:200]}"[-1000:], part) for key, part in inner]


def _content(archive: Archive) -> tuple[Any, PickleMachine]:
    """What its pickle holds, with tensors that are not read yet."""
    check_at_most(archive.length("data.pkl"), bounds.PROGRAM, "its pickle has {} bytes")
    machine = PickleMachine(_MAKERS, _zip_storage)
    return machine.read(io.BytesIO(archive.read("data.pkl"))), machine


def _read_zip(file: Path) -> Checkpoint:
    with Archive.opened(file) as archive:
        content, machine = _content(archive)
        size = file.stat().st_size
        return _checkpoint(content, machine, lambda storage: archive.read(f"data/{storage.key}"), size)


def _zip_storage(identifier: Any) -> Any:
    """Of ("storage", type, key, location, count)."""
    _, kind, key, _, count = identifier
    return _storage(kind, key, count, 0, count)


def _read_legacy(file: Path) -> Checkpoint:
    """Pickles one after the other (magic number, version, machine, content, keys of the records), then the records."""
    if file.stat().st_size == 0:
        raise Unreadable("an empty file")
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
        if mapped[:1] != b"\x80" or machine.read(stream) != LEGACY_MAGIC:
            raise Unreadable("no format of torch's")
        if machine.read(stream) != _LEGACY_VERSION or machine.read(stream).get("little_endian") is not True:
            raise Unreadable("a version or byte order that nobody writes any more")
        content, keys = machine.read(stream), machine.read(stream)
        places: dict[str, slice] = {}
        end = mapped.tell()
        for key in keys:
            if key not in storages:
                raise Unreadable("it has tensors of a type that cannot be read")
            count, start = int.from_bytes(mapped[end : end + 8], "little"), end + 8
            end = start + count * storages[key].dtype.itemsize
            if end > len(mapped):  # also where it ends inside the count of an empty storage
                raise Unreadable("it is cut off")
            places[key] = slice(start, end)
        return _checkpoint(content, machine, lambda storage: mapped[places[storage.key]], len(mapped))


# --- from stored numbers to tensors


def _checkpoint(content: Any, machine: PickleMachine, read: Callable[[_Storage], bytes], size: int) -> Checkpoint:
    if not isinstance(content, dict):
        raise Unreadable("it holds no dictionary")
    container = next((key for key in _CONTAINERS if isinstance(content.get(key), dict)), "")
    named, meta = (content[container], content.get("meta")) if container else (content, None)
    others = tuple(str(key)[:100] for key in content if key != container) if container else ()
    room = bounds.SHARED * size
    for value in named.values():
        if isinstance(value, _Stored):
            _check_shape(value)
            room -= math.prod(value.size) * value.storage.dtype.itemsize
    if room < 0:
        raise Unreadable(f"its tensors are over {bounds.SHARED} times as large as the file")
    records: dict[str, Tensor] = {}  # tensors may share one
    state = {
        str(name): _tensor(value, read, records) if isinstance(value, _Stored) else value
        for name, value in named.items()
    }
    return Checkpoint(state, meta if isinstance(meta, dict) else {}, tuple(machine.foreign), container, others)


def _check_shape(stored: _Stored) -> None:
    """Refuse a tensor that has more numbers than its storage, or dimensions that no file of its size could have."""
    storage, size, stride = stored.storage, stored.size, stored.stride
    numbers = (stored.offset, storage.total, storage.start, storage.count, *size, *stride)
    if any(type(number) is not int or number < 0 for number in numbers) or math.prod(size) > storage.count:
        raise Unreadable("a tensor has an impossible shape")
    # Without numbers it has room for any other dimensions, and whoever builds a layer of that shape does not.
    if len(size) != len(stride) or math.prod(n for n in size if n) > bounds.DIMENSION:
        raise Unreadable("a tensor has an impossible shape")


def _tensor(stored: _Stored, read: Callable[[_Storage], bytes], records: dict[str, Tensor]) -> Tensor:
    storage, size, stride = stored.storage, stored.size, stored.stride
    if math.prod(size) == 0:
        return torch.empty(size, dtype=storage.dtype)
    if storage.key not in records:
        records[storage.key] = torch.frombuffer(bytearray(read(storage)), dtype=storage.dtype)
    flat = records[storage.key]
    last = stored.offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if last >= storage.count or storage.start + storage.count > storage.total or len(flat) != storage.total:
        raise Unreadable("a tensor does not lie inside the file")
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
