"""Safetensors files with sums of what is in them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from gfocal.serialization import bounds
from gfocal.serialization.bounds import check_at_most
from gfocal.serialization.sums import KEY, check_tensors, check_texts, describe_sums


class NoTensorFile(ValueError):
    """Why a file is no safetensors file, or one with a damaged header."""


def tensor_file_bytes(tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> bytes:
    """The content of a safetensors file, with sums of its tensors and texts.

    Args:
        tensors: by name, on the CPU, contiguous, none of them sharing memory.
        texts: what else the file says, by name.
    """
    return save(dict(tensors), metadata={**texts, KEY: describe_sums(tensors, texts)})


def read_texts(path: Path) -> dict[str, str]:
    """What a safetensors file says beside its tensors, the sums among it; {} where it says nothing.

    Raises:
        NoTensorFile: it is no such file, or its header is damaged.
        Unreadable: a text is not what was written, or the header is over :data:`gfocal.serialization.bounds.HEADER`.
    """
    with _opened(path) as file:
        texts = file.metadata() or {}
    check_texts(texts)
    return texts


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name, each compared with its sum; of a file without sums as they are.

    Raises:
        NoTensorFile: it is no such file, or its header is damaged.
        Unreadable: a text or a tensor is not what was written.
    """
    with _opened(path) as file:
        texts = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    check_texts(texts)
    check_tensors(texts, tensors)
    return tensors


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with path.open("rb") as start:
            length, size = int.from_bytes(start.read(8), "little"), os.fstat(start.fileno()).st_size
        if length > size:
            raise NoTensorFile("its header is longer than the file")
        check_at_most(length, bounds.HEADER, "its header has {} bytes")
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise NoTensorFile(str(error)) from error
