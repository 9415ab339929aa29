"""Looking a ``.pt2`` file over before torch reads it: ``torch.export.load`` runs code that is in a file.

It unpickles weights, constants and example inputs, loads compiled libraries, evaluates expressions of sizes as Python,
and calls whatever function of torch a graph names. So a file is not handed over: what gfocal's own files consist of is
checked and written into a new archive in memory, everything else is refused. Formats: ``torch/export/pt2_archive`` and
``torch/_export/serde/schema.py`` of torch 2.14.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from gfocal.errors import UsageError
from gfocal.exported.contract import ABOUT

_KEPT = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)|models/model\.json"
    r"|data/(weights/(weight_\d+|model_weights_config\.json)|constants/(tensor_\d+|model_constants_config\.json))"
)
_EXAMPLES, _EXTRA = "data/sample_inputs/model.pt", f"extra/{ABOUT}"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_GRAPH = "models/model.json"
_MOST_METADATA, _MOST_ENTRIES = 1 << 26, 100_000

_FUNCTIONS = re.compile(
    r"torch\.ops\.(aten\.(?!from_file\b)\w+\.\w+|torchvision\.deform_conv2d\.default|higher_order\.(while_loop|cond))"
    r"|_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem)"
    r"|torch\.sym_\w+|math\.(ceil|floor|trunc|sqrt)"
)
_ARGUMENTS = re.compile(
    r"as_(none|tensors?|nested_tensors|optional_tensors?|ints?|int_lists|floats?|bools?|strings?|complex|expr|name|graph"
    r"|sym_(ints?|floats?|bools?)|scalar_type|memory_format|layout|device)"
)
_SYMBOL = re.compile(r"[A-Z]\w*|[a-z]{1,3}\d+")
_TREES = (None, "builtins.tuple", "builtins.list", "builtins.dict")


class _Refused(ValueError):
    pass


def read_texts(path: Path) -> dict[str, str]:
    """The metadata of a file, without torch.

    Raises:
        UsageError: it is no archive.
    """
    with _explained(path), zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.partition("/")[2] == _EXTRA]
        if not names:
            return {}
        if archive.getinfo(names[0]).file_size > _MOST_METADATA:
            raise _Refused("its metadata are larger than a recipe and its names can be")
        return {ABOUT: archive.read(names[0]).decode()}


def checked_archive(path: Path) -> io.BytesIO:
    """The file as an archive that ``torch.export.load`` may read: without what it would run, and without examples.

    Raises:
        UsageError: something in it is not of the kind that gfocal writes.
    """
    made = io.BytesIO()
    with _explained(path), zipfile.ZipFile(path) as archive, zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as checked:
        entries = _entries(archive)
        graph = _json(archive, entries, _GRAPH)
        _check_graph(graph)
        for name in _CONFIGS:
            _check_config(_json(archive, entries, name), name.rpartition("/")[0], entries)
        for name, entry in entries.items():
            if name == _GRAPH:
                content = json.dumps(graph).encode()
            else:  # examples are a pickle; without any content torch takes it that there are none
                content = b"" if name == _EXAMPLES else archive.read(entry)
            checked.writestr(f"archive/{name}", content)
    made.seek(0)
    return made


class _explained:
    """What goes wrong inside is a matter of the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, _Refused):
            raise UsageError(
                f"{self.path} was not written by gfocal export, or was changed since: {error}; it is not loaded"
            ) from None
        damaged = zipfile.BadZipFile | OSError | ValueError | TypeError | KeyError | EOFError | RecursionError
        if isinstance(error, damaged | NotImplementedError | RuntimeError | AttributeError):
            words = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise UsageError(
                f"{self.path} is not a .pt2 file of torch.export, or is damaged ({words}); export it again"
            ) from None


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """By their names below the one folder that there is."""
    found: dict[str, zipfile.ZipInfo] = {}
    every = archive.infolist()
    if len(every) > _MOST_ENTRIES:
        raise _Refused(f"it has {len(every):,} parts")
    roots = {entry.filename.partition("/")[0] for entry in every}
    for entry in every:
        name = entry.filename.partition("/")[2]
        if name in found or len(roots) > 1 or not (_KEPT.fullmatch(name) or name in (_EXAMPLES, _EXTRA)):
            raise _Refused(f"it has a part {entry.filename[:100]!r}")
        if entry.compress_type != zipfile.ZIP_STORED:
            raise _Refused("its parts are compressed")
        found[name] = entry
    for needed in (_GRAPH, _EXAMPLES, *_CONFIGS):
        if needed not in found:
            raise _Refused(f"it has no part {needed!r}")
    return found


