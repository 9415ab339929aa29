"""Checkpoint files: every tensor of both formats arrives, and nothing that a file says is imported or called."""

from __future__ import annotations

import contextlib
import copyreg
import io
import pickle
import re
import struct
import subprocess
import sys
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._utils import _rebuild_parameter, _rebuild_tensor_v2

from gfocal.errors import UsageError
from gfocal.serialization import bounds, pickled
from gfocal.serialization.bounds import Unreadable
from gfocal.serialization.torch_files import check_torch_file, read_checkpoint

FORMATS = ("zip", "legacy")


def save(content: Any, path: Path, kind: str) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    return path


def many_tensors() -> dict[str, Tensor]:
    base = torch.arange(24.0).reshape(4, 6)
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8)
    return {
        **{str(dtype): torch.arange(-3, 3).to(dtype) for dtype in kinds},
        "bool": torch.tensor([True, False]),
        "uint8": torch.tensor([0, 255], dtype=torch.uint8),
        "scalar": torch.tensor(3.5),
        "whole": base,
        "part": base[1:3, 2:5],  # the same storage, from an offset, in strides
        "turned": base.t(),
        "repeated": torch.ones(3, 1).expand(3, 1),
        "empty": torch.zeros(0, 3),
        "parameter": nn.Parameter(torch.ones(2)),
        "channels_last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    }


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("nested", [True, False])
def test_tensors_arrive_as_they_were(tmp_path: Path, kind: str, nested: bool) -> None:
    tensors = many_tensors()
    content = {"state_dict": OrderedDict(tensors), "meta": {"epoch": 3}} if nested else tensors
    read = read_checkpoint(save(content, tmp_path / "a.pth", kind))
    assert list(read.state) == list(tensors)
    for name, tensor in tensors.items():
        assert read.state[name].dtype == tensor.dtype
        assert torch.equal(read.state[name], tensor.detach()), name
        assert read.state[name].is_contiguous()
    assert read.meta == ({"epoch": 3} if nested else {})
    assert read.foreign == ()


def test_the_reader_agrees_with_torch_on_real_weights(shared: Path) -> None:
    file = shared / "weights" / "nanodet_m.ckpt"
    theirs = torch.load(file, weights_only=True, map_location="cpu")["state_dict"]
    ours = read_checkpoint(file).state
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("protocol", range(2, 6))
def test_plain_values_survive_every_protocol(tmp_path: Path, kind: str, protocol: int) -> None:
    meta = {
        "none": None, "yes": True, "no": False, "small": 7, "two bytes": 700, "negative": -70000, "long": 2**80,
        "float": -1.5, "text": "wörd\n", "long text": "x" * 300, "bytes": b"\x00\xff", "many bytes": b"x" * 300,
        "list": [1, [2, []]], "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)), "set": {1, 2},
        "frozen": frozenset((3,)), "dict": {"a": {}, 1: 2}, "size": torch.Size((2, 3)), "shared": [[5]] * 3,
    }  # fmt: skip
    file = tmp_path / "a.pth"
    torch.save({"state_dict": {}, "meta": meta}, file, pickle_protocol=protocol,
               _use_new_zipfile_serialization=kind == "zip")  # fmt: skip
    read = read_checkpoint(file).meta
    if protocol < 4:  # sets have opcodes of their own from 4 on; before, they are calls
        del meta["set"], meta["frozen"], read["set"], read["frozen"]
    if protocol < 3:  # as have bytes from 3 on
        del meta["bytes"], meta["many bytes"], read["bytes"], read["many bytes"]
    assert read == meta


@pytest.mark.parametrize("protocol", [0, 1])
def test_plain_values_of_the_oldest_protocols(protocol: int) -> None:
    value = {"a": [1, 2.5, "text", None, True, -3], "b": (1, 2), "c": {}, "d": (), "e": 2**70, "f": (1, (2, 3, 4, 5))}
    machine = pickled.PickleMachine({}, lambda identifier: identifier)
    assert machine.read(io.BytesIO(pickle.dumps(value, protocol))) == value


class Engine:
    """As files of training engines hold them: state, items, attributes."""

    def __init__(self) -> None:
        self.history = {"loss": [1, 2]}

    def __setstate__(self, state: Any) -> None:
        raise AssertionError("state was set")


class Items(dict):  # type: ignore[type-arg]
    pass


class Sequence_(list):  # type: ignore[type-arg]
    pass


@pytest.mark.parametrize("kind", FORMATS)
def test_objects_of_other_classes_are_named_and_left_out(tmp_path: Path, kind: str) -> None:
    content = {
        "message_hub": Engine(),
        "more": [Items(a=1), Sequence_([1, 2]), {3: Engine}],
        "numpy": torch.arange(3).numpy(),
        "state_dict": {"a": torch.ones(2)},
        "meta": {"names": ("x",), "config": Items(b=2)},
    }
    save(content, tmp_path / "a.pth", kind)
    lines = (tmp_path / "a.pth").read_bytes().replace(b"test_reading", b"absent_there")  # as on another machine
    if kind == "legacy":
        (tmp_path / "a.pth").write_bytes(lines)
    read = read_checkpoint(tmp_path / "a.pth")
    assert torch.equal(read.state["a"], torch.ones(2))
    assert read.meta["names"] == ("x",)
    assert isinstance(read.meta["config"], pickled.Foreign)
    classes = {name.rpartition(".")[2] for name in read.foreign}
    assert {"Engine", "Items", "Sequence_"} <= classes
    assert any("numpy" in name for name in read.foreign)


# --- hostile files


class Call:
    """Pickled, it is a call of ``function`` with ``arguments``."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self.value = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self) -> Any:
        return self.value

    def __call__(self) -> None:
        """So that a call can be what is called."""


def code(path: Path) -> str:
    return f"open({str(path)!r}, 'w').close()"


def chain(path: Path) -> Any:
    """getattr(getattr(Path(...), "parent"), ...) step by step, as a pickle writes it."""
    return Call(Call(getattr, Call(Path, str(path)), "touch"))


HOSTILE: dict[str, Callable[[Path], Any]] = {
    "os.system": lambda p: Call(__import__("os").system, f"touch {p}"),
    "eval": lambda p: Call(eval, code(p)),
    "exec": lambda p: Call(exec, code(p)),
    "getattr chain": chain,
    "subprocess": lambda p: Call(subprocess.check_call, ["touch", str(p)]),
    "open": lambda p: Call(open, str(p), "w"),
    "runpy": lambda p: Call(__import__("runpy").run_path, str(p.with_suffix(".py"))),
    "codecs": lambda p: Call(eval, Call(__import__("codecs").decode, code(p).encode(), "utf-8")),
    "torch.load": lambda p: Call(torch.load, str(p.with_suffix(".inner")), None, None),
    "state": lambda p: Call(Touches, state=str(p)),
    "import": lambda p: Call(__import__, "gfocal_evil"),
    "map": lambda p: Call(list, Call(map, eval, [code(p)])),
    "hook": lambda p: Call(_rebuild_tensor_v2, *stored(), False, OrderedDict(a=Call(eval, code(p)))),
    "in a tensor": lambda p: Call(_rebuild_tensor_v2, Call(eval, code(p)), 0, (1,), (1,), False, OrderedDict()),
    "ordered dict": lambda p: Call(OrderedDict, Call(map, eval, [code(p)])),
    "parameter": lambda p: Call(_rebuild_parameter, Call(eval, code(p)), False, OrderedDict()),
}  # fmt: skip


class Touches:
    def __setstate__(self, state: str) -> None:
        Path(state).touch()


def stored() -> tuple[Any, ...]:
    """The first arguments of a rebuilt tensor of one number."""
    data = torch.zeros(1).untyped_storage()
    return torch.storage.TypedStorage(wrap_storage=data, dtype=torch.float32, _internal=True), 0, (1,), (1,)


def prepare(tmp_path: Path, name: str) -> tuple[Any, Path]:
    touched = tmp_path / "touched"
    (tmp_path / "touched.py").write_text(code(touched))
    (tmp_path / "gfocal_evil.py").write_text(code(touched))
    torch.save(Call(eval, code(touched)), tmp_path / "touched.inner")
    return HOSTILE[name](touched), touched


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", HOSTILE)
def test_code_in_a_file_is_not_run(tmp_path: Path, name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    evil, touched = prepare(tmp_path, name)
    content = {"state_dict": {"a": torch.ones(1), "evil": evil}, "meta": {"evil": evil}, "evil": evil}
    file = save(content, tmp_path / "evil.pth", kind)
    monkeypatch.syspath_prepend(tmp_path)
    modules = set(sys.modules)
    read = read_checkpoint(file)
    assert torch.equal(read.state["a"], torch.ones(1))
    assert not touched.exists()
    assert set(sys.modules) == modules
    with warnings.catch_warnings(), contextlib.suppress(Exception):
        warnings.simplefilter("ignore")
        torch.load(file, weights_only=False)  # the same file does its work where pickles are run
    assert touched.exists() or name == "torch.load"
    sys.modules.pop("gfocal_evil", None)


def raw_zip(path: Path, program: bytes, **records: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/version", "3\n")
        for name, data in records.items():
            archive.writestr(f"archive/{name.replace('__', '/')}", data)
    return path


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'touch {}'\ntR.",  # GLOBAL and REDUCE
        b"(S'touch {}'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch {}'\no.",  # OBJ
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93(S'touch {}'\nt\x81.",  # STACK_GLOBAL and NEWOBJ
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93(S'touch {}'\nt}\x92.",  # NEWOBJ_EX
        b"cposix\nsystem\n(S'touch {}'\ntR}(S'__dict__'\nI1\nub.",  # BUILD on what a call gave
        b"ccollections\nOrderedDict\n}S'x'\nI1\nsb.",  # BUILD on a class
    ],
)  # fmt: skip
def test_every_opcode_that_calls_only_names(tmp_path: Path, program: bytes) -> None:
    touched = tmp_path / "touched"
    # In a dictionary, so that there is something to read: {"state_dict": {}, "evil": <program>}
    body = (
        b"}S'state_dict'\n}sS'evil'\n"
        + program.replace(b"{}", str(touched).encode()).replace(b"\x80\x04", b"")[:-1]
        + b"s."
    )
    read = read_checkpoint(raw_zip(tmp_path / "evil.pth", body))
    assert read.state == {}
    assert not touched.exists()
    assert not hasattr(OrderedDict, "x")
    if b"system" in program:
        assert len(read.foreign) == 1
        assert read.foreign[0].endswith(".system")


def test_registered_extensions_are_not_looked_up(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    copyreg.add_extension("os", "system", 77)
    try:
        program = b"\x80\x02}U\x0astate_dict}sU\x04evil\x82\x4d(S'touch " + str(touched).encode() + b"'\ntRs."
        read = read_checkpoint(raw_zip(tmp_path / "evil.pth", program))
    finally:
        copyreg.remove_extension("os", "system", 77)
    assert read.foreign == ("copyreg.extension 77",)
    assert not touched.exists()


def test_no_name_of_the_table_is_a_function_of_another_module() -> None:
    from gfocal.serialization import torch_files

    for make in torch_files._MAKERS.values():
        assert make.__module__ == "gfocal.serialization.torch_files"


def test_a_huge_key_or_index_costs_nothing(tmp_path: Path) -> None:
    # t = (t, t) forty times: its hash takes 2^40 steps. Memo index 2^31 - 1: Python's own machine fills the memory.
    program = b"}S'state_dict'\n}s" + b"N" + b"2\x86" * 40 + b"I1\nsI5\nr\xff\xff\xff\x7f0."
    assert read_checkpoint(raw_zip(tmp_path / "a.pth", program)).state == {}


# --- damage, and other kinds of files


def refused(path: Path) -> str:
    with pytest.raises(UsageError, match="nothing in it was run") as error:
        read_checkpoint(path)
    return str(error.value)


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, kind: str) -> None:
    whole = save({"state_dict": many_tensors()}, tmp_path / "whole.pth", kind).read_bytes()
    for share in (0.01, 0.1, 0.5, 0.9, 0.999):
        (tmp_path / "part.pth").write_bytes(whole[: int(len(whole) * share)])
        assert "part.pth" in refused(tmp_path / "part.pth")


def test_a_file_that_ends_inside_the_count_of_an_empty_storage(tmp_path: Path) -> None:
    whole = save({"state_dict": {"empty": torch.zeros(0)}}, tmp_path / "whole.pth", "legacy").read_bytes()
    assert read_checkpoint(tmp_path / "whole.pth").state["empty"].numel() == 0
    for missing in (1, 7):
        (tmp_path / "part.pth").write_bytes(whole[:-missing])
        assert "part.pth" in refused(tmp_path / "part.pth")


def test_other_kinds_of_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.pth"
    for content in (b"", b"P", b"no checkpoint", pickle.dumps({"a": 1}), b"PK\x03\x04", b"\x80\x02", bytes(2000)):
        file.write_bytes(content)
        refused(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "text")
    assert "another kind" in refused(file)
    torch.save([1, 2], file)
    assert "no dictionary" in refused(file)
    with pytest.raises(UsageError, match="there is no checkpoint"):
        read_checkpoint(tmp_path / "missing.pth")
    with pytest.raises(UsageError, match="there is no checkpoint"):
        read_checkpoint(tmp_path)


def test_torchscript_is_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(nn.Linear(1, 1)).save(str(tmp_path / "a.pth"))
    assert "TorchScript" in refused(tmp_path / "a.pth")


def test_compressed_and_big_endian_files_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"state_dict": {}}))
    assert "compressed" in refused(tmp_path / "a.pth")
    program = pickle.dumps({"state_dict": {}})
    assert "big-endian" in refused(raw_zip(tmp_path / "a.pth", program, byteorder=b"big"))


def tensor_program(count: str, offset: str, size: str, stride: str) -> bytes:
    """{"state_dict": {"a": tensor}} with these numbers, written as opcodes."""
    storage = f"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\n{count}tQ"
    tensor = f"ctorch._utils\n_rebuild_tensor_v2\n({storage}{offset}{size}{stride}I00\n}}tR"
    return f"}}S'state_dict'\n}}S'a'\n{tensor}ss.".encode()


def test_the_program_of_a_tensor_is_as_torch_writes_it(tmp_path: Path) -> None:
    program = tensor_program("I4\n", "I1\n", "(I3\nt", "(I1\nt")
    file = raw_zip(tmp_path / "a.pth", program, data__0=struct.pack("<4f", 1, 2, 3, 4))
    assert read_checkpoint(file).state["a"].tolist() == [2, 3, 4]


@pytest.mark.parametrize(
    ("count", "offset", "size", "stride"),
    [
        ("I4\n", "I2\n", "(I3\nt", "(I1\nt"),  # beyond the end
        ("I4\n", "I0\n", "(I2\nt", "(I4\nt"),  # a stride beyond the end
        ("I4\n", "I-1\n", "(I3\nt", "(I1\nt"),
        ("I4\n", "I0\n", "(I-1\nt", "(I1\nt"),
        ("I4\n", "I0\n", "(I2\nI2\nt", "(I1\nt"),  # another number of strides
        ("I4\n", "I0\n", "(I99999999999\nt", "(I0\nt"),  # one number repeated into terabytes
        ("I400\n", "I0\n", "(I300\nt", "(I1\nt"),  # more numbers than the file has
        ("I2\n", "I0\n", "(I2\nt", "(I1\nt"),  # fewer
        ("F4.0\n", "I0\n", "(I2\nt", "(I1\nt"),
        ("S'4'\n", "I0\n", "(I2\nt", "(I1\nt"),
    ],
)
def test_a_tensor_outside_its_numbers_is_refused(
    tmp_path: Path, count: str, offset: str, size: str, stride: str
) -> None:
    program = tensor_program(count, offset, size, stride)
    refused(raw_zip(tmp_path / "a.pth", program, data__0=struct.pack("<4f", 1, 2, 3, 4)))


def test_a_number_repeated_into_terabytes_takes_no_memory(tmp_path: Path) -> None:
    program = tensor_program("I4\n", "I0\n", "(I99999999999\nt", "(I0\nt")
    assert "impossible shape" in refused(raw_zip(tmp_path / "a.pth", program, data__0=bytes(16)))


def legacy_part(path: Path, size: int, stride: int = 1) -> Path:
    """A file of the older format whose tensor is of numbers 2, 3, 4 of a record of six."""
    storage = b"(S'storage'\nctorch\nFloatStorage\nS'77'\nS'cpu'\nI6\n(S'78'\nI2\nI3\nttQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + f"I0\n(I{size}\nt(I{stride}\nt".encode() + b"I00\n}tR"
    head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
    content = b"\x80\x02}S'a'\n" + tensor + b"s."
    record = struct.pack("<q6f", 6, *range(6))
    path.write_bytes(b"".join([*head, content, pickle.dumps(["77"], 2), record]))
    return path


def test_a_part_of_a_record_in_the_older_format(tmp_path: Path) -> None:
    assert read_checkpoint(legacy_part(tmp_path / "a.pth", 3)).state["a"].tolist() == [2, 3, 4]
    assert read_checkpoint(legacy_part(tmp_path / "a.pth", 2)).state["a"].tolist() == [2, 3]
    assert read_checkpoint(legacy_part(tmp_path / "a.pth", 2, 2)).state["a"].tolist() == [2, 4]
    refused(legacy_part(tmp_path / "a.pth", 4))
    refused(legacy_part(tmp_path / "a.pth", 2, 3))  # inside the record, but not inside the part


def test_damaged_numbers_are_refused(tmp_path: Path) -> None:
    file = save({"state_dict": {"a": torch.full((1000,), 1.5)}}, tmp_path / "a.pth", "zip")
    data = file.read_bytes()
    file.write_bytes(data.replace(struct.pack("<10f", *[1.5] * 10), bytes(40), 1))
    assert "BadZipFile" in refused(file)  # its checksum


# --- files that ask for more than they hold


def test_a_shape_without_numbers_must_be_one_that_a_file_could_have(tmp_path: Path) -> None:
    for size, stride in (("(I0\nI3\nt", "(I3\nI1\nt"), ("(I0\nt", "(I1\nt")):
        file = raw_zip(tmp_path / "a.pth", tensor_program("I0\n", "I0\n", size, stride), data__0=b"")
        assert read_checkpoint(file).state["a"].numel() == 0
    program = tensor_program("I0\n", "I0\n", f"(I{2**60}\nI0\nt", "(I1\nI1\nt")
    file = raw_zip(tmp_path / "a.pth", program, data__0=b"")
    assert file.stat().st_size < 1000
    assert "impossible shape" in refused(file)


def test_many_views_of_one_record_are_not_copied(tmp_path: Path) -> None:
    base = torch.zeros(100, 1000)
    shared = {"a": base, "b": base.T}
    assert read_checkpoint(save({"state_dict": shared}, tmp_path / "a.pth", "zip")).state["b"].shape == (1000, 100)
    for kind in FORMATS:
        file = save({"state_dict": {f"t{i}": base.T for i in range(9)}}, tmp_path / "a.pth", kind)
        assert "over 4 times as large as the file" in refused(file)


def test_a_long_directory_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save({"state_dict": many_tensors()}, tmp_path / "a.pth", "zip")
    monkeypatch.setattr(bounds, "DIRECTORY", 500)
    assert re.search(r"its directory has [\d,]+ bytes, and at most 500 are read", refused(file))
    raw = bytearray(file.read_bytes())
    raw[-10:-6] = b"\xff\xff\xff\xff"  # the length of the directory stands elsewhere, says the end
    file.write_bytes(raw)
    refused(file)


def test_a_pickle_without_end_is_not_read_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = save({"state_dict": {}, "meta": [[] for _ in range(3000)]}, tmp_path / "a.pth", "zip")
    monkeypatch.setattr(bounds, "OPCODES", 2000)
    assert "its pickle has over 2,000 steps" in refused(file)
    monkeypatch.setattr(bounds, "PROGRAM", 1000)
    assert "at most 1,000 are read" in refused(file)


@pytest.mark.parametrize(("before", "after"), [(b"]", b"a"), (b"(", b"t"), (b"}U\x01a", b"s"), (b"", b"\x85")])
def test_deep_nesting_is_data_too(tmp_path: Path, before: bytes, after: bytes) -> None:
    """Lists, tuples and dictionaries inside one another, 200,000 deep."""
    nested = before * 200_000 + b"N" + after * 200_000
    read = read_checkpoint(raw_zip(tmp_path / "a.pth", b"}U\x0astate_dict}sU\x04meta}U\x07CLASSES" + nested + b"ss."))
    assert read.state == {}
    assert isinstance(read.meta["CLASSES"], list | tuple | dict)


def test_records_that_lie_on_each_other_are_refused(tmp_path: Path) -> None:
    file = save({"state_dict": {f"t{i}": torch.full((2000,), float(i)) for i in range(3)}}, tmp_path / "a.pth", "zip")
    raw = file.read_bytes()
    start = raw.index(b"PK\x01\x02", raw.index(b"data/1", raw.index(b"PK\x01\x02")) - 46)
    longer = bytearray(raw)
    for at in (start + 20, start + 24):
        longer[at : at + 4] = struct.pack("<I", len(raw) - 4000)
    file.write_bytes(longer)
    assert re.search("larger than the file|damaged", refused(file))


def test_the_check_of_a_file_names_tensors_and_finds_lengths(tmp_path: Path) -> None:
    file = save({"model": {"a": torch.ones(3), "b": [torch.zeros(2), 1]}}, tmp_path / "a.pth", "zip")
    check_torch_file(file)
    program = tensor_program("I4\n", "I0\n", "(I4\nt", "(I1\nt")
    with pytest.raises(Unreadable, match=r"state_dict\.a has another length than its record"):
        check_torch_file(raw_zip(tmp_path / "b.pth", program, data__0=bytes(12)))
    with pytest.raises(zipfile.BadZipFile):
        check_torch_file(save({"a": torch.ones(3)}, tmp_path / "c.pth", "legacy"))
