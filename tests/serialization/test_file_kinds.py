"""A file of weights is told by its first bytes."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gfocal.serialization.file_kinds import kind_of


@pytest.mark.parametrize("protocol", range(2, 6))
def test_pickles_of_torch_and_of_values(tmp_path: Path, protocol: int) -> None:
    file = tmp_path / "a"
    for kind in (True, False):
        torch.save({"w": torch.ones(1)}, file, pickle_protocol=protocol, _use_new_zipfile_serialization=kind)
        assert kind_of(file) == "torch"
    for value in ({"w": 1}, {}, [1], 3, 2**80, "text"):
        file.write_bytes(pickle.dumps(value, protocol))
        assert kind_of(file) == "pickle"


def test_real_weights(shared: Path) -> None:
    kinds = {path.name: kind_of(path) for path in (shared / "weights").iterdir() if path.suffix not in (".md", ".npz")}
    endings = {".ckpt": "torch", ".pdparams": "pickle", ".onnx": "onnx"}
    assert kinds == {name: endings[Path(name).suffix] for name in kinds}
    assert set(kinds.values()) == {"torch", "pickle", "onnx"}


def test_others(tmp_path: Path) -> None:
    save_file({"w": torch.ones(1)}, tmp_path / "a.pth")
    assert kind_of(tmp_path / "a.pth") == "safetensors"
    for content in (
        b"",
        b"\x80",
        b"\x80\x06}.",
        b"\x08",
        b"\x08\0\x12",
        b"\0\0\0\0\0\0\0\0",
        b"GIF89a",
        b"{}",
        b"\n\x08",
    ):
        (tmp_path / "b.onnx").write_bytes(content)
        assert kind_of(tmp_path / "b.onnx") == "unknown", content
    assert kind_of(tmp_path / "missing") == kind_of(tmp_path) == "unknown"
