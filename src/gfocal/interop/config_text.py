"""What a Python configuration text says, read without running it: literals, ``dict(...)`` calls, names given before."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

_PATH_LINE = re.compile(r"^\S*\.py$", re.MULTILINE)
_LONGEST = 1_000_000
_LARGEST = 1e300  # no number of pixels, and every whole number up to it is a float, too


def parse_config(text: object) -> dict[str, object]:
    """The values of a configuration's assignments by name; what is no plain value is None.

    Texts of several files one after the other, each under a line with its path, are merged as mmcv merges them: keys
    of a later dictionary go over those of an earlier one.

    Args:
        text: the text; anything else, and a text that is not Python, gives an empty dictionary.
    """
    if not isinstance(text, str) or len(text) > _LONGEST:
        return {}
    try:
        tree = ast.parse(_PATH_LINE.sub("", text))
        values: dict[str, object] = {}
        for statement in tree.body:
            if isinstance(statement, ast.Assign) and isinstance(target := statement.targets[0], ast.Name):
                values[target.id] = _merged(values.get(target.id), _value(statement.value, values))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    return values


def _value(node: ast.expr, known: Mapping[str, object]) -> object:
    match node:
        case ast.Constant(value=str() | int() | float() as value):  # bool is an int
            return value
        case ast.Name():
            return known.get(node.id)
        case ast.List() | ast.Tuple():
            return [_value(element, known) for element in node.elts]
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return -number
        case ast.Dict():
            pairs = [
                (_value(k, known) if k else None, _value(v, known)) for k, v in zip(node.keys, node.values, strict=True)
            ]
            return {k: v for k, v in pairs if isinstance(k, str)}
        case ast.Call(func=ast.Name(id="dict"), args=[]):
            result: dict[str, object] = {}
            for keyword in node.keywords:
                inner = _value(keyword.value, known)
                if keyword.arg is not None:
                    result[keyword.arg] = inner
                elif isinstance(inner, dict):
                    result |= inner
            return result
    return None


def _merged(below: object, above: object) -> object:
    if not isinstance(below, dict) or not isinstance(above, dict) or above.get("_delete_"):
        return above
    return {**below, **{key: _merged(below.get(key), value) for key, value in above.items()}}


def find(config: object, *path: str) -> object:
    """What stands under these keys, one inside the other; None if nothing does."""
    for key in path:
        config = config.get(key) if isinstance(config, dict) else None
    return config


def steps(pipeline: object) -> Iterator[dict[str, object]]:
    """Every dictionary in a list of processing steps, and in those inside it."""
    if isinstance(pipeline, dict):
        yield pipeline
        for value in pipeline.values():
            yield from steps(value)
    elif isinstance(pipeline, list):
        for value in pipeline:
            yield from steps(value)


def numbers(value: object, count: int) -> tuple[float, ...] | None:
    """``count`` finite numbers, or None where the value is anything else."""
    if not isinstance(value, (list, tuple)) or len(value) != count:
        return None
    if any(isinstance(v, bool) or not isinstance(v, (int, float)) or not abs(v) <= _LARGEST for v in value):
        return None
    return tuple(float(v) for v in value)
