"""What a training needs of the machine: memory, disk, files, loader processes, libraries that fit each other."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypedDict

import torch
import torchvision
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from gfocal.data.loading.workers import SHARED_MEMORY, free_bytes
from gfocal.models.postprocess import suppress as keep_best
from gfocal.runtime.memory import available_memory

GB = 2**30
EXTRAS = {
    "tensorboard": ("tensorboard", "curves of a training run: --set runtime.trackers=[tensorboard]"),
    "wandb": ("wandb", "runs in Weights & Biases: --set runtime.trackers=[wandb]"),
    "mlflow": ("mlflow", "runs in MLflow: --set runtime.trackers=[mlflow]"),
    "supervision": ("supervision", "Detections.to_supervision()"),
    "huggingface_hub": ("hub", "weights on the Hugging Face hub: hub:OWNER/NAME as MODEL, and gfocal push"),
    "onnxruntime": ("onnx", "exported files without torch: gfocal predict model.onnx, and gfocal export"),
    "openvino": ("openvino", "OpenVINO files: gfocal export --format openvino, gfocal predict model.xml"),
    "nncf": ("int8", "OpenVINO files of 8 bits: gfocal export --format openvino --precision int8"),
    "pycocotools": (None, "a second opinion on the COCO metrics, in the tests"),
}
"""Packages that are not required: the extra that brings each, and what it is for."""


class Room(TypedDict):
    """Bytes that are free, and how many files may be open; None for what this system does not tell."""

    memory: int | None
    gpu_memory: list[int]
    shared_memory: int | None
    disk_here: int | None
    disk_for_temporary_files: int | None
    open_files: int | None
    open_files_at_most: int | None


def room() -> Room:
    """What this process has."""
    soft = hard = None
    with suppress(ImportError, OSError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return {
        "memory": available_memory(torch.device("cpu")),
        "gpu_memory": [torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count())],
        "shared_memory": free_bytes(SHARED_MEMORY) if SHARED_MEMORY.is_dir() else None,
        "disk_here": free_bytes(Path.cwd()),
        "disk_for_temporary_files": free_bytes(Path(tempfile.gettempdir())),
        "open_files": soft,
        "open_files_at_most": hard,
    }


_Scarce = Literal["memory", "shared_memory", "disk_here", "disk_for_temporary_files", "open_files_at_most"]
_LEAST: dict[_Scarce, tuple[int, str]] = {
    "memory": (4 * GB, "training may not fit: smaller batches (schedule.batch_size), or gfl_nano"),
    "shared_memory": (
        GB,
        "loader processes need it: fewer (data.workers), or --shm-size=2g of a container",
    ),
    "disk_here": (GB, "a run of gfl_r50 writes 0.5 GB, and half as much again while it saves"),
    "disk_for_temporary_files": (GB, "archives are unpacked there: set TMPDIR to a larger disk"),
    "open_files_at_most": (4096, "loader processes hand over several files per picture: ulimit -n 65536"),
}


def room_notes(free: Room) -> list[str]:
    """Lines about what :func:`room` found to be scarce."""
    lines = []
    for name, (least, advice) in _LEAST.items():
        value = free[name]
        # -1: without a limit.
        if value is not None and 0 <= value < least:
            lines.append(f"{name.replace('_', ' ')}: only {readable(name, value)}; {advice}")
    return lines


def readable(name: str, value: int | list[int] | None) -> str:
    """A number of :func:`room` for people."""
    if isinstance(value, list):
        return ", ".join(readable(name, each) for each in value) or "none"
    if value is None:
        return "-"
    return str(value) if name.startswith("open_files") else f"{value / GB:.1f} GB free"


def libraries_fit(torch_version: str | None = None, vision_version: str | None = None) -> str:
    """Torch and torchvision are of one release, and the compiled part of torchvision is there.

    Raises:
        RuntimeError: they are not.
    """
    ours, theirs = torch_version or str(torch.__version__), vision_version or str(torchvision.__version__)
    found = [re.match(r"(\d+)\.(\d+)", version) for version in (ours, theirs)]
    if all(found):
        (major, minor), (vision_major, vision_minor) = ((int(m[1]), int(m[2])) for m in found if m)
        # torch 2.8 goes with torchvision 0.23, 2.9 with 0.24, and so on.
        if (major, vision_major) == (2, 0) and vision_minor != minor + 15:
            raise RuntimeError(
                f"torchvision {theirs} is made for torch 2.{vision_minor - 15}, not for {ours}: "
                "pip install --upgrade torch torchvision"
            )
    torch.ops.torchvision.nms  # noqa: B018 - raises where the compiled part is missing
    return f"torch {ours}, torchvision {theirs}"


def loader_process() -> str:
    """A loader process starts and hands a tensor over."""
    numbers = torch.arange(4)
    loader = DataLoader(
        TensorDataset(numbers), batch_size=2, num_workers=1, timeout=20, generator=torch.Generator().manual_seed(0)
    )
    with warnings.catch_warnings():
        # Python 3.12 warns of any fork beside other threads.
        warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
        found = [batch[0].tolist() for batch in loader]
    if found != [[0, 1], [2, 3]]:
        raise ArithmeticError("a loader process handed over something else than it read")
    return "starts, and hands tensors over"


def half_precision() -> str:
    """A convolution in bf16 is near the one in float32."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng(devices=[]):
        values, weight = torch.rand(1, 4, 8, 8).to(device), torch.rand(4, 4, 3, 3).to(device)
    exact = torch.nn.functional.conv2d(values, weight)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        half = torch.nn.functional.conv2d(values, weight)
    off = float(((half.float() - exact).abs() / exact).max())
    if half.dtype != torch.bfloat16 or not off < 0.05:
        raise ArithmeticError(f"a convolution in bf16 is {100 * off:.0f} % off")
    return f"bf16 on {device.type}, {100 * off:.1f} % off"


def boxes_on_device() -> str:
    """Post-processing on the device that will be used: two boxes of one object become one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def there(values: Sequence[object]) -> Tensor:
        return torch.tensor(values, device=device)

    boxes = there([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 20, 30, 30]])
    kept = keep_best(boxes, there([0.5, 0.9, 0.7]), there([0, 0, 0]), iou=0.6, limit=10)
    if kept.tolist() != [1, 2]:
        raise ArithmeticError(f"kept boxes {kept.tolist()} instead of [1, 2]")
    return f"non-maximum suppression on {device.type}"
