"""``.pt2`` files that would run code where torch reads them: none of it runs, and each is refused in one line."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gfocal
from gfocal.errors import UsageError
from gfocal.export.formats import ExportOptions
from gfocal.exported.contract import ABOUT
from gfocal.exported.pt2_archive import _FUNCTIONS, checked_archive, read_texts
from helpers.exporting import small_square, stirred, written
from helpers.paths import ROOT

RAN: list[str] = []


def ran(what: str) -> dict[str, object]:
    RAN.append(what)
    return {}


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return ran, ("pickle",)


def evil_file() -> bytes:
    content = io.BytesIO()
    torch.save(Evil(), content)
    return content.getvalue()


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = small_square()
    return written(tmp_path_factory.mktemp("good"), stirred(recipe), recipe, ExportOptions("pt2"))[0]


@pytest.fixture(autouse=True)
def nothing_ran() -> None:
    RAN.clear()


Parts = dict[str, bytes]


def changed(good: Path, out: Path, change: Callable[[Parts], None]) -> Path:
    """A copy with other parts."""
    with zipfile.ZipFile(good) as archive:
        parts = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    change(parts)
    file = out / "model.pt2"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            archive.writestr(f"archive/{name}", content)
    return file


def part(name: str, content: bytes) -> Callable[[Parts], None]:
    return lambda parts: parts.update({name: content})


def in_json(name: str, change: Callable[[Any], None]) -> Callable[[Parts], None]:
    def apply(parts: Parts) -> None:
        content = json.loads(parts[name])
        change(content)
        parts[name] = json.dumps(content).encode()

    return apply


def in_graph(change: Callable[[Any], None]) -> Callable[[Parts], None]:
    return in_json("models/model.json", change)


def first_node(**changes: object) -> Callable[[Parts], None]:
    return in_graph(lambda graph: graph["graph_module"]["graph"]["nodes"][0].update(changes))


def first_weight(**changes: object) -> Callable[[Parts], None]:
    def change(config: Any) -> None:
        next(iter(config["config"].values())).update(changes)

    return in_json("data/weights/model_weights_config.json", change)


def expression(text: str) -> Callable[[Parts], None]:
    def change(graph: Any) -> None:
        waiting: list[Any] = [graph]
        while waiting:
            one = waiting.pop()
            waiting += one.values() if isinstance(one, dict) else one if isinstance(one, list) else []
            if isinstance(one, dict) and "expr_str" in one:
                one["expr_str"] = text
                return
        raise AssertionError("no expression")

    return in_graph(change)


def pickled_weight(parts: Parts) -> None:
    parts["data/weights/weight_0"] = evil_file()
    first_weight(use_pickle=True, path_name="weight_0")(parts)


def tree(kind: object, context: object) -> Callable[[Parts], None]:
    spec = json.dumps([1, {"type": kind, "context": json.dumps(context), "children_spec": []}])
    return in_graph(lambda graph: graph["graph_module"]["module_call_graph"][0]["signature"].update(out_spec=spec))


ATTACKS: dict[str, Callable[[Parts], None]] = {
    "pickled weights": pickled_weight,
    "weights of the old format": part("data/weights/model.pt", evil_file()),
    "constants of the old format": part("data/constants/model.pt", evil_file()),
    "an object of C++": part("data/constants/custom_obj_0", evil_file()),
    "an opaque object": part("data/constants/opaque_obj_0", pickle.dumps(Evil())),
    "a compiled library": part("data/aotinductor/model/model.wrapper.so", b"\x7fELF"),
    "another graph": part("models/other.json", b"{}"),
    "a file above": part("../above", b""),
    "any function of torch": first_node(target="torch.os.system"),
    "hub": first_node(target="torch.hub.load"),
    "an operator that reads files": first_node(target="torch.ops.aten.from_file.default"),
    "operators of others": first_node(target="torch.ops.evil.run.default"),
    "call": first_node(target="_operator.call"),
    "attributes": first_node(target="_operator.attrgetter"),
    "an extension": first_node(target="#evil:run"),
    "no text": first_node(target=["torch.ops.aten.add.Tensor"]),
    "an object as argument": first_node(inputs=[{"name": "a", "arg": {"as_custom_obj": {"name": "x"}}, "kind": 1}]),
    "a function as argument": first_node(inputs=[{"name": "a", "arg": {"as_operator": "torch.os.system"}, "kind": 1}]),
    "an expression that calls": expression("__import__('os').system('true')"),
    "an expression with attributes": expression("Symbol('s1').__class__"),
    "an expression with a lambda": expression("(lambda: 1)()"),
    "an expression of texts": expression("Integer('exit()')"),
    "builtins": expression("exit()"),
    "an endless expression": expression("(" * 3000 + "1" + ")" * 3000),
    "a range": in_graph(lambda graph: graph["range_constraints"].update({"exec('1')": {"min_val": 1, "max_val": 2}})),
    "an enumeration in the outputs": tree("builtins.dict", {"__enum__": True, "fqn": "os.x", "name": "a"}),
    "a class in the outputs": tree("collections.defaultdict", ["os", "system"]),
    "more numbers than bytes": first_weight(tensor_meta={"sizes": [{"as_int": 10**13}]}),
    "a weight from elsewhere": first_weight(path_name="../../etc/passwd"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_what_gfocal_does_not_write_is_refused(good: Path, tmp_path: Path, name: str) -> None:
    file = changed(good, tmp_path, ATTACKS[name])
    with pytest.raises(UsageError, match="was not written by gfocal export, or was changed since") as caught:
        gfocal.load(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert RAN == []


def test_torch_itself_would_run_it(good: Path, tmp_path: Path) -> None:
    """If torch no longer does, less has to be looked for."""
    file = changed(good, tmp_path, pickled_weight)
    with file.open("rb") as opened, suppress(Exception):  # what comes after it
        torch.export.load(opened)
    assert RAN == ["pickle"]


def test_examples_are_left_out_and_the_rest_finds_the_same(good: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = changed(good, tmp_path, part("data/sample_inputs/model.pt", evil_file()))
    found, wanted = (gfocal.load(path).predict(image) for path in (file, good))
    assert len(found) == len(wanted) > 0
    np.testing.assert_array_equal(found.boxes, wanted.boxes)
    assert RAN == []


def test_where_the_code_lay_that_wrote_it_is_not_in_a_file(good: Path) -> None:
    with zipfile.ZipFile(good) as archive:
        graph = archive.read(next(name for name in archive.namelist() if name.endswith("models/model.json"))).decode()
    assert "stack_trace" not in graph
    assert str(ROOT) not in graph


def test_where_a_node_comes_from_is_not_read(good: Path) -> None:
    with zipfile.ZipFile(checked_archive(good)) as archive:
        graph = archive.read("archive/models/model.json").decode()
    assert "stack_trace" not in graph
    assert ".py" not in graph


def test_twice_the_same_part(good: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.pt2"
    file.write_bytes(good.read_bytes())
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(archive.namelist()[0], b"other")
    with pytest.raises(UsageError, match="it has a part"):
        gfocal.load(file)


def test_compressed_parts(good: Path, tmp_path: Path) -> None:
    file = tmp_path / "model.pt2"
    with zipfile.ZipFile(good) as archive, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as other:
        for name in archive.namelist():
            other.writestr(name, archive.read(name))
    with pytest.raises(UsageError, match="compressed"):
        gfocal.load(file)


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_a_truncated_file(good: Path, tmp_path: Path, keep: float) -> None:
    file = tmp_path / "model.pt2"
    file.write_bytes(good.read_bytes()[: int(keep * good.stat().st_size)])
    with pytest.raises(UsageError, match=r"is damaged|has no metadata"):  # the end of an inner archive is one, too
        gfocal.load(file)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"graph_module": 3}', b"[" * 100_000, b"\xff\xfe", b'{"range_constraints": 1}'],
)
def test_a_graph_that_is_none(good: Path, tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UsageError, match="is damaged"):
        gfocal.load(changed(good, tmp_path, part("models/model.json", content)))


@pytest.mark.parametrize("at", range(0, 40, 3))
def test_flipped_bytes_never_come_as_another_error(good: Path, tmp_path: Path, at: int) -> None:
    file, content = tmp_path / "model.pt2", bytearray(good.read_bytes())
    generator = np.random.default_rng(at)
    for place in generator.integers(0, len(content), 30):
        content[place] ^= 0xFF
    file.write_bytes(content)
    with pytest.raises(UsageError):
        gfocal.load(file)


def test_metadata_of_any_size(good: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="metadata are larger"):
        read_texts(changed(good, tmp_path, part(f"extra/{ABOUT}", b" " * (2**26 + 1))))


def test_functions_that_are_known() -> None:
    for name in ("torch.ops.aten.add.Tensor", "_operator.mul", "torch.sym_max", "torch.ops.higher_order.while_loop"):
        assert _FUNCTIONS.fullmatch(name)
    for name in ("torch.ops.aten.from_file", "torch.ops.aten.x.y.z", "torch.sym_max.__globals__", "os.system", ""):
        assert not _FUNCTIONS.fullmatch(name)
