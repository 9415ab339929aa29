"""Running OpenVINO files: ``best.xml`` is the graph, ``best.bin`` beside it the weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from gfocal.errors import UsageError
from gfocal.exported.contract import ABOUT, INPUTS, OUTPUTS, ExportInfo, Precision
from gfocal.utils.processor import asked_threads

WEIGHTS = "gfocal_weights"
"""Where the graph names the weights that belong to it, see :func:`digest_of`."""
DEVICES = {"cpu": "CPU", "gpu": "GPU", "npu": "NPU", "auto": "AUTO"}
"""What runs a graph, by the names that people type."""
COMPUTES: dict[Precision, str] = {"fp32": "f32", "fp16": "f32", "bf16": "bf16", "int8": "f32"}
"""What floats are computed in. Left to itself OpenVINO takes bfloat16 where a processor has it, and the same file finds
something else there. The weights of a fp16 file are halves; CPUs compute with them in fp32, and so it was proved."""
_LARGEST_GRAPH = 1 << 28  # bytes


class OpenVinoSession:
    """An OpenVINO file that gfocal wrote, ready to run.

    Args:
        path: the ``.xml``.
        provider: a name of :data:`DEVICES`; None: the CPU.
        threads: of an operator; None: a core each.

    Attributes:
        info: what the file says about itself.

    Raises:
        UsageError: openvino is missing or has no such device; the file is damaged or of another project; its weights
            are missing or others.
    """

    def __init__(self, path: Path, *, provider: str | None = None, threads: int | None = None) -> None:
        try:
            import openvino

            core = openvino_core()
        except ImportError as error:
            raise UsageError(f"{path} needs openvino: pip install openvino ({error})") from None
        graph = _read(path, _LARGEST_GRAPH)
        texts = _texts(path, graph)
        self.info = ExportInfo.from_texts(texts, str(path))
        # An array that lives as long as the session: OpenVINO may use the weights where they are.
        self._weights = np.frombuffer(_weights(path, texts.get(WEIGHTS, "")), np.uint8)
        # That there is a processor is not asked: to list the devices loads the plugins of all.
        device = DEVICES["cpu"] if provider in (None, "cpu") else _device(str(provider), core.available_devices)
        try:
            # From bytes, not from the path: nothing else is read, whatever the graph says.
            model = core.read_model(graph, openvino.Tensor(self._weights))
            compiled = core.compile_model(model, device, _settings(device, self.info.precision, threads))
        except Exception as error:  # RuntimeError, of the file's every fault
            line = " ".join(str(error).split())[-200:]
            raise UsageError(f"{path} is damaged, or this openvino does not run it ({line}); export it again") from None
        own = [_name(port) for port in compiled.inputs], [_name(port) for port in compiled.outputs]
        if own != (list(INPUTS), list(self.info.outputs)):
            raise UsageError(
                f"{path} was changed after it was exported: it takes {', '.join(own[0])} and gives {', '.join(own[1])}"
            )
        self._request = compiled.create_infer_request()

    def run(self, images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        """The graph's outputs by name, see :mod:`gfocal.exported.contract`."""
        self._request.infer(dict(zip(INPUTS, (images, sizes), strict=True)))
        # Copies: the next run writes into the same memory.
        return {name: self._request.get_tensor(name).data.copy() for name in self.info.outputs}


@cache
def openvino_core() -> Any:
    """The ``openvino.Core`` of this process: each thing that runs or reads such files here shares it.

    With more than one, a signal kills the process: for its CPU each sets a stack that signal handlers run on, and the
    one that goes last puts back the stack of one that is gone (seen with openvino 2026.4). Ctrl-C is such a signal.
    """
    import openvino

    return openvino.Core()


def _settings(device: str, precision: Precision, threads: int | None) -> dict[str, Any]:
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": COMPUTES[precision], "PERFORMANCE_HINT": "LATENCY"}
    if device == "CPU":
        settings["INFERENCE_NUM_THREADS"] = threads or asked_threads() or 0
        settings["ENABLE_CPU_PINNING"] = False  # two processes would be pinned to the same cores
    return settings


def _device(name: str, available: list[str]) -> str:
    if name not in DEVICES:
        raise UsageError(f"--provider of an OpenVINO file is one of {', '.join(DEVICES)}, not {name!r}")
    if name != "auto" and not any(each.split(".")[0] == DEVICES[name] for each in available):
        here = [known for known, full in DEVICES.items() if full in {each.split(".")[0] for each in available}]
        raise UsageError(f"OpenVINO finds no {name} here; it has {', '.join(here)}")
    return DEVICES[name]


def _texts(path: Path, graph: bytes) -> Mapping[str, str]:
    """What the graph says at its end, read without the entities that make a small file a large one.

    By the parser itself, without a tree: that takes a tenth of a second, of the one that a start may take.
    """
    from xml.parsers.expat import ExpatError, ParserCreate

    inside, root, found = list[str](), list[str](), dict[str, str]()

    def begin(name: str, attributes: dict[str, str]) -> None:
        inside.append(name)
        if len(inside) == 1:
            root.append(name)
        elif len(inside) == 3 and inside[1] == "rt_info" and name in (ABOUT, WEIGHTS):
            found.setdefault(name, attributes.get("value", ""))

    def refuse(*declaration: object) -> None:
        raise ValueError("it declares a document type, which may make it as large as it likes")

    parser = ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = begin, lambda name: inside.pop()
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(graph, True)
    except (ExpatError, ValueError, LookupError) as error:
        words = str(error) or type(error).__name__
        raise UsageError(f"{path} is not a graph of OpenVINO, or is damaged ({words}); export it again") from None
    if root != ["net"]:
        raise UsageError(f"{path} is not a graph of OpenVINO: it is the XML of something else, <{root[0]}>")
    return found


def _weights(path: Path, digest: str) -> bytes:
    """The content of the file beside the graph, if it is the one that belongs there."""
    file = path.with_suffix(".bin")
    if not file.is_file():
        raise UsageError(f"{file} is missing: it holds the weights of {path.name}; copy both files")
    size, _, wanted = digest.partition(":")
    content = file.read_bytes() if str(file.stat().st_size) == size else b""
    if hashlib.sha256(content).hexdigest() != wanted:
        raise UsageError(
            f"{file} does not hold the weights of {path.name}: it is damaged, or of another export; copy both files, "
            "or export again"
        )
    return content


def digest_of(weights: bytes) -> str:
    """What a graph says of its weights: their size and SHA-256."""
    return f"{len(weights)}:{hashlib.sha256(weights).hexdigest()}"


def _read(path: Path, most: int) -> bytes:
    if path.stat().st_size > most:
        raise UsageError(f"{path} is not a graph of gfocal: it takes {path.stat().st_size >> 20} MB")
    return path.read_bytes()


def _name(port: Any) -> str:
    names: set[str] = port.get_names()
    known = names & {*INPUTS, *OUTPUTS}
    return min(known or names, default="nothing")
