"""Each claim compares rows of its table, says so in its words, and is what the paper's own figures show."""

from __future__ import annotations

import re

import pytest

from gfocal.studies.paper.claims import CLAIMS, Claim, Part
from gfocal.studies.paper.tables import FIGURES, TABLES

EACH = [pytest.param(table, claim, id=f"{table}-{i}") for table in CLAIMS for i, claim in enumerate(CLAIMS[table])]
WORDS = {"above": "above", "about": "within", "at_least": "no more than .* below", "at_most": "no more than .* longer"}
# The paper ranks General above Gaussian, and prints 39.3 for both on ATSS.
EQUAL = [(("atss-general", 1.0), ("atss-gaussian", -1.0))]


def rows_of(claim: Claim) -> set[str]:
    return {key for part in claim.parts for key, _ in part.weights}


def test_every_row_of_the_paper_is_judged() -> None:
    published = [table for table in TABLES.values() if table.published]
    assert list(CLAIMS) == [table.name for table in published]
    for table in published:
        judged = set().union(*map(rows_of, CLAIMS[table.name]))
        assert judged <= {row.key for row in table.rows}
        assert {row.key for row in table.rows if row.figures is not None} <= judged


@pytest.mark.parametrize(("table", "claim"), EACH)
def test_the_figures_in_its_words_are_those_of_its_rows(table: str, claim: Claim) -> None:
    printed = {float(figure) for figure in re.findall(r"(?<![+\d])\d\d\.\d", claim.published)}
    if all(part.measure == "AP" for part in claim.parts):
        assert printed == {FIGURES[key]["AP"] for key in rows_of(claim)}
    else:
        assert table in ("table1a", "table3")  # correlations, which the paper shows as a plot, and times


def holds(part: Part) -> bool:
    """The statement about the paper's figures, in points."""
    value = round(sum(weight * FIGURES[key]["AP"] for key, weight in part.weights), 6)
    low = {"above": 1e-9, "at_least": -100 * part.margin, "about": -100 * part.margin, "at_most": -1e9}[part.kind]
    high = 100 * part.margin if part.kind in ("about", "at_most") else 1e9
    return low <= value <= high


@pytest.mark.parametrize(("table", "claim"), EACH)
def test_the_paper_s_own_figures_bear_it_out(table: str, claim: Claim) -> None:
    for part in claim.parts:
        assert sum(weight for _, weight in part.weights) == 0
        assert re.search(WORDS[part.kind], part.text), part.text
        if table in ("table1c", "table2b", "table2c"):
            assert re.findall(r"= (\S+)", part.text) == [key.partition("-")[2] for key, _ in part.weights]
        if part.measure != "time":  # the paper's best row has the best scores too
            assert holds(part) == (part.weights not in EQUAL), part.text


def test_statements_name_their_detectors() -> None:
    for table, names in (("table1b", ("FoveaBox", "RetinaNet", "SSD")), ("table2a", ("FCOS", "ATSS"))):
        for claim, name in zip(CLAIMS[table], names, strict=True):
            assert name in claim.statement
            assert claim.parts[0].weights[0][0].startswith(name.lower())
