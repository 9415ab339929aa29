"""Pickles read as data: an interpreter of their opcodes that has no way to import, call or set anything.

A pickle is a program for a small stack machine. Python's own machine looks up functions by name and calls them, which
is how a checkpoint can run code. This one knows numbers, texts, containers, and the few names that tensors are stored
under. Every other name and whatever is done with it (calls, attributes, items, state) becomes a :class:`Foreign`.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import IO, Any

from gfocal.serialization import bounds
from gfocal.serialization.bounds import Unreadable

_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
# Opcodes whose argument, which pickletools decodes, is the value itself.
_VALUES = {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
_VALUES |= {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_VALUES |= {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_NEW: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "EMPTY_SET": set}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PLAIN = (str, bytes, int, float, bool, type(None))


@dataclass(frozen=True)
class Name:
    """A class or function that a pickle names; nothing is looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class Foreign:
    """What stands for an object of a class that is not read; ``name`` is the class or function that makes it."""

    name: str


@dataclass(eq=False)
class Stateful:
    """What a maker may give for an object whose pickle says its content afterwards; that is kept, and nothing done.

    Attributes:
        kind: a word of the maker's.
        arguments: of the call.
        state: what the pickle gives it; None before.
    """

    kind: str
    arguments: tuple[Any, ...]
    state: Any = None


class PickleMachine:
    """Reads pickles that follow each other in a file.

    Args:
        makers: what a call of a name gives: plain functions of ours, which get the arguments as one tuple.
        persistent: gives the value of a persistent id.

    Attributes:
        foreign: names of all classes and functions that are not in ``makers`` and were called, in order.
    """

    def __init__(
        self, makers: dict[tuple[str, str], Callable[[tuple[Any, ...]], Any]], persistent: Callable[[Any], Any]
    ) -> None:
        self._makers = makers
        self._persistent = persistent
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self.foreign: dict[str, None] = {}

    def read(self, file: IO[bytes]) -> Any:
        """The value of the pickle that starts where ``file`` stands, which is left behind its end.

        Raises:
            ValueError, IndexError, KeyError, TypeError ...: the pickle is damaged.
        """
        self._stack, self._memo = [], {}
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count >= bounds.OPCODES:
                raise Unreadable(f"its pickle has over {bounds.OPCODES:,} steps")
            self._step(opcode.name, argument)
        return self._stack.pop()

    def _step(self, name: str, argument: Any) -> None:
        if name in _VALUES:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _NEW:
            self._stack.append(_NEW[name]())
        elif name in _TUPLES:
            count = _TUPLES[name]
            self._stack[-count:] = [tuple(self._stack[-count:])]
        elif name in _CONTAINERS:
            _CONTAINERS[name](self)
        elif name in _MEMO:
            _MEMO[name](self, argument)
        elif name in _OBJECTS:
            _OBJECTS[name](self, argument)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"opcode {name} has no meaning here")

    def _since_mark(self) -> list[Any]:
        """Take the values above the topmost mark, and the mark."""
        place = next(i for i in range(len(self._stack) - 1, -1, -1) if self._stack[i] is _MARK)
        values = self._stack[place + 1 :]
        del self._stack[place:]
        return values

    def _made(self, maker: Any, arguments: Any) -> Any:
        """What calling ``maker`` gives: a value of ours, or a stand-in."""
        if isinstance(maker, Name) and (make := self._makers.get((maker.module, maker.name))) is not None:
            return make(tuple(arguments))
        name = str(maker) if isinstance(maker, Name) else maker.name if isinstance(maker, Foreign) else "an object"
        self.foreign[name] = None
        return Foreign(name)

    # --- containers

    def _mark(self) -> None:
        self._stack.append(_MARK)

    def _make_list(self) -> None:
        self._stack.append(self._since_mark())

    def _make_tuple(self) -> None:
        self._stack.append(tuple(self._since_mark()))

    def _make_dict(self) -> None:
        values = self._since_mark()
        self._stack.append({})
        self._put_items(values)

    def _make_frozenset(self) -> None:
        self._stack.append(frozenset(_plain(self._since_mark())))

    def _append(self) -> None:
        self._extend([self._stack.pop()])

    def _appends(self) -> None:
        self._extend(self._since_mark())

    def _extend(self, values: list[Any]) -> None:
        if isinstance(self._stack[-1], list):
            self._stack[-1].extend(values)

    def _set_item(self) -> None:
        value, key = self._stack.pop(), self._stack.pop()
        self._put_items([key, value])

    def _set_items(self) -> None:
        self._put_items(self._since_mark())

    def _put_items(self, values: list[Any]) -> None:
        if isinstance(target := self._stack[-1], dict):
            pairs = zip(values[::2], values[1::2], strict=True)
            # Hashing a tuple of tuples of ... can take for ever; names and numbers are all that is needed.
            target.update((k, v) for k, v in pairs if isinstance(k, _PLAIN))

    def _add_items(self) -> None:
        values = self._since_mark()
        if isinstance(self._stack[-1], set):
            self._stack[-1].update(_plain(values))

    def _pop(self) -> None:
        self._stack.pop()

    def _duplicate(self) -> None:
        self._stack.append(self._stack[-1])

    # --- the memo

    def _get(self, place: int) -> None:
        self._stack.append(self._memo[place])

    def _put(self, place: int) -> None:
        self._memo[place] = self._stack[-1]

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    # --- what would import, call or set in Python's own machine

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(Name(module, name))

    def _stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a class has a name that is no text")
        self._stack.append(Name(module, name))

    def _extension(self, code: int) -> None:
        self._stack.append(Name("copyreg", f"extension {code}"))

    def _reduce(self, _: Any) -> None:
        arguments, maker = self._stack.pop(), self._stack.pop()
        self._stack.append(self._made(maker, arguments))

    def _new_object_with_keywords(self, _: Any) -> None:
        self._stack.pop()
        self._reduce(_)

    def _instance(self, argument: str) -> None:
        arguments = self._since_mark()
        self._global(argument)
        self._stack.append(self._made(self._stack.pop(), arguments))

    def _object(self, _: Any) -> None:
        maker, *arguments = self._since_mark()
        self._stack.append(self._made(maker, arguments))

    def _build(self, _: Any) -> None:
        state = self._stack.pop()
        if isinstance(self._stack[-1], Stateful):  # nothing else here has one
            self._stack[-1].state = state

    def _persistent_id(self, argument: Any) -> None:
        self._stack.append(self._persistent(argument))

    def _binary_persistent_id(self, _: Any) -> None:
        self._stack.append(self._persistent(self._stack.pop()))


