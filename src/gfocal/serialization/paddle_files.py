"""Weights of PaddlePaddle (``.pdparams``): one pickle of numpy arrays by name, read without Python's unpickler.

It is read by :mod:`gfocal.serialization.pickled`, which has no means to import or call anything. What arrays are
pickled as (by numpy 1 and 2, in protocols 2 to 5) and what paddle puts around them is arranged by functions of this
module; a file whose pickle names anything else to be called is refused. Such files hold arrays and names alone.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from gfocal.errors import UsageError
from gfocal.serialization import bounds
from gfocal.serialization.bounds import Unreadable
from gfocal.serialization.pickled import PickleMachine, Stateful
from gfocal.serialization.torch_files import Checkpoint

NAME_TABLE = "StructuredToParameterName@@"
"""What paddle calls each tensor inside; of no use to anybody else."""
_SLICES = "UnpackBigParamInfor@@"
"""Which entries are the slices of one array: protocols 2 and 3 have no room for large ones."""
_DTYPES = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "b1")
_MOST_DIMENSIONS = 32


def read_paddle(file: Path) -> Checkpoint:
    """The tensors of a ``.pdparams`` file by name.

    Raises:
        UsageError: there is no such file, it is damaged, no such pickle, or one that calls what no array needs.
    """
    if not file.is_file():
        raise UsageError(f"there is no checkpoint {file}")
    try:
        with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            machine = PickleMachine(_MAKERS, _persistent)
            content = machine.read(cast(Any, mapped))  # it reads like a file
            if machine.foreign:
                some = ", ".join(_short(name) for name in list(machine.foreign)[:3])
                raise Unreadable(f"its pickle calls {some}, which weights have no need of")
            return _checkpoint(content, len(mapped))
    except Exception as error:  # damaged files fail in many ways
        reason = str(error) if isinstance(error, Unreadable) else f"damaged: {type(error).__name__}"
        raise UsageError(f"{file} is not a file of weights ({reason}); nothing in it was run") from error


def _checkpoint(content: Any, size: int) -> Checkpoint:
    if isinstance(content, Stateful) and content.kind == "pairs":
        content = dict(content.arguments[0])
    if not isinstance(content, dict):
        raise Unreadable("its pickle holds no dictionary")
    named = {str(name): _unwrapped(value) for name, value in content.items()}
    notes = []
    if (table := named.pop(NAME_TABLE, None)) is not None:
        many = f" of {len(table):,} names" if isinstance(table, dict) else ""
        notes.append(f"{NAME_TABLE}, paddle's own table{many}, is left out")
    arrays = {name: value for name, value in named.items() if _is_array(value)}
    if sum(_bytes_of(array) for array in arrays.values()) > bounds.SHARED * size:
        raise Unreadable(f"its arrays are over {bounds.SHARED} times as large as the file")
    state = {name: _tensor(value) if name in arrays else value for name, value in named.items()}
    return Checkpoint(_joined(state), {}, notes=tuple(notes))


def _unwrapped(value: Any) -> Any:
    """An array that stands beside the name of its tensor, alone."""
    pair = isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)
    return value[1] if pair and _is_array(value[1]) else value


def _joined(state: dict[str, object]) -> dict[str, object]:
    """The state with arrays that were cut into slices in one piece."""
    table = state.pop(_SLICES, None)
    for name, about in table.items() if isinstance(table, dict) else ():
        parts = [state.pop(part) for part in about["slices"]]
        if not all(isinstance(part, Tensor) for part in parts):
            raise Unreadable(f"the slices of {_short(str(name))} are no arrays")
        state[str(name)] = torch.cat([cast(Tensor, part).flatten() for part in parts]).reshape(*about["OriginShape"])
    return state


# --- arrays


def _is_array(value: Any) -> bool:
    return isinstance(value, Stateful) and value.kind == "array"


def _content_of(array: Stateful) -> tuple[Any, Any, Any, Any]:
    """(shape, dtype, whether the first dimension lies closest, bytes) of an array that has not been made."""
    if not isinstance(array.state, tuple) or len(array.state) != 5:
        raise Unreadable("an array has no content")
    _, shape, dtype, fortran, data = array.state
    if isinstance(data, Stateful) and data.kind == "bytes":
        data = data.arguments[0]
    return shape, dtype, fortran, data


def _bytes_of(array: Stateful) -> int:
    data = _content_of(array)[3]
    return len(data) if isinstance(data, bytes | bytearray | str) else 0


def _tensor(array: Stateful) -> Tensor:
    shape, dtype, fortran, data = _content_of(array)
    if isinstance(data, str):  # as Python 2 and protocol 2 write bytes
        data = data.encode("latin-1")
    kind = _dtype(dtype)
    whole = isinstance(shape, tuple) and all(type(n) is int and n >= 0 for n in shape)
    if not whole or len(shape) > _MOST_DIMENSIONS or math.prod(n for n in shape if n) > bounds.DIMENSION:
        raise Unreadable("an array has an impossible shape")
    if not isinstance(data, bytes | bytearray) or len(data) != math.prod(shape) * kind.itemsize:
        raise Unreadable("an array has another length than its shape says")
    values = np.frombuffer(data, kind).reshape(shape, order="F" if fortran else "C")
    return torch.from_numpy(np.array(values, kind.newbyteorder("="), order="C"))


def _dtype(value: Any) -> np.dtype:
    """The type of an array's numbers: those that torch has, too."""
    code = value.arguments[0] if isinstance(value, Stateful) and value.kind == "dtype" and value.arguments else None
    order = value.state[1] if isinstance(value, Stateful) and isinstance(value.state, tuple) else "="
    if code not in _DTYPES or order not in ("<", ">", "|", "="):
        raise Unreadable(f"an array is of numbers of the type {_short(str(code))}")
    return np.dtype(f"{order}{code}")


