"""Safetensors files: what comes back, what is refused before anything is made of it."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, save_file

from gfocal.serialization import bounds
from gfocal.serialization.bounds import Unreadable
from gfocal.serialization.tensor_files import NoTensorFile, read_tensors, read_texts, tensor_file_bytes

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(5)}


def written(path: Path) -> Path:
    path.write_bytes(tensor_file_bytes(TENSORS, {"gfocal": "text", "more": "é"}))
    return path


def test_a_file_comes_back(tmp_path: Path) -> None:
    file = written(tmp_path / "a.safetensors")
    tensors = read_tensors(file)
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    texts = read_texts(file)
    assert (texts["gfocal"], texts["more"]) == ("text", "é")
    assert load(file.read_bytes()).keys() == TENSORS.keys(), "others read it too"


def test_a_file_without_sums_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    save_file(TENSORS, file, metadata={"gfocal": "text"})
    assert torch.equal(read_tensors(file)["a"], TENSORS["a"])
    assert read_texts(file) == {"gfocal": "text"}
    save_file(TENSORS, file)
    assert read_texts(file) == {}


def test_a_tool_that_keeps_the_sums_must_keep_the_numbers(tmp_path: Path) -> None:
    file = written(tmp_path / "a.safetensors")
    with safe_open(file, framework="pt") as opened:
        texts = opened.metadata()
    save_file({**TENSORS, "a": TENSORS["a"] * 2}, file, metadata=texts)
    with pytest.raises(Unreadable, match=r"1 of 2 tensors are not what was written: a .*leave out the text 'sums'"):
        read_tensors(file)
    save_file({**TENSORS, "a": TENSORS["a"] * 2}, file, metadata={"gfocal": texts["gfocal"]})
    assert torch.equal(read_tensors(file)["a"], TENSORS["a"] * 2)


@pytest.mark.parametrize("content", [b"", b"\0" * 7, b"x" * 500, struct.pack("<Q", 2**40) + b"{}", bytes(8)])
def test_what_is_no_such_file(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(content)
    for read in (read_tensors, read_texts):
        with pytest.raises(NoTensorFile):
            read(file)
    with pytest.raises(NoTensorFile):
        read_texts(tmp_path / "absent")


def test_a_long_header_is_not_parsed(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    header = json.dumps({"__metadata__": {"gfocal": "x" * 10}}).encode()
    with file.open("wb") as opened:  # blanks after it: as it is, they are no room on the disk
        opened.write(struct.pack("<Q", bounds.HEADER + 1) + header)
        opened.truncate(8 + bounds.HEADER + 1)
    with pytest.raises(Unreadable, match="its header has 16,777,217 bytes, and at most 16,777,216 are read"):
        read_texts(file)
