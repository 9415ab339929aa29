"""Versions, machine and settings that results depend on; of an exported file's measuring also where torch is not."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from contextlib import suppress
from typing import TypedDict

import gfocal
from gfocal.recipe import Recipe
from gfocal.utils.processor import processor_name, usual_threads

_PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "pillow", "hotcoco", "safetensors", "pydantic")


class Environment(TypedDict):
    """What two runs must share to be bit-identical, beside recipe and data."""

    gfocal: str
    torch: str
    torchvision: str
    python: str
    machine: str
    device: str  # the GPU's name, or "cpu"
    threads: int
    processes: int
    precision: str
    channels_last: bool


class Gpu(TypedDict):
    """A CUDA device."""

    name: str
    memory_gb: float


class Host(TypedDict):
    """Facts about a machine, none that name it; ``memory_gb`` is None for what the system does not tell."""

    system: str
    cpu: str
    cpus: int | None
    memory_gb: float | None
    gpus: list[Gpu]
    threads: int


def environment(recipe: Recipe, processes: int = 1) -> Environment:
    """The environment of this process, as one of so many that train together."""
    import torch
    import torchvision

    from gfocal.runtime.layout import real_layout
    from gfocal.runtime.precision import real_precision

    return {
        "gfocal": gfocal.__version__,
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "threads": torch.get_num_threads(),
        "processes": processes,
        "precision": real_precision(recipe.runtime.precision),
        "channels_last": real_layout(recipe.runtime.channels_last),
    }


def versions() -> dict[str, str | None]:
    """Of everything that may change a result; None for what is not there."""
    found: dict[str, str | None] = {"gfocal": gfocal.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        found[name] = None
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    found["cuda"] = found["cudnn"] = None
    with suppress(ModuleNotFoundError):
        import torch
        import torchvision

        found |= {"torch": str(torch.__version__), "torchvision": str(torchvision.__version__)}  # with the build
        found["cuda"] = torch.version.cuda
        found["cudnn"] = str(torch.backends.cudnn.version()) if torch.backends.cudnn.is_available() else None
    return found


def host() -> Host:
    """Facts about this machine."""
    memory = None
    with suppress(AttributeError, ValueError, OSError):
        memory = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    gpus, threads = list[Gpu](), usual_threads()
    with suppress(ModuleNotFoundError):
        import torch

        devices = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        gpus = [{"name": gpu.name, "memory_gb": round(gpu.total_memory / 2**30, 1)} for gpu in devices]
        threads = torch.get_num_threads()
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpu": processor_name(),
        "cpus": os.cpu_count(),
        "memory_gb": memory,
        "gpus": gpus,
        "threads": threads,
    }
