"""What it learnt from and was measured on: how many of what, and how large."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from gfocal.data.checks.boxes import learnt_boxes
from gfocal.data.checks.classes import by_class, count_classes
from gfocal.data.index.data_index import DataIndex
from gfocal.evaluation.ground_truth import FloatArray
from gfocal.report.numbers import NONE
from gfocal.run_report.blocks import Bar, Block, Cell, Figure, Figures, Folded, Section, Table, Words
from gfocal.run_report.charts import COLOURS, DASHES, chart, finished, legend

_ALL_SHOWN = 20
_BOUNDS = (32.0, 96.0)  # COCO's small, medium, large


def data_section(splits: Mapping[str, DataIndex], measured: str, held_out: object = None) -> Section:
    """Counts by split, the one that was measured marked; ``held_out``: what the run card says of images set apart."""
    rows: list[list[Cell]] = [
        _split_row(f"{name}, measured" if name == measured else name, index) for name, index in splits.items()
    ]
    columns = ["split", "pictures", "without objects", "objects", "a picture", "small", "medium", "large"]
    blocks: list[Block] = [
        Table(columns, rows, "Objects to learn or to find"),
        Words(
            "Small: below 32² pixels of the file. Large: from 96² on. Crowds and ignored boxes are not counted.", True
        ),
    ]
    if isinstance(held_out, Mapping):
        share, seed = held_out.get("share"), held_out.get("seed")
        blocks.append(Words(f"The run set the val pictures apart from the train pictures: share {share}, seed {seed}."))
    if any(len(sizes(index)) for index in splits.values()):
        blocks.append(Figures([_size_chart(splits)]))
    return Section("data", "The data", [*blocks, *_classes(splits)])


def sizes(index: DataIndex) -> FloatArray:
    """(M,) square root of the area of each object to learn or to find, pixels."""
    return np.sqrt(np.asarray(index.area, np.float64)[learnt_boxes(index)].clip(min=0))


def _split_row(name: str, index: DataIndex) -> list[Cell]:
    learnt, own = learnt_boxes(index), sizes(index)
    image = np.repeat(np.arange(len(index)), np.diff(index.box_start))
    without = len(index) - len(np.unique(image[learnt]))
    small, large = (own < _BOUNDS[0]).sum(), (own >= _BOUNDS[1]).sum()
    parts = [int(small), int(len(own) - small - large), int(large)]
    shares = [f"{100 * part / len(own):.0f} %" if len(own) else NONE for part in parts]
    each = f"{len(own) / len(index):.1f}" if len(index) else NONE
    return [name, f"{len(index):,}", f"{without:,}", f"{len(own):,}", each, *shares]


def _size_chart(splits: Mapping[str, DataIndex]) -> Figure:
    drawing, panel = chart("size of an object, pixels (logarithmic)", "% of the objects")
    edges = 2.0 ** np.arange(1, 12.5, 0.5)
    columns = ["size, pixels"]
    counts = []
    seen = np.zeros(len(edges) - 1, bool)
    for number, (name, index) in enumerate(splits.items()):
        own = sizes(index).clip(edges[0], edges[-1] * 0.999)
        if not len(own):
            continue
        found = np.histogram(own, edges)[0]
        seen |= found > 0
        look = {"color": COLOURS[number % 5], "linestyle": DASHES[number % 5], "linewidth": 1.9}
        panel.stairs(100 * found / len(own), edges, label=name, **look)
        columns.append(name)
        counts.append(found)
    panel.set_xscale("log", base=2)
    ticks = [4, 8, 16, 32, 64, 128, 256, 512, 1024]
    panel.set_xticks(ticks, [f"{tick}" for tick in ticks])
    panel.minorticks_off()
    panel.set_xlim(edges[:-1][seen].min(), edges[1:][seen].max())
    panel.set_ylim(bottom=0)
    legend(panel, loc="upper left")
    rows = [
        [f"{low:.0f} to {high:.0f}", *(f"{each[i]:,}" for each in counts)]
        for i, (low, high) in enumerate(pairwise(edges))
        if any(each[i] for each in counts)
    ]
    caption = "Square root of the area, in pixels of the file. Lines far apart: the splits differ."
    return finished(drawing, "How large the objects are", caption, Table(columns, rows, "Objects by size"))


def _classes(splits: Mapping[str, DataIndex]) -> list[Block]:
    counts = {name: count_classes(index) for name, index in splits.items()}
    found = by_class(counts)
    most = {name: max((one.boxes for one in own), default=0) or 1 for name, own in counts.items()}
    rows: list[list[Cell]] = [
        [
            name,
            *(
                Bar(f"{own[split].boxes:,}", own[split].boxes / most[split]) if split in own else NONE
                for split in splits
            ),
            *(f"{own[split].images:,}" if split in own else NONE for split in splits),
        ]
        for name, own in found
    ]
    columns = ["class", *(f"objects, {name}" for name in splits), *(f"pictures, {name}" for name in splits)]
    table = Table(columns, rows, "Objects of each class, and pictures that show it; the commonest first")
    return [table] if len(rows) <= _ALL_SHOWN else [Folded(f"All {len(rows)} classes", [table])]
