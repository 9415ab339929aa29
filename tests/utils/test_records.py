"""Records as JSON: names, nesting, what is missing, what is wrong and where."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from gfocal.utils.records import FLAT, IF_ANY, fields_from_json, fields_to_json, from_json, named, to_json

Letter = Literal["a", "b"]


@dataclass(frozen=True)
class Inner:
    count: int
    share: float | None


@dataclass(frozen=True)
class Own:
    """Has a form of its own."""

    seconds: float

    def to_dict(self) -> dict[str, Any]:
        return {"minutes": self.seconds / 60}

    @classmethod
    def from_dict(cls, content: Mapping[str, float]) -> Own:
        return cls(content["minutes"] * 60)


@dataclass(frozen=True)
class More:
    """Adds to its fields."""

    side: int

    def to_dict(self) -> dict[str, Any]:
        return {**fields_to_json(self), "area": self.side**2}

    @classmethod
    def from_dict(cls, content: object) -> More:
        return fields_from_json(cls, content)


@dataclass(frozen=True, kw_only=True)
class Outer:
    images: int = field(metadata=named("pictures"))
    letters: dict[Letter, float] = field(metadata=FLAT)
    inner: Inner = field(metadata=FLAT)
    rows: tuple[Inner, ...]
    by_name: Mapping[str, Inner | None]
    size: tuple[int, float]
    names: list[str]
    kind: Letter
    own: Own
    more: More
    ok: bool
    free: Mapping[str, object]
    some: Mapping[Letter, int]
    steps: Sequence[int] = ()
    late: Inner | None = field(default=None, metadata=IF_ANY)


OUTER = Outer(
    images=3,
    letters={"a": 0.5, "b": math.nan},
    inner=Inner(1, None),
    rows=(Inner(2, 0.25), Inner(3, 1)),
    by_name={"one": Inner(4, 0.5), "none": None},
    size=(8, 1.5),
    names=["x"],
    kind="b",
    own=Own(90.0),
    more=More(3),
    ok=True,
    free={"list": [1, {"a": None}]},
    some={"b": 2},
)
CONTENT: dict[str, Any] = {
    "pictures": 3,
    "a": 0.5,
    "b": None,
    "count": 1,
    "share": None,
    "rows": [{"count": 2, "share": 0.25}, {"count": 3, "share": 1}],
    "by_name": {"one": {"count": 4, "share": 0.5}, "none": None},
    "size": [8, 1.5],
    "names": ["x"],
    "kind": "b",
    "own": {"minutes": 1.5},
    "more": {"side": 3, "area": 9},
    "ok": True,
    "free": {"list": [1, {"a": None}]},
    "some": {"b": 2},
    "steps": [],
}


def test_to_json_and_back() -> None:
    found = to_json(OUTER)
    assert found == CONTENT
    assert list(found) == list(CONTENT), "in the order of the fields"
    again = from_json(Outer, json.loads(json.dumps(found, allow_nan=False)))
    assert again.letters["a"] == 0.5
    assert math.isnan(again.letters["b"]), "a number that is null"
    assert again == OUTER


def test_what_is_no_record() -> None:
    assert to_json({1: Path("a/b"), "t": (1, {2}), "n": [math.inf, -0.0, True, None]}) == {
        "1": "a/b",
        "t": [1, [2]],
        "n": [None, -0.0, True, None],
    }


def test_what_came_later_may_be_missing_and_what_is_not_known_is_passed_over() -> None:
    assert to_json(from_json(Outer, CONTENT | {"late": {"count": 1, "share": 0.5, "younger": 1}}))["late"] == {
        "count": 1,
        "share": 0.5,
    }
    content = {key: value for key, value in CONTENT.items() if key != "steps"}
    content |= {"younger": 1, "some": {"b": 2, "younger": None}}
    assert from_json(Outer, content) == OUTER


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pictures": ...}, "pictures is missing"),
        ({"b": ...}, "b is missing"),
        ({"count": ...}, "count is missing"),
        ({"pictures": "3"}, "pictures is '3', not a whole number"),
        ({"pictures": 3.0}, "pictures is 3.0, not a whole number"),
        ({"pictures": True}, "pictures is True, not a number"),
        ({"pictures": None}, "pictures is None, not a whole number"),
        ({"a": "much"}, "a is 'much', not a number"),
        ({"a": False}, "a is False, not a number"),
        ({"ok": 1}, "ok is 1, not true or false"),
        ({"kind": "c"}, "kind is 'c', not one of 'a', 'b'"),
        ({"rows": {"count": 1}}, "rows is {'count': 1}, not a list"),
        ({"rows": [{"count": 2, "share": 0.25}, {"count": 3}]}, "rows[1].share is missing"),
        ({"rows": [[]]}, "rows[0] is [], not an object"),
        ({"rows": "ab"}, "rows is 'ab', not a list"),
        ({"by_name": []}, "by_name is [], not an object"),
        ({"by_name": {"one": {"count": 4, "share": "x" * 99}}}, f"by_name.one.share is '{'x' * 39}..., not a number"),
        ({"size": [1, 2, 3]}, "size is [1, 2, 3], not a list of 2"),
        ({"size": [1.5, 2]}, "size[0] is 1.5, not a whole number"),
        ({"names": [None]}, "names[0] is None, not a text"),
        ({"more": {}}, "in more, side is missing"),
        ({"free": 1}, "free is 1, not an object"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(change: dict[str, Any], message: str) -> None:
    content = {key: value for key, value in (CONTENT | change).items() if value is not ...}
    with pytest.raises(ValueError) as caught:
        from_json(Outer, content)
    assert str(caught.value) == message


@pytest.mark.parametrize("content", [None, [], "text", 1])
def test_something_else(content: object) -> None:
    with pytest.raises(ValueError, match=r"the content is .*, not an object"):
        from_json(Outer, content)