def _plain(values: Iterable[Any]) -> list[Hashable]:
    return [value for value in values if isinstance(value, _PLAIN)]


_M = PickleMachine
_CONTAINERS: dict[str, Callable[[PickleMachine], None]] = {
    "MARK": _M._mark,
    "LIST": _M._make_list,
    "TUPLE": _M._make_tuple,
    "DICT": _M._make_dict,
    "FROZENSET": _M._make_frozenset,
    "APPEND": _M._append,
    "APPENDS": _M._appends,
    "SETITEM": _M._set_item,
    "SETITEMS": _M._set_items,
    "ADDITEMS": _M._add_items,
    "POP": _M._pop,
    "POP_MARK": lambda machine: machine._since_mark().clear(),
    "DUP": _M._duplicate,
}
_MEMO: dict[str, Callable[[PickleMachine, Any], None]] = {
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _M._get),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _M._put),
    "MEMOIZE": _M._memoize,
}
_OBJECTS: dict[str, Callable[[PickleMachine, Any], None]] = {
    "GLOBAL": _M._global,
    "STACK_GLOBAL": _M._stack_global,
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), _M._extension),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _M._reduce),
    "NEWOBJ_EX": _M._new_object_with_keywords,
    "INST": _M._instance,
    "OBJ": _M._object,
    "BUILD": _M._build,
    "PERSID": _M._persistent_id,
    "BINPERSID": _M._binary_persistent_id,
}
