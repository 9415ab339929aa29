"""Paddle's weights: every array arrives whatever wrote it, and nothing that a file says is imported or called."""

from __future__ import annotations

import builtins
import os
import pickle
import random
import subprocess
import tracemalloc
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gfocal.errors import UsageError
from gfocal.serialization import bounds
from gfocal.serialization.paddle_files import NAME_TABLE, read_paddle
from helpers.paddle_files import LoDTensor, Tensor, pickled, save_paddle


def arrays() -> dict[str, np.ndarray | np.generic]:
    base = np.arange(24.0, dtype=np.float32).reshape(2, 3, 4)
    return {
        **{kind: np.arange(-3, 3).astype(kind) for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8")},
        "bytes": np.array([0, 255], np.uint8),
        "bools": np.array([True, False]),
        "map": base,
        "fortran": np.asfortranarray(base),
        "turned": base.T,
        "part": base[:, 1:, ::2],
        "big-endian": base.astype(">f4"),
        "no dimension": np.array(3.5, np.float32),
        "scalar": np.float32(3.5),
        "empty": np.zeros((0, 3), np.float32),
    }


@pytest.mark.parametrize("numpy", ["core", "_core"])
@pytest.mark.parametrize("protocol", range(2, 6))
def test_arrays_arrive_as_they_were(tmp_path: Path, protocol: int, numpy: str) -> None:
    own = arrays()
    read = read_paddle(save_paddle(tmp_path / "a.pdparams", own, protocol, numpy))
    assert list(read.state) == list(own)
    for name, array in own.items():
        tensor = read.state[name]
        assert isinstance(tensor, torch.Tensor)
        assert tensor.is_contiguous()
        np.testing.assert_array_equal(tensor.numpy(), array, err_msg=name)
        assert tensor.numpy().dtype == array.dtype.newbyteorder("=")
    assert read.notes == (f"{NAME_TABLE}, paddle's own table of {len(own)} names, is left out",)


def test_the_reader_agrees_with_pickle_on_real_weights(shared: Path) -> None:
    file = shared / "weights" / "picodet_s_320_coco.pdparams"
    with file.open("rb") as opened:
        theirs = pickle.load(opened)
    table = theirs.pop(NAME_TABLE)
    read = read_paddle(file)
    assert read.state.keys() == theirs.keys() == table.keys()
    assert all(np.array_equal(read.state[name].numpy(), array) for name, array in theirs.items())  # type: ignore[attr-defined]


@pytest.mark.parametrize("protocol", range(2, 6))
def test_tensors_that_paddle_writes_in_other_ways(tmp_path: Path, protocol: int) -> None:
    one, other = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones(2, np.float32)
    content = OrderedDict(a=Tensor("linear_0.w_0", one), b=LoDTensor(other), c=("linear_0.b_0", other))
    (tmp_path / "a.pdparams").write_bytes(pickled(content, protocol))
    read = read_paddle(tmp_path / "a.pdparams")
    assert list(read.state) == ["a", "b", "c"]
    for name, array in {"a": one, "b": other, "c": other}.items():
        np.testing.assert_array_equal(read.state[name].numpy(), array)  # type: ignore[attr-defined]


def test_arrays_in_slices_are_one(tmp_path: Path) -> None:
    whole = np.arange(24, dtype=np.float32)
    content = {
        "a@@.0": whole[:10],
        "b": whole[:2],
        "a@@.1": whole[10:],
        "UnpackBigParamInfor@@": {"a": {"OriginShape": (2, 3, 4), "slices": ["a@@.0", "a@@.1"]}},
    }
    (tmp_path / "a.pdparams").write_bytes(pickled(content, 2))
    state = read_paddle(tmp_path / "a.pdparams").state
    assert list(state) == ["b", "a"]
    np.testing.assert_array_equal(state["a"].numpy(), whole.reshape(2, 3, 4))  # type: ignore[attr-defined]


def test_a_file_of_python_2(tmp_path: Path) -> None:
    """Texts are bytes there, and an OrderedDict is given its items when it is made."""

    def text(content: bytes) -> bytes:
        return b"U" + bytes([len(content)]) + content

    dtype = b"cnumpy\ndtype\n(" + text(b"f4") + b"I0\nI1\ntR(I3\n" + text(b"<") + b"NNNI-1\nI-1\nI0\ntb"
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\nt" + text(b"b") + b"tR"
    array = made + b"(I1\n(I2\nt" + dtype + b"I00\n" + text(np.float32([1, -200]).tobytes()) + b"tb"
    file = tmp_path / "a.pdparams"
    file.write_bytes(b"\x80\x02ccollections\nOrderedDict\n(]" + b"]" + text(b"w") + b"a" + array + b"aatR.")
    np.testing.assert_array_equal(read_paddle(file).state["w"].numpy(), [1, -200])  # type: ignore[attr-defined]


def test_other_entries_stay_to_be_refused(tmp_path: Path) -> None:
    state = read_paddle(save_paddle(tmp_path / "a.pdparams", {"epoch": 3, "w": np.ones(1), "more": {"a": 1}})).state
    assert state["epoch"] == 3
    assert state["more"] == {"a": 1}


# --- what is hostile or damaged


class Call:
    """Pickles as the call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.parts = function, arguments

    def __reduce__(self) -> Any:
        return self.parts


def refused(path: Path, content: bytes, word: str) -> None:
    path.write_bytes(content)
    with pytest.raises(UsageError, match=word) as caught:
        read_paddle(path)
    text = str(caught.value)
    assert text.startswith(f"{path} is not a file of weights (")
    assert text.endswith("nothing in it was run")


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize(
    ("call", "word"),
    [
        (Call(os.system, "touch ran"), r"calls (posix|nt)\.system"),
        (Call(eval, "open('ran', 'w')", {}), "calls eval on a program"),
        (Call(eval, "data"), "calls eval on a program"),
        (Call(exec, "open('ran', 'w')"), r"calls (builtins|__builtin__)\.exec"),
        (Call(builtins.__import__, "os"), "calls .*__import__"),
        (Call(subprocess.Popen, ["touch", "ran"]), r"calls \w+\.Popen"),
        (Call(getattr, "a", "upper"), r"\.getattr"),
        (Call(tuple, [1, 2, 3]), "calls tuple on something else"),
        (np.array([object(), Call(os.system, "touch ran")], dtype=object), "system"),
    ],
)
def test_what_calls_anything_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Any, word: str, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    state = {"w": np.ones(2), "evil": call}
    refused(tmp_path / "a.pdparams", pickle.dumps(state, protocol), word)
    assert not (tmp_path / "ran").exists()


def array(shape: tuple[int, ...], data: object, kind: str = "f4") -> bytes:
    """A pickle of {"w": array} with any content."""

    class Made:
        def __reduce__(self) -> Any:
            function, arguments = np.ones(1).__reduce__()[:2]
            return function, arguments, (1, shape, np.dtype(kind), False, data)

    return pickle.dumps({"w": Made()})


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (array((3,), b"\0" * 8), "another length"),
        (array((-1, -2), b"\0" * 8), "impossible shape"),
        (array((0, 2**40), b""), "impossible shape"),
        (array((1,) * 40, b"\0" * 4), "impossible shape"),
        (array((2.0,), b"\0" * 8), "impossible shape"),  # type: ignore[arg-type]
        (array((1,), [1]), "another length"),
        (array((1,), b"\0" * 16, "c16"), "numbers of the type c16"),
        (array((1,), b"\0" * 8, "M8[s]"), "numbers of the type M8"),
        (array((1,), b"\0" * 4, "V4"), "numbers of the type V4"),
        (pickle.dumps([np.ones(3)]), "no dictionary"),
        (pickle.dumps(3), "no dictionary"),
        (b"\x80\x04\x8c\x01aQ.", "another program"),
        (b"\x80\x04}.", "nothing"),
        (b"\x80\x02}\x97.", "damaged: ValueError"),
        (b"", "damaged: ValueError"),
        (b"\x80\x04", "damaged"),
    ],
)
def test_impossible_arrays_and_other_pickles(tmp_path: Path, content: bytes, word: str) -> None:
    if word == "nothing":
        (tmp_path / "a.pdparams").write_bytes(content)
        assert read_paddle(tmp_path / "a.pdparams").state == {}
    else:
        refused(tmp_path / "a.pdparams", content, word)


def test_arrays_that_are_larger_than_the_file_are_refused(tmp_path: Path) -> None:
    one = np.ones(1000, np.float32)
    pair = Tensor("name", one)
    content = pickle.dumps({str(i): pair for i in range(2 * bounds.SHARED)})
    refused(tmp_path / "a.pdparams", content, "4 times as large as the file")
    few = pickle.dumps({str(i): one for i in range(bounds.SHARED - 1)})
    (tmp_path / "b.pdparams").write_bytes(few)
    assert len(read_paddle(tmp_path / "b.pdparams").state) == bounds.SHARED - 1


def test_a_small_file_cannot_ask_for_much_memory(tmp_path: Path) -> None:
    """The bytes of one text, asked for two thousand times: 2 GB if each of them were made."""
    text = b"X" + (2**20).to_bytes(4, "little") + b"a" * 2**20 + b"q\0"
    ask = b"c_codecs\nencode\nh\0X\x06\0\0\0latin1\x86R"
    tracemalloc.start()
    try:
        refused(tmp_path / "a.pdparams", b"\x80\x02]" + text + b"0(" + ask * 2000 + b"e.", "no dictionary")
        assert tracemalloc.get_traced_memory()[1] < 2**25
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_any_damage_ends_in_one_message(tmp_path: Path, protocol: int) -> None:
    whole = pickled({"w": np.arange(5.0), "b": Tensor("n", np.ones((2, 2))), NAME_TABLE: {"w": "x"}}, protocol)
    draw, file = random.Random(0), tmp_path / "a.pdparams"
    broken = [whole[:length] for length in range(1, len(whole), 7)]
    for _ in range(150):
        bytes_ = bytearray(whole)
        for _ in range(draw.randrange(1, 4)):
            bytes_[draw.randrange(len(bytes_))] = draw.randrange(256)
        broken.append(bytes(bytes_))
    messages = [text for content in broken if (text := message_of(file, content)) is not None]
    assert len(messages) > len(broken) // 2
    assert all("nothing in it was run" in text for text in messages)


def message_of(file: Path, content: bytes) -> str | None:
    """What reading it says; None where it can be read."""
    file.write_bytes(content)
    try:
        read_paddle(file)
    except UsageError as error:
        return str(error)
    return None
