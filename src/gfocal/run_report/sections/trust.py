"""Whether to believe it: scores beside what came of them, edges beside their deviation."""

from __future__ import annotations

from gfocal.evaluation.diagnosis.edges import EdgeCalibration, EdgeGroup
from gfocal.evaluation.diagnosis.reliability import Reliability
from gfocal.report.numbers import NONE, minus, points, share
from gfocal.report.plot import HERE, PAPER, QUIET
from gfocal.run_report.blocks import Block, Cell, Figure, Figures, Section, Table, Words
from gfocal.run_report.charts import COLOURS, DASHES, chart, finished, legend
from gfocal.run_report.content import Measured

_NO_EDGES = (
    "The boxes of this detector are plain numbers (Dirac boxes): they come without edge_std, and say nothing about how "
    "sure each edge is."
)
_NO_MATCH = "No box found an object, so no edge can be compared with a true one."


def scores_section(measured: Measured) -> Section:
    """Reliability of the score."""
    found = measured.diagnosis.scores
    if not found.detections:
        return Section("scores", "Can the scores be believed?", [Words("There are no boxes, so no scores.")])
    words = (
        f"Of boxes that score s, a share of s should be right. D-ECE is the mean distance from that: "
        f"{share(found.d_ece)}. To the IoU, which a joint score of Generalized Focal Loss stands for, it is "
        f"{share(found.iou_ece)}."
    )
    rule = (
        f"Matching rule: a box is right where it overlaps an object of its class by an IoU of at least "
        f"{found.matching_iou:g} that no better-scored box has taken; a wrong box has IoU 0. Ten bins of equal width, "
        f"weighted by their boxes, over all {found.detections:,} boxes of every score: most of them score low, and "
        "decide. D-ECE after Küppers et al. (CVPRW 2020), of the score alone; the distance to the IoU is the idea of "
        "LaECE (Oksuz et al., CVPR 2023), of all classes together."
    )
    return Section(
        "scores",
        "Can the scores be believed?",
        [Words(words), Figures([_diagram(found), _counts(found)]), Words(rule, True)],
    )


def _score_table(found: Reliability) -> Table:
    rows = [
        [
            f"{one.low:.1f} to {one.high:.1f}",
            f"{one.detections:,}",
            NONE if one.score is None else f"{one.score:.3f}",
            points(one.right),
            points(one.iou),
        ]
        for one in found.bins
    ]
    return Table(["score", "boxes", "mean score", "right, %", "mean IoU, %"], rows)


def _diagram(found: Reliability) -> Figure:
    drawing, panel = chart("score", "%")
    panel.plot([0, 1], [0, 100], color=QUIET, linewidth=1, linestyle=":", label="as the score says")
    known = [one for one in found.bins if one.score is not None and one.right is not None and one.iou is not None]
    x = [one.score for one in known]
    panel.plot(
        x, [100 * (one.right or 0) for one in known], "o-", color=HERE, linewidth=1.9, markersize=5, label="right"
    )
    panel.plot(
        x, [100 * (one.iou or 0) for one in known], "D--", color=PAPER, linewidth=1.6, markersize=4, label="mean IoU"
    )
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 102)
    legend(panel, loc="upper left")
    caption = "Above the dotted line the score is too modest, below it promises too much."
    return finished(drawing, "Scores beside what came of them", caption, _score_table(found))


def _counts(found: Reliability) -> Figure:
    drawing, panel = chart("score", "boxes (logarithmic)")
    middles = [(one.low + one.high) / 2 for one in found.bins]
    panel.bar(middles, [one.detections for one in found.bins], width=0.085, color=HERE)
    panel.set_yscale("symlog", linthresh=1)
    panel.set_ylim(bottom=0)
    most = max(one.detections for one in found.bins)
    ticks = [
        0,
        *(10**power for power in range(len(str(most)))),
    ]
    panel.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    panel.minorticks_off()
    panel.set_xlim(0, 1)
    caption = "How many boxes have such a score. A bin of few boxes says little."
    return finished(drawing, "Boxes by score", caption, _score_table(found))


