"""The paper's tables as data: rows are recipe overrides, beside the figures that the paper prints for them.

Rows that come to the same recipe are the same run, in whatever tables they stand: 43 rows are 35 runs a seed.
"""

from __future__ import annotations

from dataclasses import dataclass

from gfocal.studies.paper import published
from gfocal.studies.paper.published import COLUMNS, Column, Figures

RECIPES: dict[str, dict[str, str]] = {
    "full": {
        "fcos": "fcos_r50",
        "atss": "atss_r50",
        "gfl": "gfl_r50",
        "retinanet": "retinanet_r50",
        "foveabox": "foveabox_r50",
        "ssd": "ssd512_vgg16",
    },
    "nano": {name: f"{name}_nano" for name in ("fcos", "atss", "gfl", "retinanet", "foveabox", "ssd")},
}
"""The recipe of a detector, by pyramid: as published, or one that a CPU trains in minutes."""


@dataclass(frozen=True)
class Row:
    """A line of a table; of Tables 1a and 2a, where a line holds two detectors, one of them.

    Attributes:
        key: its name, one row has it in its table.
        title: what the table calls it.
        detector: of :data:`RECIPES`.
        changes: overrides of that detector's recipe.
        baseline: key of the row that it is compared with; None for the first.
        group: heading above it.
        figures: what the paper prints; None for a row that the paper has not.
        small_only: makes sense for small images alone, and is left out of full ones.
    """

    key: str
    title: str
    detector: str
    changes: tuple[str, ...] = ()
    baseline: str | None = None
    group: str = ""
    figures: Figures | None = None
    small_only: bool = False

    @property
    def published_difference(self) -> float | None:
        """AP to the baseline in the paper, in points."""
        if self.figures is None or self.baseline is None:
            return None
        return round(self.figures["AP"] - FIGURES[self.baseline]["AP"], 2)


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        name: as typed.
        title: what it compares.
        source: where the paper has it.
        rows: in the paper's order, extra ones among them.
        columns: what the paper prints.
        note: what a reader has to know about how it is filled here.
        timed: the paper gives its speed too.
        published: the paper has it; ``all`` runs no others.
    """

    name: str
    title: str
    source: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...] = COLUMNS
    note: str = ""
    timed: bool = False
    published: bool = True

    def shown(self, pyramid: str) -> tuple[Row, ...]:
        """The rows that make sense with a pyramid."""
        return tuple(row for row in self.rows if pyramid == "nano" or not row.small_only)


FIGURES: dict[str, Figures] = {
    **published.TABLE_1A,
    **published.TABLE_1B,
    **published.TABLE_1C,
    **published.TABLE_2A,
    **published.TABLE_2B,
    **published.TABLE_2C,
    **published.TABLE_3,
}
_PAPER = "arXiv 2006.04388, "
_DETECTORS = {"fcos": "FCOS", "atss": "ATSS"}
_QUALITIES = {
    "none": "without quality branch",
    "centerness": "centerness branch",
    "iou": "IoU branch",
    "centerness_guided": "centerness-guided",
    "iou_guided": "IoU-guided",
    "joint": "joint with QFL",
}
_BOXES = {"dirac": "Dirac delta", "gaussian": "Gaussian", "general": "General", "general_dfl": "General with DFL"}
_N = "model.boxes.reg_max=16"  # as published; the small recipes have fewer bins
_JOINT = "model.quality.kind=joint"
# The likelihood of a Gaussian has no bound, and its first steps explode without one; the paper says nothing of it.
_MORE = {"gaussian": ("optim.clip_norm=35",), "general": (_N,), "general_dfl": (_N,)}


def _row(key: str, title: str, detector: str, *changes: str, baseline: str | None = None, group: str = "") -> Row:
    return Row(key, title, detector, changes, None if baseline == key else baseline, group, FIGURES.get(key))


def _table_1a() -> tuple[Row, ...]:
    return tuple(
        _row(
            f"{name}-{kind}",
            title,
            name,
            *([] if kind == "centerness" else [f"model.quality.kind={kind}"]),
            baseline=f"{name}-centerness",
            group=group,
        )
        for name, group in _DETECTORS.items()
        for kind, title in _QUALITIES.items()
    )


def _table_1b() -> tuple[Row, ...]:
    names = {"foveabox": "FoveaBox", "retinanet": "RetinaNet", "ssd": "SSD512"}
    return tuple(
        row
        for name, group in names.items()
        for row in (
            _row(name, group, name, group=group),
            _row(f"{name}-joint", f"{group}, joint with QFL", name, _JOINT, baseline=name, group=group),
        )
    )


def _table_1c() -> tuple[Row, ...]:
    return tuple(
        _row(f"beta-{b}", f"beta = {b}", "atss", _JOINT, f"model.quality.beta={b}", baseline="beta-2")
        for b in ("0", "1", "2", "2.5", "4")
    )


def _table_2a() -> tuple[Row, ...]:
    rows = []
    for name, group in _DETECTORS.items():
        baseline = f"{name}-dirac"
        for kind, title in _BOXES.items():
            changes = [] if kind == "dirac" else [f"model.boxes.kind={kind}", *_MORE[kind]]
            rows.append(_row(f"{name}-{kind}", title, name, *changes, baseline=baseline, group=group))
            if (name, kind) == ("atss", "dirac"):
                code = "model.boxes.code=distances"
                title = "Dirac delta, as distances"
                rows.append(_row("atss-dirac_distances", title, name, code, baseline=baseline, group=group))
    return tuple(rows)


def _table_2b() -> tuple[Row, ...]:
    rows = []
    for n in (4, 7, 12, 14, 16, 18):
        change = f"model.boxes.reg_max={n}"
        rows.append(
            Row(
                f"n-{n}",
                f"n = {n}",
                "gfl",
                (change,),
                None if n == 16 else "n-16",
                figures=FIGURES.get(f"n-{n}"),
                small_only=n < 12,
            )
        )
    return tuple(rows)


def _table_2c() -> tuple[Row, ...]:
    return tuple(
        _row(f"delta-{d}", f"delta = {d}", "gfl", _N, f"model.boxes.delta={d}", baseline="delta-1")
        for d in ("0.5", "1", "2", "4")
    )


def _table_3() -> tuple[Row, ...]:
    return (
        _row("atss", "ATSS", "atss"),
        _row("atss-qfl", "with QFL", "atss", _JOINT, baseline="atss"),
        _row("atss-dfl", "with DFL", "atss", "model.boxes.kind=general_dfl", _N, baseline="atss"),
        _row("gfl", "with QFL and DFL (GFL)", "gfl", _N, baseline="atss"),
    )


def _assigners() -> tuple[Row, ...]:
    aligned = "model.assigner.kind=task_aligned"
    return (
        _row("assigner-atss", "ATSS", "gfl", _N),
        _row("assigner-task_aligned", "task-aligned", "gfl", _N, aligned, baseline="assigner-atss"),
        _row(
            "assigner-task_aligned-target",
            "task-aligned, box terms by the target",
            "gfl",
            _N,
            aligned,
            "model.box_weight=target",
            baseline="assigner-atss",
        ),
    )


TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        Table(
            "table1a",
            "Table 1a: six forms of quality on FCOS and ATSS",
            _PAPER + "Table 1(a)",
            _table_1a(),
            note="The box loss is weighted by the centerness target in all six forms, so that they differ in the "
            "quality alone. The paper gives no formula for the guided forms: here they weight the classification loss "
            "of positives as IoU-balanced loss does (arXiv 1908.05641), which is our reading.",
        ),
        Table(
            "table1b",
            "Table 1b: joint representation with QFL on other one-stage detectors",
            _PAPER + "Table 1(b)",
            _table_1b(),
        ),
        Table(
            "table1c",
            "Table 1c: the exponent beta of QFL on ATSS",
            _PAPER + "Table 1(c)",
            _table_1c(),
            columns=COLUMNS[:3],
        ),
        Table(
            "table2a",
            "Table 2a: four representations of boxes on FCOS and ATSS",
            _PAPER + "Table 2(a)",
            _table_2a(),
            note="Published ATSS writes a Dirac box as deltas of its anchor, the other three as distances from a "
            "point: from Dirac to Gaussian two things change. The extra row, Dirac as distances, tells them apart. "
            "Gaussian rows limit the norm of the gradient to 35.",
        ),
        Table(
            "table2b",
            "Table 2b: the number of bins n of DFL on ATSS with GFL",
            _PAPER + "Table 2(b)",
            _table_2b(),
            note="n = 4 and 7 are not in the paper: they are run on small pictures, whose boxes span fewer strides.",
        ),
        Table(
            "table2c", "Table 2c: the width delta of DFL's bins on ATSS with GFL", _PAPER + "Table 2(c)", _table_2c()
        ),
        Table(
            "table3",
            "Table 3: the effect of QFL and DFL on ATSS",
            _PAPER + "Table 3",
            _table_3(),
            columns=COLUMNS[:3],
            note="GFL weights the box loss by the class score, as its published checkpoints were trained; the other "
            "three rows weight it by the centerness target. GFL's difference holds both changes.",
            timed=True,
        ),
        Table(
            "assigners",
            "Assigners: which points of GFL learn an object",
            "not in the paper; task-aligned: arXiv 2108.07755, section 3.2",
            _assigners(),
            note="Task-aligned assignment chooses the points after the forward pass, by score and IoU, and its joint "
            "score learns a soft target. TOOD also weights the box terms by that target, as the last row does; its "
            "head is not used here.",
            published=False,
        ),
    )
}
"""The tables of the paper by name, in its order, and one that it has not."""