def _short(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:100])


# --- what a pickle of arrays calls


def _persistent(_: Any) -> Any:
    raise Unreadable("its pickle is that of another program: it refers to what is stored elsewhere")


def _from_buffer(arguments: tuple[Any, ...]) -> Stateful:
    """Of numpy's ``_frombuffer``, by which protocol 5 writes arrays."""
    data, dtype, shape, order = arguments
    return Stateful("array", (), (1, shape, dtype, order == "F", data))


def _scalar(arguments: tuple[Any, ...]) -> Stateful:
    """Of numpy's ``scalar``: an array of no dimension."""
    dtype, data = arguments
    return Stateful("array", (), (1, (), dtype, False, data))


def _encoded(arguments: tuple[Any, ...]) -> Stateful:
    """Of ``_codecs.encode``, by which protocol 2 writes bytes.

    They are not made yet: a pickle of a few bytes can ask for it as often as it likes.
    """
    text, encoding = arguments
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise Unreadable("its pickle calls _codecs.encode on something else than bytes")
    return Stateful("bytes", (text,))


def _no_bytes(arguments: tuple[Any, ...]) -> bytes:
    """Of ``bytes()``, by which protocol 2 writes an empty array's."""
    if arguments:
        raise Unreadable("its pickle calls bytes on something")
    return b""


def _evaluated(arguments: tuple[Any, ...]) -> Any:
    """Of ``eval("data", {"data": array})``, by which paddle writes some of its tensors; of any other, nothing."""
    if len(arguments) != 2 or arguments[0] != "data" or not isinstance(arguments[1], dict):
        raise Unreadable("its pickle calls eval on a program")
    return arguments[1]["data"]


def _ordered(arguments: tuple[Any, ...]) -> Any:
    """An OrderedDict, which Python 3 fills afterwards, and Python 2 at once."""
    return Stateful("pairs", arguments) if arguments else {}


def _pair(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Of ``tuple((name, array))``, by which paddle writes some of its tensors."""
    (pair,) = arguments
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        raise Unreadable("its pickle calls tuple on something else than a name and an array")
    return tuple(pair)


_MAKERS: dict[tuple[str, str], Callable[[tuple[Any, ...]], Any]] = {
    ("numpy", "dtype"): lambda arguments: Stateful("dtype", arguments),
    ("_codecs", "encode"): _encoded,
    ("collections", "OrderedDict"): _ordered,
    ("paddle.framework.io_utils", "_reconstruct_dense_tensor_data"): lambda arguments: arguments[0],
    **{(f"numpy.{core}.multiarray", "_reconstruct"): lambda _: Stateful("array", ()) for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
    **{(builtins, "bytes"): _no_bytes for builtins in ("builtins", "__builtin__")},
    **{(builtins, "tuple"): _pair for builtins in ("builtins", "__builtin__")},
    **{(builtins, "eval"): _evaluated for builtins in ("builtins", "__builtin__")},
}
"""What the names that arrays are pickled by mean here: functions of ours that only arrange values."""
