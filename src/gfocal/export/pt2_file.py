"""torch's own format, ``.pt2``: ``torch.export.load`` reads it, nothing of gfocal is needed."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule

from gfocal.export.int8 import Int8
from gfocal.export.ranking import Best, stable_best
from gfocal.export.suppression import Suppress, greedy_mask
from gfocal.export.trace import quiet
from gfocal.exported.contract import ABOUT, ExportInfo
from gfocal.models import PostProcess

best: Best = stable_best


def suppression(post: PostProcess, classes: int) -> Suppress:
    """A loop of torch's operators: those of torchvision are not there where only torch is."""
    return partial(greedy_mask, iou=post.nms_iou, limit=post.max_detections)


def write(program: ExportedProgram, info: ExportInfo, file: Path, int8: Int8 | None = None) -> ExportInfo:
    """Write a traced graph with torch; ``int8`` is None, since the format has no such precision."""
    assert int8 is None
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, GraphModule) else ():
            node.meta.pop("stack_trace", None)  # where this program lies on this machine
    with quiet(), file.open("wb") as opened:
        torch.export.save(program, opened, extra_files={ABOUT: info.to_text()})
    return info
