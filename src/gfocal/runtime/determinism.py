"""The same bits each time, on GPUs too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gfocal.errors import GfocalError


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Inside, torch takes only operations that give the same bits each time; one that has no such form raises.

    cuBLAS reads its setting when it is first used in a process: it must not have been before.

    Args:
        wanted: False changes nothing.
    """
    if not wanted:
        yield
        return
    cudnn = torch.backends.cudnn
    before = torch.get_deterministic_debug_mode(), cudnn.deterministic, cudnn.benchmark
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before[0])
        cudnn.deterministic, cudnn.benchmark = before[1:]


def no_deterministic_form(error: BaseException) -> GfocalError | None:
    """What to say where an operation has no form that gives the same bits; None where it is something else."""
    text = " ".join(str(error).split())
    if "deterministic" not in text or not isinstance(error, RuntimeError):
        return None
    return GfocalError(
        f"runtime.deterministic: an operation cannot give the same bits each time on this device: {text.split('. ')[0]}"
        ". Set runtime.deterministic=false, or train on a CPU"
    )