def _json(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], name: str) -> Any:
    return json.loads(archive.read(entries[name]))


def _check_config(config: Any, folder: str, entries: dict[str, zipfile.ZipInfo]) -> None:
    """Weights and constants: plain numbers, no more of them than there are bytes."""
    for one in config["config"].values():
        if one["use_pickle"] is not False:
            raise _Refused("some of its numbers are a pickle, which could run code")
        entry = entries.get(f"{folder}/{one['path_name']}")
        if entry is None:
            raise _Refused(f"it has no part {str(one['path_name'])[:100]!r}")
        sizes = [size["as_int"] for size in one["tensor_meta"]["sizes"]]
        if prod(sizes) > entry.file_size or any(size < 0 for size in sizes):
            raise _Refused(f"one of its tensors has {sizes[:8]} numbers, more than the file holds")


def _check_graph(graph: Any) -> None:
    """Known functions and arguments alone; expressions of sizes that are nothing else. Drops notes and guards."""
    graph["guards_code"] = []  # Python, about which sizes fit; they are never asked
    for part, key, value in _parts(graph):
        if key == "metadata":
            part[key] = {}  # where in the source a node comes from: names of functions and paths
        elif key == "target" and not (isinstance(value, str) and _FUNCTIONS.fullmatch(value)):
            raise _Refused(f"its graph calls {str(value)[:100]!r}")
        elif key.startswith("as_") and not _ARGUMENTS.fullmatch(key):
            raise _Refused(f"its graph has an argument of the kind {key[:100]!r}")
        elif key == "expr_str":
            _check_expression(value)
        elif key in ("in_spec", "out_spec") and value is not None:
            _check_tree(json.loads(value)[1])
    for name in graph["range_constraints"]:
        _check_expression(name)


def _parts(content: Any) -> Iterator[tuple[dict[str, Any], str, Any]]:
    """(dictionary, key, value) of all there is inside; what is replaced meanwhile is not gone into."""
    waiting = [content]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting += part
        elif isinstance(part, dict):
            for key, value in list(part.items()):
                yield part, key, value
            waiting += part.values()


def _check_expression(text: Any) -> None:
    """Refuse what is more than sums and products of numbers and symbols: torch evaluates it as Python."""
    if not isinstance(text, str) or len(text) > 10_000:
        raise _Refused("an expression of its sizes is none")
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise _Refused(f"an expression of its sizes is {text[:100]!r}") from None
    plain = ast.Expression | ast.BinOp | ast.UnaryOp | ast.Compare | ast.operator | ast.unaryop | ast.cmpop | ast.Load
    for node in ast.walk(tree):
        fine = isinstance(node, plain | ast.keyword)
        fine = fine or (isinstance(node, ast.Call) and isinstance(node.func, ast.Name))
        fine = fine or (isinstance(node, ast.Name) and _SYMBOL.fullmatch(node.id) is not None)
        fine = fine or (isinstance(node, ast.Constant) and not _is_odd(node.value))
        if not fine:
            raise _Refused(f"an expression of its sizes is {text[:100]!r}")


def _is_odd(value: object) -> bool:
    if isinstance(value, str):
        return re.fullmatch(r"[a-z]{1,3}\d+", value) is None
    return not isinstance(value, bool | int | float)


def _check_tree(tree: Any) -> None:
    """How inputs and outputs are packed: tuples, lists and dictionaries with names."""
    context = json.loads(tree["context"]) if isinstance(tree["context"], str) else tree["context"]
    names = context is None or (isinstance(context, list) and all(isinstance(name, str) for name in context))
    if tree["type"] not in _TREES or not names:
        raise _Refused(f"its outputs are packed as {str(tree['type'])[:100]!r}")
    for inner in tree["children_spec"]:
        _check_tree(inner)
