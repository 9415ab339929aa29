"""What this machine has and whether the parts work on it."""

from __future__ import annotations

import importlib.metadata
import math
import platform
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import gfocal
from gfocal.data.formats.coco.classes import COCO_NAMES
from gfocal.data.scenes.generate import draw_indexed, usable_cpus
from gfocal.evaluation import CocoEvaluator
from gfocal.images.io import read_image
from gfocal.recipe import load_recipe
from gfocal.runtime.machine import (
    EXTRAS,
    boxes_on_device,
    half_precision,
    libraries_fit,
    loader_process,
    room,
    room_notes,
)
from gfocal.structures import Detections, Targets
from gfocal.utils.files import write_atomically
from gfocal.zoo import build_detector

_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "accelerate",
    "hotcoco",
    "safetensors",
    "numpy",
    "pillow",
    "pydantic",
    "pyyaml",
    "msgspec",
    "typer",
    "rich",
    "jinja2",
    "matplotlib",
)


@dataclass(frozen=True)
class Device:
    """What a training would run on.

    Attributes:
        system: operating system and kind of processor.
        cpus: that this process may use.
        cpu_instructions: the widest that torch has kernels for.
        threads: of torch.
        cuda: names of the GPUs.
        mps: whether there is an Apple GPU.
        trains_on: "cuda", "mps" or "cpu".
        bf16, fp16: in words, whether they work.
    """

    system: str
    cpus: int
    cpu_instructions: str
    threads: int
    cuda: tuple[str, ...]
    mps: bool
    trains_on: str
    bf16: str
    fp16: str


@dataclass(frozen=True)
class Check:
    """Something that was tried: whether it works, how it went in words, and how long it took."""

    name: str
    ok: bool
    detail: str
    seconds: float


@dataclass(frozen=True)
class OptionalPackage:
    """A package that is not required: its version, None where it is missing; what it is for; what brings it."""

    version: str | None
    use: str
    install: str


@dataclass(frozen=True)
class Examination:
    """What this machine has and whether the parts work on it.

    Attributes:
        ok: every check passed.
        versions: of gfocal, Python and the packages that it needs.
        device: what a training would run on.
        room: see :func:`gfocal.runtime.machine.room`.
        notes: lines about what is scarce.
        checks: what was tried.
        optional: packages that are not required, by name.
    """

    ok: bool
    versions: Mapping[str, str]
    device: Device
    room: Mapping[str, object]
    notes: tuple[str, ...]
    checks: tuple[Check, ...]
    optional: Mapping[str, OptionalPackage]


def examine() -> Examination:
    """Look at versions, device, room and optional packages, and try the parts."""
    checks = tuple(_check(name, function) for name, function in _CHECKS.items())
    free = room()
    return Examination(
        ok=all(check.ok for check in checks),
        versions={
            "gfocal": gfocal.__version__,
            "python": platform.python_version(),
            **{name: _version(name) or "MISSING" for name in _PACKAGES},
        },
        device=_device(),
        room=free,
        notes=tuple(room_notes(free)),
        checks=checks,
        optional={
            name: OptionalPackage(_version(name), use, _install(name, extra)) for name, (extra, use) in EXTRAS.items()
        },
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _install(package: str, extra: str | None) -> str:
    """What brings an optional package."""
    return f"pip install {package}" if extra is None else f"pip install 'gfocal[{extra}]'"


def _device() -> Device:
    cuda = torch.cuda.is_available()
    return Device(
        system=f"{platform.system()} {platform.machine()}",
        cpus=usable_cpus(),
        cpu_instructions=torch.backends.cpu.get_cpu_capability(),
        threads=torch.get_num_threads(),
        cuda=tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) if cuda else (),
        mps=torch.backends.mps.is_available(),
        trains_on="cuda" if cuda else "mps" if torch.backends.mps.is_available() else "cpu",
        # On a CPU bf16 always works, but only some have instructions for it.
        bf16="fast" if (torch.cuda.is_bf16_supported() if cuda else _cpu_bf16()) else "works, but slowly",
        fp16="fast" if cuda else "not on this machine: it needs CUDA",
    )


def _cpu_bf16() -> bool:
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):
        return False


def _check(name: str, function: Callable[[], str]) -> Check:
    started = time.perf_counter()
    try:
        detail, ok = function(), True
    except Exception as error:  # whatever is wrong with this machine is the answer
        detail, ok = f"{type(error).__name__}: {' '.join(str(error).split())}", False
    return Check(name, ok, detail, round(time.perf_counter() - started, 3))


def _train_step() -> str:
    """One forward and backward pass of the small detector on one generated scene."""
    # The numbers that the caller draws afterwards stay the same.
    with torch.random.fork_rng(devices=[]):
        detector = build_detector(load_recipe("gfl_nano"), COCO_NAMES, pretrained=False).train()
        scene = draw_indexed(160, 0, 0, 1)
        images = torch.from_numpy(scene.image).permute(2, 0, 1)[None]
        targets = Targets(torch.from_numpy(scene.boxes).float(), torch.from_numpy(scene.labels).long())
        out = detector(images)
        losses = detector.losses(out, detector.assign_batch(images, [targets], out), (160, 160))
        total = sum(losses.values(), torch.zeros(()))
        total.backward()
    if not math.isfinite(total.item()):
        raise ArithmeticError(f"the loss is {total.item()}")
    return f"loss {total.item():.3f} on {len(targets)} objects"


class _OneBox:
    """The smallest ground truth: one image, one box."""

    image_ids = np.array([1])
    box_start = np.array([0, 1])
    boxes = np.array([[10.0, 10, 60, 60]])
    labels = np.array([0])
    crowd = np.array([False])
    ignore = np.array([False])
    area = np.array([2500.0])
    names = ("object",)


def _metrics() -> str:
    """A perfect detection has AP 1."""
    truth = _OneBox()
    evaluator = CocoEvaluator(truth)
    found = Detections(torch.from_numpy(truth.boxes), torch.tensor([0.9]), torch.tensor([0]))
    evaluator.update([1], [found])
    ap = evaluator.compute().stats["AP"]
    if abs(ap - 1) > 1e-9:
        raise ArithmeticError(f"AP is {ap} instead of 1")
    return "a perfect detection has AP 1"


_COLOUR = (200, 120, 40)


def _read_image() -> str:
    """A JPEG file comes back in its size and, but for the loss of its compression, in its colour."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture.jpg"
        Image.new("RGB", (48, 32), _COLOUR).save(file)
        image = read_image(file)
    if image.shape != (3, 32, 48):
        raise ArithmeticError(f"a picture of 48 x 32 pixels was read as {tuple(image.shape)}")
    off = (image.float() - torch.tensor(_COLOUR)[:, None, None]).abs().max().item()
    if off > 8:
        raise ArithmeticError(f"colours are off by {off:.0f}")
    return "a JPEG file"


def _write_file() -> str:
    """A file written as checkpoints are: beside its place, then moved there."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "checkpoint"
        for text in ("first", "second"):  # the second replaces the first
            write_atomically(file, partial(_write_text, text))
            if file.read_text(encoding="utf-8") != text:
                raise OSError("a file does not hold what was written to it")
    return f"files in {tempfile.gettempdir()}"


def _write_text(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")


_CHECKS: dict[str, Callable[[], str]] = {
    "libraries": libraries_fit,
    "reading pictures": _read_image,
    "loader process": loader_process,
    "writing files": _write_file,
    "training step": _train_step,
    "half precision": half_precision,
    "post-processing": boxes_on_device,
    "COCO metrics": _metrics,
}
