"""Which precision is computed in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from gfocal.detector import DenseDetector
from gfocal.errors import UsageError
from gfocal.recipe import Recipe


def real_precision(asked: str) -> str:
    """What "fp32", "bf16", "fp16" or "auto" stands for: auto is bf16 where a CUDA device computes in it, else fp32."""
    if asked != "auto":
        return asked
    native = torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if native else "fp32"


def usable_precision(detector: DenseDetector, recipe: Recipe) -> str:
    """The recipe's, but a model trained in fp16 on a GPU runs in fp32 on a CPU."""
    precision = real_precision(recipe.runtime.precision)
    return "fp32" if detector.device.type == "cpu" and precision == "fp16" else precision


def require_precision(precision: object) -> None:
    """Refuse what is no precision to compute in.

    Raises:
        UsageError: it is not "fp32", "bf16" or "fp16".
    """
    if not isinstance(precision, str) or precision not in ("fp32", "bf16", "fp16"):
        raise UsageError(f"precision must be fp32, bf16 or fp16, got {precision!r}")


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """A context that computes in "fp32", "bf16" or "fp16"."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16 if precision == "bf16" else torch.float16)


def has_fast_bf16() -> bool:
    """Whether this CPU computes in bf16 itself; every other one only imitates it, and slowly."""
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and bool(torch.cpu._is_avx512_bf16_supported())
    except (AttributeError, RuntimeError):
        return False
