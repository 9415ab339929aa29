"""Looking an ONNX file over before its runtime reads it: the runtime would open other files that it names.

A file is one message of Protocol Buffers (https://protobuf.dev/programming-guides/encoding/): a list of fields, each a
number, a type and a value; a value may be a message itself. Numbers of fields are those of ONNX's ``onnx.proto``.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

from gfocal.errors import UsageError

DOMAINS = ("", "ai.onnx", "com.microsoft")
"""Whose operators a graph may use: ONNX's own, and those that onnxruntime brings."""
OLDEST_OPSET = 18
"""Of ONNX, that gfocal writes."""

# Which fields of a message hold messages to look at.
_INNER = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "training": {1: "graph", 2: "graph"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 10: "tensor", 6: "graph", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}
_TENSOR_DIMS, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 1, 13, 14
_NODE_KIND, _NODE_DOMAIN = 4, 7
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2
_MOST_MESSAGES = 5_000_000
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_Field = tuple[int, int, int, int]  # number, type, and where the value lies, or the number that it is and 0


class _Damaged(ValueError):
    pass


def check_onnx(content: bytes, path: Path) -> None:
    """Refuse a file whose reading, or running, could open another one, or ask for memory that it has no numbers for.

    Args:
        content: of the file.
        path: for the message.

    Raises:
        UsageError: numbers lie in other files, operators are those of another program or older than gfocal's, a tensor
            is larger than the file, or it is no message at all.
    """
    try:
        _walk(memoryview(content), path)
    except _Damaged as error:
        raise UsageError(f"{path} is not an ONNX file, or is damaged ({error}); export it again") from None


def _walk(content: memoryview, path: Path) -> None:
    waiting, seen, graphs = [("model", 0, len(content))], 0, 0
    while waiting:
        kind, begin, end = waiting.pop()
        seen += 1
        graphs += kind == "graph"
        if seen > _MOST_MESSAGES:
            raise _Damaged("it has more parts than any graph")
        fields = list(_fields(content, begin, end))
        if kind == "tensor":
            _check_tensor(content, fields, path)
            continue
        if kind == "opset":
            _check_opset(fields, path)
            continue
        if kind == "node":
            _check_node(content, fields, path)
        inner = _INNER[kind]
        waiting += [(inner[n], a, b) for n, of, a, b in fields if n in inner and of == _BYTES]
    if not graphs:
        raise _Damaged("it has no graph")


def _check_tensor(content: memoryview, fields: list[_Field], path: Path) -> None:
    dims: list[int] = []
    for number, of, a, b in fields:
        if number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and a):
            raise UsageError(
                f"{path} keeps weights in other files, which are not read; an exported file holds all of its own"
            )
        if number == _TENSOR_DIMS:
            dims += [a] if of == _VARINT else _packed(content, a, b)
    if prod(dims) > 2 * len(content):  # the smallest numbers take half a byte
        raise _Damaged(f"one of its tensors has {' x '.join(map(str, dims[:8]))} numbers, more than the file can hold")


def _check_opset(fields: list[_Field], path: Path) -> None:
    domain = next((b - a for number, _, a, b in fields if number == _OPSET_DOMAIN), 0)
    version = next((a for number, _, a, _ in fields if number == _OPSET_VERSION), 0)
    if not domain and version < OLDEST_OPSET:
        raise UsageError(
            f"{path} has operators of ONNX's opset {version}, and gfocal writes {OLDEST_OPSET} or later: "
            "another program wrote it, or changed it; export it again"
        )


def _check_node(content: memoryview, fields: list[_Field], path: Path) -> None:
    texts = {number: bytes(content[a:b]) for number, of, a, b in fields if of == _BYTES and number in (4, 7)}
    domain, kind = (texts.get(n, b"").decode("utf-8", "replace") for n in (_NODE_DOMAIN, _NODE_KIND))
    if domain not in DOMAINS or kind == "EPContext":  # that names a file of a provider's own
        name = f"{domain}:{kind}" if domain else kind
        raise UsageError(
            f"{path} uses the operator {name[:100]}, which is not one of ONNX's own; gfocal does not write such files"
        )


def _fields(content: memoryview, begin: int, end: int) -> Iterator[_Field]:
    """The fields of a message: numbers as they are, of all else where it begins and ends."""
    at = begin
    while at < end:
        tag, at = _varint(content, at, end)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise _Damaged("it is no list of fields")
        if kind == _VARINT:
            value, at = _varint(content, at, end)
            yield number, kind, value, 0
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(kind, -1)
        if kind == _BYTES:
            size, at = _varint(content, at, end)
        if size < 0 or at + size > end:
            raise _Damaged("it ends too early" if size >= 0 else "it has fields of no known kind")
        yield number, kind, at, at + size
        at += size


def _packed(content: memoryview, begin: int, end: int) -> list[int]:
    values = []
    while begin < end:
        value, begin = _varint(content, begin, end)
        values.append(value)
    return values


def _varint(content: memoryview, at: int, end: int) -> tuple[int, int]:
    """A number and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise _Damaged("it ends too early")
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _Damaged("it has a number without end")
