"""Frozen dataclasses as JSON, and back.

The JSON of a record has a key for each field, in their order. The metadata of a field say what is different:

- ``field(metadata=named("pictures"))``: another name;
- ``field(metadata=FLAT)``: its own keys, among those around it; of a mapping its keys are those of its type;
- ``field(metadata=IF_ANY)``: no key where it is None.

NaN and infinities have no place in JSON: they become null, and a number that is null is read as NaN. A class with a
form of its own has ``to_dict`` and, if it is read again, ``from_dict``. Keys that a class does not know are passed
over, and those that it has a default for may be missing: files of earlier and later versions open.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin, get_type_hints

_T = TypeVar("_T")
Metadata = Mapping[str, object]

FLAT: Metadata = {"flat": True}
IF_ANY: Metadata = {"if any": True}
_KINDS = {int: "a whole number", str: "a text", bool: "true or false"}


def named(name: str) -> Metadata:
    """Metadata of a field that has another name in JSON."""
    return {"key": name}


def to_json(value: Any) -> Any:
    """What JSON can hold of records, mappings, lists, paths and numbers, however they are nested."""
    if (own := getattr(value, "to_dict", None)) is not None:
        return own()
    if dataclasses.is_dataclass(value):
        return fields_to_json(value)
    if isinstance(value, Mapping):
        return {str(name): to_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [to_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def fields_to_json(record: Any) -> dict[str, Any]:
    """A record's fields, for a class whose ``to_dict`` adds to them."""
    content: dict[str, Any] = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if field.metadata.get("flat"):
            content |= to_json(value)
        elif value is not None or not field.metadata.get("if any"):
            content[_key(field)] = to_json(value)
    return content


def from_json(kind: type[_T], content: object) -> _T:
    """The record that :func:`to_json` made JSON of.

    Args:
        kind: its class; the types of its fields are checked.
        content: what ``json.loads`` gave.

    Raises:
        ValueError: a key is missing, or its value is of another kind; the message says where.
    """
    found: _T = _read(kind, content, "")
    return found


def fields_from_json(kind: type[_T], content: object) -> _T:
    """A record from its fields, for a class whose ``from_dict`` does more; see :func:`from_json`."""
    found: _T = _read_fields(kind, content, "")
    return found


def _key(field: dataclasses.Field[Any]) -> str:
    return str(field.metadata.get("key", field.name))


@functools.cache
def _hints(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _read(hint: Any, content: Any, where: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        (only,) = (arg for arg in args if arg is not types.NoneType)  # X | None is all that records have
        return None if content is None else _read(only, content, where)
    if dataclasses.is_dataclass(hint):
        own = getattr(hint, "from_dict", None)
        return _read_fields(hint, content, where) if own is None else _read_own(own, content, where)
    if origin is Literal:
        return content if content in args else _refuse(content, f"one of {', '.join(map(repr, args))}", where)
    if origin in (list, tuple, Sequence):
        return _read_list(hint, content, where)
    if origin in (dict, Mapping):
        if not isinstance(content, dict):
            _refuse(content, "an object", where)
        known = get_args(args[0]) or content  # of names that are all listed, others are of a later version
        return {name: _read(args[1], item, _at(where, name)) for name, item in content.items() if name in known}
    if hint is float and content is None:
        return math.nan
    if hint in (int, float) and isinstance(content, bool):
        _refuse(content, "a number", where)
    if hint is float:
        return content if isinstance(content, int | float) else _refuse(content, "a number", where)
    if hint in _KINDS:
        return content if isinstance(content, hint) else _refuse(content, _KINDS[hint], where)
    return content


def _read_own(read: Callable[[Any], Any], content: Any, where: str) -> Any:
    try:
        return read(content)
    except ValueError as error:
        if not where:
            raise
        raise ValueError(f"in {where}, {error}") from error


def _read_fields(kind: Any, content: Any, where: str) -> Any:
    if not isinstance(content, dict):
        _refuse(content, "an object", where)
    values = {}
    for field in dataclasses.fields(kind):
        hint, name = _hints(kind)[field.name], _key(field)
        if field.metadata.get("flat"):
            values[field.name] = _read(hint, _own_part(hint, content, where), where)
        elif name in content:
            values[field.name] = _read(hint, content[name], _at(where, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{_at(where, name)} is missing")
    return kind(**values)


def _own_part(hint: Any, content: dict[str, Any], where: str) -> dict[str, Any]:
    """What a flat field has of the keys around it: a record takes what it knows, a mapping the keys of its type."""
    if dataclasses.is_dataclass(hint):
        return content
    names = get_args(get_args(hint)[0])
    if missing := [name for name in names if name not in content]:
        raise ValueError(f"{_at(where, missing[0])} is missing")
    return {name: content[name] for name in names}


def _read_list(hint: Any, content: Any, where: str) -> Any:
    if not isinstance(content, list):
        _refuse(content, "a list", where)
    args = get_args(hint)
    if get_origin(hint) is tuple and args[-1] is not Ellipsis:
        if len(content) != len(args):
            _refuse(content, f"a list of {len(args)}", where)
        kinds = args
    else:
        kinds = args[:1] * len(content)
    found = [
        _read(kind, item, f"{where}[{place}]") for place, (kind, item) in enumerate(zip(kinds, content, strict=True))
    ]
    return found if get_origin(hint) is list else tuple(found)


def _at(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _refuse(content: object, wanted: str, where: str) -> NoReturn:
    text = repr(content)
    shown = text if len(text) <= 40 else f"{text[:40]}..."
    raise ValueError(f"{where or 'the content'} is {shown}, not {wanted}")
