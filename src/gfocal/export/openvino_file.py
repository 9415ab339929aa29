"""OpenVINO's own files: the graph as ``.xml``, its weights as ``.bin`` beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch.export import ExportedProgram

from gfocal.errors import UsageError
from gfocal.export import onnx_file
from gfocal.export.int8 import Int8, quantized_openvino
from gfocal.exported.contract import ABOUT, ExportInfo
from gfocal.exported.openvino_session import WEIGHTS, digest_of, openvino_core

# OpenVINO reads the graph as ONNX: its operators do the same there, suppression and the first of equal scores too.
best = onnx_file.best
suppression = onnx_file.suppression


def write(program: ExportedProgram, info: ExportInfo, file: Path, int8: Int8 | None = None) -> ExportInfo:
    """Write a traced graph with OpenVINO.

    Raises:
        UsageError: it is larger than 2 GB, or this processor has no bfloat16 to prove such a file with.
    """
    core = openvino_core()
    if info.precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise UsageError("this processor has no bfloat16, so that nothing could be proved here: export as fp32")
    graph = onnx_file.converted(program, replace(info, opset=onnx_file.OPSET))
    model = core.read_model(graph.SerializeToString())
    if int8 is not None:
        model, quantization = quantized_openvino(model, int8)
        info = replace(info, quantization=quantization)
    _save(model, file)
    weights = file.with_suffix(".bin").read_bytes()
    model.set_rt_info(info.to_text(), ABOUT)
    model.set_rt_info(digest_of(weights), WEIGHTS)
    _save(model, file)
    if file.with_suffix(".bin").read_bytes() != weights:
        raise RuntimeError("OpenVINO wrote the same weights in two ways")
    return info


def _save(model: object, file: Path) -> None:
    import openvino

    openvino.save_model(model, file, compress_to_fp16=False)
