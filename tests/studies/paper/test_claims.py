"""Each claim compares the rows that it speaks of, and those are rows of its table."""

from __future__ import annotations

import pytest

from gfocal.studies.paper.claims import CLAIMS
from gfocal.studies.paper.tables import TABLES

CHAIN = [("joint", "iou"), ("iou", "centerness"), ("centerness", "none")]
OTHERS = ["iou", "centerness", "none", "iou_guided", "centerness_guided"]


def quality(name: str) -> list[tuple[str, str, str, str]]:
    pairs = [("above", "AP", a, b) for a, b in [*CHAIN, ("joint", "iou_guided"), ("joint", "centerness_guided")]]
    pairs += [("above", "correlation", "joint", b) for b in OTHERS]
    return [(kind, measure, f"{name}-{a}", f"{name}-{b}") for kind, measure, a, b in pairs]


def boxes(name: str) -> list[tuple[str, str, str, str]]:
    pairs = [("at_least", "general_dfl", "general"), ("above", "general", "gaussian"), ("about", "gaussian", "dirac")]
    return [(kind, "AP", f"{name}-{a}", f"{name}-{b}") for kind, a, b in pairs]


WANTED = {
    "table1a": quality("fcos") + quality("atss"),
    "table1b": [("above", "AP", f"{name}-joint", name) for name in ("foveabox", "retinanet", "ssd")],
    "table1c": [("above", "AP", "beta-2", f"beta-{b}") for b in ("0", "1", "2.5", "4")],
    "table2a": boxes("fcos") + boxes("atss"),
    "table2b": [("about", "AP", f"n-{n}", "n-16") for n in (12, 14, 18)],
    "table2c": [
        ("about", "AP", "delta-1", "delta-0.5"),
        ("at_least", "AP", "delta-1", "delta-2"),
        ("at_least", "AP", "delta-1", "delta-4"),
    ],
    "table3": [
        ("above", "AP", "atss-qfl", "atss"),
        ("above", "AP", "atss-dfl", "atss"),
        ("above", "AP", "gfl", "atss-qfl"),
        ("above", "AP", "gfl", "atss-dfl"),
        ("at_most", "time", "gfl", "atss"),
    ],
}


@pytest.mark.parametrize("table", list(TABLES))
def test_claims_compare_what_they_say(table: str) -> None:
    parts = [part for claim in CLAIMS[table] for part in claim.parts]
    pairs = [part for part in parts if len(part.weights) == 2]
    assert [(p.kind, p.measure, p.weights[0][0], p.weights[1][0]) for p in pairs] == WANTED[table]
    assert all([weight for _, weight in part.weights] == [1.0, -1.0] for part in pairs)
    keys = {row.key for row in TABLES[table].rows}
    assert {key for part in parts for key, _ in part.weights} <= keys
    rest = [part for part in parts if len(part.weights) != 2]
    assert [dict(part.weights) for part in rest] == (
        [{"gfl": 1.0, "atss-dfl": -1.0, "atss-qfl": -1.0, "atss": 1.0}] if table == "table3" else []
    )


def test_statements_name_their_detectors() -> None:
    for table, names in (("table1b", ("FoveaBox", "RetinaNet", "SSD")), ("table2a", ("FCOS", "ATSS"))):
        for claim, name in zip(CLAIMS[table], names, strict=True):
            assert name in claim.statement
            assert claim.parts[0].weights[0][0].startswith(name.lower())
