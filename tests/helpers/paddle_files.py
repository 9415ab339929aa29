"""Files as PaddlePaddle writes them: a pickle of arrays by name, by whatever numpy and protocol."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

NAME_TABLE = "StructuredToParameterName@@"
_MODULES = {"core": b"numpy.core.", "_core": b"numpy._core."}


def pickled(content: Any, protocol: int = 4, numpy: str = "core") -> bytes:
    """The pickle of a value as numpy 1 ("core") or 2 ("_core") writes it."""
    out = io.BytesIO()
    pickle.Pickler(out, protocol).dump(content)
    data = out.getvalue()
    for part in ("multiarray", "numeric"):
        wanted = _MODULES[numpy] + part.encode()
        for other in (name + part.encode() for name in _MODULES.values()):
            # With its length before it, or as a line of its own.
            data = data.replace(bytes([len(other)]) + other, bytes([len(wanted)]) + wanted)
            data = data.replace(b"c" + other + b"\n", b"c" + wanted + b"\n")
    return data


def save_paddle(path: Path, state: Mapping[str, Any], protocol: int = 4, numpy: str = "core") -> Path:
    """A ``.pdparams`` file with the table of names that paddle adds."""
    table = {name: f"parameter_{i}" for i, name in enumerate(state)}
    path.write_bytes(pickled({**state, NAME_TABLE: table}, protocol, numpy))
    return path


class Tensor:
    """Stands for a tensor of paddle, which pickles as its name and its array."""

    def __init__(self, name: str, array: np.ndarray) -> None:
        self.pair = name, array

    def __reduce__(self) -> Any:
        return tuple, (self.pair,)


class LoDTensor:
    """Stands for another, which pickles as a call of eval that gives its array."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __reduce__(self) -> Any:
        return eval, ("data", {"data": self.array})
