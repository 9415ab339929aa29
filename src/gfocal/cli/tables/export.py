"""An export for people: what was written, how far it is from the detector, how fast it is."""

from __future__ import annotations

import shlex
from math import isinf

from rich.table import Table

from gfocal.cli.console import PlainConsole
from gfocal.commands.export.export import ExportReport
from gfocal.export.parity import Difference
from gfocal.export.proof import EdgesOfBoth, FixedSize, Proof
from gfocal.exported.contract import Quantization
from gfocal.utils.text import counted, program


def print_export(report: ExportReport) -> None:
    """The file, the differences beside what is allowed, AP and time of both, and the verdict."""
    console, proof = PlainConsole(), report.proof
    parity = proof.parity
    inputs = " x ".join(str(n or name) for n, name in zip(_shape(report), ("batch", "height", "width"), strict=True))
    opset = "" if proof.info.opset is None else f", opset {proof.info.opset}"
    console.print(
        f"{report.path}: {proof.bytes / 2**20:.1f} MB, {proof.info.precision}{opset}, images {inputs} x 3; "
        f"gives {', '.join(proof.info.outputs)}",
        soft_wrap=True,
    )
    console.print(_differences(proof))
    if parity.borderline:
        console.print(f"{counted(parity.borderline, 'detection')} more at a threshold, where rounding decides")
    if proof.ap is not None:
        console.print(f"AP {proof.ap.exported:.4f}, of the detector {proof.ap.detector:.4f}")
    if proof.without_labels is not None:
        console.print(
            f"AP does not decide: {proof.without_labels}. The share of clear detections that stay does; what this "
            "precision costs in AP is not known: --data with enough labels says it",
            soft_wrap=True,
        )
    if proof.fixed_size is not None:
        console.print(_fixed(proof.fixed_size, parity.images), soft_wrap=True)
    if proof.info.tiling is not None:
        console.print("the proof looks at whole pictures; predict cuts tiles, and --tile 0 does not", soft_wrap=True)
    if proof.edges is not None:
        console.print(_covered(proof.edges, "interval of edge_std"), soft_wrap=True)
    if proof.intervals is not None:
        console.print(_covered(proof.intervals, "interval of the calibration"), soft_wrap=True)
    if proof.info.quantization is not None:
        console.print(_quantised(proof.info.quantization), soft_wrap=True)
    ms, threads = proof.ms_per_image, counted(proof.threads, "thread")
    run = "per image" if proof.info.batch in (None, 1) else f"for a run of {proof.info.batch} images"
    console.print(
        f"{ms.exported:.1f} ms {run} from file to boxes, the detector {ms.detector:.1f} per image ({proof.processor}, "
        f"{threads}, in turns)",
        soft_wrap=True,
    )
    for line in proof.beyond:
        console.print(f"beyond the bar: {line}", soft_wrap=True)
    if report.kept:
        alike = "proved" if proof.without_labels is None else "proved without labels"
        said = alike if proof.holds else "kept all the same (--allow-drift)"
        console.print(f"{said}; next: {program()} predict {shlex.quote(str(report.path))} PICTURES", soft_wrap=True)
    console.print(f"the proof: {report.parity}", soft_wrap=True)
    if report.page is not None:
        size = report.page.stat().st_size / 2**20
        console.print(
            f"the page: {report.page}, {size:.1f} MB with all that it needs; a double click opens it", soft_wrap=True
        )


def _differences(proof: Proof) -> Table:
    parity, bar = proof.parity, proof.bar
    table = Table(title=f"the file beside the detector, on {proof.data}")
    for column in ("difference", "largest", "99th percentile", "allowed"):
        table.add_column(column, justify="left" if column == "difference" else "right")
    for name, unit, found, most in (
        ("score", "", parity.score, bar.score),
        ("box", " px", parity.box, bar.box),
        ("edge_std", " px", parity.edge_std, bar.edge_std),
        ("edge_interval", " px", parity.edge_interval, bar.box),
    ):
        if found is not None or name != "edge_interval":
            table.add_row(name, *_cells(found, unit, most, bar.quantity))
    allowed = f"{int(bar.unmatched * parity.clear)} of {parity.clear:,}"
    table.add_row(
        "unmatched",
        f"{parity.unmatched}",
        "",
        "any: AP decides" if bar.labels_decide and proof.without_labels is None else allowed,
    )
    return table


def _shape(report: ExportReport) -> tuple[int | None, int | None, int | None]:
    info = report.proof.info
    return info.batch, info.height, info.width


def _fixed(found: FixedSize, images: int) -> str:
    """What the file's own padding changes; not a fault of the file, but no user's detector has it."""
    parity = found.parity
    ap = "" if found.ap is None else f"; AP {found.ap.exported:.4f}, by itself {found.ap.detector:.4f}"
    many = counted(images, "image")
    return (
        f"note: the fixed size pads {found.images} of {many} more than the detector by itself does, and networks see "
        f"padding: between the two scores differ by up to {parity.score.largest:.2g}, boxes by "
        f"{parity.box.largest:.2g} px, and {parity.unmatched:,} of {parity.detections:,} detections have no "
        f"counterpart{ap}"
    )


def _covered(edges: EdgesOfBoth, which: str) -> str:
    own, other = (
        "-" if found.covered is None else f"{found.covered:.1%}" for found in (edges.exported, edges.detector)
    )
    many = counted(edges.exported.edges, "edge")
    return f"the {100 * edges.exported.nominal:g} % {which} holds {own} of {many} found, of the detector {other}"


def _quantised(how: Quantization) -> str:
    return (
        f"{how.layers} of {how.layers + how.float_layers} convolutions in 8 bits, calibrated with {how.data}; "
        f"{how.method}"
    )


def _cells(found: Difference | None, unit: str, most: float, quantity: str) -> tuple[str, str, str]:
    if found is None:
        return "-", "-", "no distribution: these boxes have none"
    if isinf(most):
        return f"{found.largest:.2g}{unit}", f"{found.p99:.2g}{unit}", "any"
    allowed = f"{most:g}{unit}" + ("" if quantity == "largest" else " (99th percentile)")
    return f"{found.largest:.2g}{unit}", f"{found.p99:.2g}{unit}", allowed
