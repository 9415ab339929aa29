"""Sums over stored numbers and texts: a bit that turned over on a disk or on the way is found before it is used.

CRC-32 finds every change of up to 32 bits in a row, and all but one in four billion of any others. Of what Python
comes with, it is among the fastest: 2.7 GB a second where SHA-256 makes 0.8. It says that a file is as it was written,
not who wrote it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping

import torch
from torch import Tensor

from gfocal.serialization.bounds import Unreadable

_VARIANCES = ("running_var", "._variance")
ALGORITHM = "crc32"
KEY = "sums"
"""Where sums stand among a safetensors file's texts."""


def sum_of_text(text: str) -> str:
    """Eight hexadecimal digits."""
    return f"{zlib.crc32(text.encode()):08x}"


def sum_of_tensor(tensor: Tensor) -> str:
    """Eight hexadecimal digits for the type, the shape and the bytes of a tensor on the CPU."""
    start = zlib.crc32(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    if tensor.numel():
        content = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
        start = zlib.crc32(content.data, start)
    return f"{start:08x}"


def describe_sums(tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> str:
    """The sums of a file's tensors and texts, as one text."""
    return json.dumps(
        {
            "algorithm": ALGORITHM,
            "texts": {name: sum_of_text(text) for name, text in texts.items()},
            "tensors": {name: sum_of_tensor(tensor) for name, tensor in tensors.items()},
        }
    )


def check_texts(texts: Mapping[str, str]) -> None:
    """Compare a file's texts with their sums; a file without sums passes.

    Raises:
        Unreadable: naming the first text that is not what was written.
    """
    for name, expected in _read(texts).get("texts", {}).items():
        if name not in texts or sum_of_text(texts[name]) != expected:
            raise Unreadable(f"its text {name!r} is not what was written")


def check_tensors(texts: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
    """Compare a file's tensors with their sums; a file without sums passes.

    Raises:
        Unreadable: naming the tensors that are not what was written.
    """
    sums = _read(texts).get("tensors")
    if sums is None:
        return
    changed = [
        name for name, expected in sums.items() if name not in tensors or sum_of_tensor(tensors[name]) != expected
    ]
    changed += [name for name in tensors if name not in sums]
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise Unreadable(
            f"{len(changed)} of {len(sums)} tensors are not what was written: {', '.join(changed[:3])}{more} (a tool "
            f"that changes them on purpose must leave out the text {KEY!r} of the metadata)"
        )


def count_not_finite(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """How many numbers of each tensor are infinite or not a number, of those that have some."""
    return {name: count for name, tensor in tensors.items() if (count := _not_finite(tensor))}


def describe_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Which numbers are not finite, in words; None if all are."""
    return _described(tensors, count_not_finite(tensors))


def describe_unusable(tensors: Mapping[str, Tensor]) -> str | None:
    """Which weights no network can compute with, in words; None if it can with all.

    They are infinite, or not a number, or variances of batch norms (``running_var``, in files of paddle ``_variance``)
    below 0: their square root is no number, and the network finds nothing.
    """
    if where := describe_not_finite(tensors):
        return f"weights that are infinite or not a number: {where}"
    below = {name: count for name, tensor in tensors.items() if (count := _below_zero(name, tensor))}
    return f"variances below 0: {where}" if (where := _described(tensors, below)) else None


def _described(tensors: Mapping[str, Tensor], found: Mapping[str, int]) -> str | None:
    if not found:
        return None
    parts = [f"{count:,} of {tensors[name].numel():,} in {name}" for name, count in list(found.items())[:3]]
    more = f", and in {len(found) - 3} more tensors" if len(found) > 3 else ""
    return f"{', '.join(parts)}{more}"


def _not_finite(tensor: Tensor) -> int:
    # A sum is infinite or no number if one of its terms is, and takes a tenth of the time of looking at each of them.
    wide = torch.promote_types(tensor.dtype, torch.float32)
    if not tensor.is_floating_point() or bool(tensor.sum(dtype=wide).isfinite()):
        return 0
    return int((~tensor.isfinite()).sum())


def _below_zero(name: str, tensor: Tensor) -> int:
    is_variance = name.endswith(_VARIANCES) and tensor.is_floating_point()
    return int((tensor < 0).sum()) if is_variance else 0


def _read(texts: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The sums of a file by kind; {} for a file that has none."""
    if KEY not in texts:
        return {}
    try:
        sums = json.loads(texts[KEY])
        known = sums["algorithm"] == ALGORITHM and all(isinstance(sums[kind], dict) for kind in ("texts", "tensors"))
    except (ValueError, TypeError, KeyError, RecursionError):
        known = False
    if not known:
        raise Unreadable("its sums cannot be read")
    return {kind: sums[kind] for kind in ("texts", "tensors")}