def edges_section(measured: Measured) -> Section:
    """Calibration of ``edge_std``."""
    title = "Can the edges be believed?"
    found = measured.diagnosis.edges
    if found is None or not found.overall.objects:
        return Section("edges", title, [Words(_NO_EDGES if found is None else _NO_MATCH)])
    blocks: list[Block] = [
        Words(_edge_words(found)),
        Figures([_edge_chart(found), *_tenths_chart(found)]),
        _edge_table(found),
        Words(
            "edge_std is the spread, in pixels, of the distribution that the detector gives for each edge. The table "
            "asks: how many edges lie within 0.67, 1.28 and 1.64 of it, where a normal distribution has 50, 80 and "
            "90 %? The rank correlation says whether wide edges are the wrong ones: 0 not at all, 1 in perfect order. "
            f"Of all boxes that found an object (IoU {found.matching_iou:g}, best score first), whatever their score: "
            "of boxes that found nothing no edge is known. Thirds by the size of the object.",
            quiet=True,
        ),
    ]
    return Section("edges", title, blocks)


def _edge_words(found: EdgeCalibration) -> str:
    inside = found.overall.inside or (0.0,) * 3
    wide = "too wide" if inside[0] > 0.55 else "too narrow" if inside[0] < 0.45 else "about right in the middle"
    agree = found.overall.correlation
    order = (
        "too few edges to say whether wide ones are the wrong ones"
        if agree is None
        else f"rank correlation of width and error {minus(f'{agree:.2f}')}"
    )
    return (
        f"Read as normal distributions the edges are {wide}: {share(inside[0])} lie where 50 % should, "
        f"{share(inside[2])} where 90 % should; {order}."
    )


def _edge_chart(found: EdgeCalibration) -> Figure:
    drawing, panel = chart("share that should lie inside, %", "share that does, %")
    panel.plot([0, 100], [0, 100], color=QUIET, linewidth=1, linestyle=":", label="as edge_std says")
    x = [0, *(100 * nominal for nominal in found.nominal), 100]
    for number, (name, group) in enumerate(found.sizes.items()):
        if group.inside is not None:
            y = [0, *(100 * inside for inside in group.inside), 100]
            look = {"color": COLOURS[number], "linestyle": DASHES[number], "marker": "os^"[number], "markersize": 4.5}
            panel.plot(x, y, linewidth=1.7, label=f"{name} objects", **look)
    panel.set_xlim(0, 100)
    panel.set_ylim(0, 102)
    legend(panel, loc="lower right")
    caption = "Above the dotted line edges are surer than edge_std says, below it they are less sure."
    columns = ["objects", *(f"inside {100 * nominal:.0f} %" for nominal in found.nominal)]
    rows = [[name, *(points(value) for value in group.inside or ())] for name, group in found.sizes.items()]
    known = [row for row in rows if len(row) == len(columns)]
    return finished(drawing, "Edges inside their spread", caption, Table(columns, known, "In % of the edges"))


def _tenths_chart(found: EdgeCalibration) -> list[Figure]:
    if not found.tenths:
        return []
    drawing, panel = chart("edge_std, pixels", "error, pixels")
    x, y = [one.edge_std for one in found.tenths], [one.error for one in found.tenths]
    panel.plot(x, y, "o-", color=HERE, linewidth=1.9, markersize=5)
    panel.set_xlim(left=0)
    panel.set_ylim(bottom=0)
    rows = [[f"{one.edge_std:.2f}", f"{one.error:.2f}", f"{one.edges:,}"] for one in found.tenths]
    caption = "Each dot is a tenth of the edges, medians of both. A rising line: wide edges are the wrong ones."
    table = Table(["edge_std, pixels", "error, pixels", "edges"], rows, "Tenths of the edges, the surest first")
    return [finished(drawing, "Error by spread", caption, table)]


def _edge_table(found: EdgeCalibration) -> Table:
    groups = [*found.sizes.items(), ("all", found.overall)]
    columns = ["objects", "size, pixels", "how many", *(f"inside {100 * n:.0f} %" for n in found.nominal)]
    columns += ["error", "edge_std", "rank correlation"]
    return Table(
        columns,
        [_edge_row(name, group) for name, group in groups],
        "Edges by size; medians of error and edge_std in pixels",
    )


def _edge_row(name: str, group: EdgeGroup) -> list[Cell]:
    span = NONE if group.smallest is None else f"{group.smallest:.0f} to {group.largest:.0f}"
    inside = [points(value) for value in group.inside or (None,) * 3]
    pixels = [NONE if value is None else f"{value:.2f}" for value in (group.error, group.edge_std)]
    correlation = NONE if group.correlation is None else minus(f"{group.correlation:.2f}")
    return [name, span, f"{group.objects:,}", *inside, *pixels, correlation]
