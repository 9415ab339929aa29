"""Running torch's own files."""

from __future__ import annotations

import inspect
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from gfocal.errors import UsageError
from gfocal.exported.contract import ExportInfo
from gfocal.exported.pt2_archive import checked_archive, read_texts


class Pt2Session:
    """A ``.pt2`` file that gfocal wrote, ready to run on the CPU.

    Args:
        path: the file.
        provider: "cpu" or None.
        threads: of an operator; None: as torch has it.

    Attributes:
        info: what the file says about itself.

    Raises:
        UsageError: torch is missing; the file is damaged or of another project.
    """

    def __init__(self, path: Path, *, provider: str | None = None, threads: int | None = None) -> None:
        try:
            import torch
        except ImportError as error:
            raise UsageError(f"{path} needs torch; an ONNX file of the same detector does not ({error})") from None
        if provider not in (None, "cpu"):
            raise UsageError(f"{path} runs on the CPU alone: --provider {provider} is for ONNX files")
        # Before torch reads more than text: what is no archive of gfocal's is not unpacked at all.
        self.info = ExportInfo.from_texts(read_texts(path), str(path))
        if threads:
            torch.set_num_threads(threads)
        archive = checked_archive(path)
        try:
            self._module = _module(archive)
        except Exception as error:  # many kinds for a damaged file
            words = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise UsageError(f"{path} is damaged, or this torch does not read it ({words}); export it again") from None
        self._torch = torch

    def run(self, images: np.ndarray, sizes: np.ndarray) -> dict[str, np.ndarray]:
        """The graph's outputs by name, see :mod:`gfocal.exported.contract`."""
        torch = self._torch
        with torch.no_grad():
            found = self._module(torch.from_numpy(images), torch.from_numpy(sizes))
        return {name: values.numpy() for name, values in found.items()}


def _module(archive: io.BytesIO) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return _loaded(archive)
        except Exception:
            # Deformable convolutions are an operator of torchvision, which takes as long to load as torch.
            import torchvision  # noqa: F401

            return _loaded(archive)


def _loaded(archive: io.BytesIO) -> Any:
    import torch

    archive.seek(0)
    program = torch.export.load(archive)
    # torch notes that every map had more than one row, though nothing in the graph asks for that. Newer ones check it.
    known = "check_guards" in inspect.signature(program.module).parameters
    return program.module(check_guards=False) if known else program.module()
