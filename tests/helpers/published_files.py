"""Files as projects publish them, small, and entries of a catalogue for them."""

from __future__ import annotations

import functools
import io
from typing import Any

import torch

from gfocal.catalogue.entries import Published, Source
from gfocal.data.formats.coco.classes import COCO_NAMES
from gfocal.interop.nanodet import _M, _PLUS
from gfocal.recipe import load_recipe
from gfocal.zoo import build_detector

OPEN = Source("Somebody", "https://example.org/zoo", "Apache-2.0")
CLOSED = Source("Somebody else", "https://example.org/nc", "CC BY-NC 4.0", noncommercial=True)


def entry(address: str, name: str = "small_r1_coco", **more: Any) -> Published:
    """A readable one; ``more`` replaces what it has."""
    own: dict[str, Any] = {
        "name": name,
        "source": OPEN,
        "detector": "NanoDet-m",
        "backbone": "ShuffleNetV2-1.0x",
        "addresses": (address,),
        "state": "reads",
        "reason": "tensors of NanoDet-m",
        "ap": 20.5,
        "row": "gfl_nano",
    }
    return Published(**{**own, **more})


@functools.cache
def nanodet_file(row: str = "gfl_nano", *changes: str, classes: int = 80) -> bytes:
    """A checkpoint of NanoDet-m (or of NanoDet-Plus) with random values, as its trainer writes one."""
    torch.manual_seed(0)
    detector = build_detector(load_recipe(row, changes), COCO_NAMES[:classes], pretrained=False)
    theirs = (_PLUS if row.startswith("nanodet_plus") else _M).names.their_name
    state = {f"model.{theirs(name)}": tensor for name, tensor in detector.state_dict().items()}
    file = io.BytesIO()
    torch.save({"state_dict": state, "epoch": 1}, file)
    return file.getvalue()
