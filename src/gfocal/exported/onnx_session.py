"""Running ONNX files by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from gfocal.errors import UsageError
from gfocal.exported.contract import INPUTS, ExportInfo
from gfocal.exported.onnx_file import check_onnx
from gfocal.utils.processor import asked_threads

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
"""What runs a graph, by the names that people type."""


class OnnxSession:
    """An ONNX file that gfocal wrote, ready to run.

    Args:
        path: the file.
        provider: a name of :data:`PROVIDERS`; None: the CPU.
        threads: of an operator; None: a core each.

    Attributes:
        info: what the file says about itself.

    Raises:
        UsageError: onnxruntime is missing or has no such provider; the file is no ONNX, damaged, of another project, or
            keeps weights outside of itself.
    """

    def __init__(self, path: Path, *, provider: str | None = None, threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise UsageError(f"{path} needs onnxruntime: pip install onnxruntime ({error})") from None
        chosen = _provider("cpu" if provider is None else provider, onnxruntime.get_available_providers())
        content = path.read_bytes()
        check_onnx(content, path)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # it would print what is raised, too
        options.intra_op_num_threads = threads or asked_threads() or 0
        try:
            # From bytes, not from the path: a graph cannot name other files to read.
            self._session = onnxruntime.InferenceSession(content, options, providers=[chosen])
            texts: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
            own = [value.name for value in self._session.get_inputs()], [v.name for v in self._session.get_outputs()]
        except Exception as error:  # many kinds, none of which has a base of its own; texts may be no UTF-8
            raise UsageError(_reason(path, str(error))) from None
        self.info = ExportInfo.from_texts(texts, str(path))
        if own != (list(INPUTS), list(self.info.outputs)):
            raise UsageError(
                f"{path} was changed after it was exported: it takes {', '.join(own[0])} and gives {', '.join(own[1])}"
            )

    def run(self, images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        """The graph's outputs by name, see :mod:`gfocal.exported.contract`."""
        values = self._session.run(None, dict(zip(INPUTS, (images, sizes), strict=True)))
        return dict(zip(self.info.outputs, values, strict=True))


def _provider(name: str, available: Sequence[str]) -> str:
    if name not in PROVIDERS:
        raise UsageError(f"--provider is one of {', '.join(PROVIDERS)}, not {name!r}")
    if PROVIDERS[name] not in available:
        here = [known for known, full in PROVIDERS.items() if full in available]
        raise UsageError(f"this onnxruntime has no provider {name}; it has {', '.join(here)}")
    return PROVIDERS[name]


def _reason(path: Path, words: str) -> str:
    line = " ".join(words.split())[:200]
    if any(word in words.lower() for word in ("opset", "ir version", "ir_version", "no op registered")):
        return f"{path} uses operators that this onnxruntime does not know ({line}); update it, or export with --opset"
    return f"{path} is not an ONNX file that can be run, or is damaged ({line}); export it again"
