"""`gfocal calibrate`."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import gfocal
from gfocal.calibration.edges_fit import FOLDS, fit_edges
from gfocal.calibration.quantiles import check_level, conformal_rank
from gfocal.calibration.scores import Rule
from gfocal.calibration.scores_fit import fit_scores
from gfocal.calibration.stored import Calibration
from gfocal.catalogue.entries import find as find_published
from gfocal.catalogue.resolve import planned_path
from gfocal.commands.trust.calibration_report import CalibrationReport, Source, report_of
from gfocal.commands.trust.look import Looked, look
from gfocal.commands.trust.seen import check_unseen
from gfocal.data.fingerprint import file_hashes, fingerprint
from gfocal.data.formats.common import Format, Split
from gfocal.data.index.rename import keep_classes, parse_renames, rename_classes
from gfocal.detector import DenseDetector
from gfocal.errors import UsageError
from gfocal.evaluation.measured import check_names
from gfocal.evaluation.trust.overlap import kept_hashes
from gfocal.exported.open import is_exported
from gfocal.hub.names import is_hub_name
from gfocal.prediction.load import open_model
from gfocal.runs.checkpoint import ABOUT, CheckpointInfo, find_weights
from gfocal.runs.datasets import open_measured
from gfocal.runtime.precision import usable_precision
from gfocal.serialization.sums import KEY
from gfocal.serialization.tensor_files import read_tensors, read_texts, tensor_file_bytes
from gfocal.utils.files import real_path, write_atomically
from gfocal.utils.locks import locked_file, locked_folder
from gfocal.utils.text import Say, say_lines

NO_DISTRIBUTION = (
    "note: these boxes have no distributions of their edges, so there is nothing of their own to scale: intervals are "
    "constant, proportional to the box, or by a model of its size and score, whichever is narrowest"
)


def calibrate_files(
    model: str,
    data: Path,
    *,
    split: Split = "val",
    format: Format | None = None,
    images_dir: Path | None = None,
    level: float = 0.9,
    rule: Rule = "right",
    out: Path | None = None,
    overrides: Sequence[str] = (),
    tile: int | None = None,
    overlap: float | None = None,
    batch_size: int = 8,
    rename: Sequence[str] = (),
    only_common: bool = False,
    skip_broken: bool = False,
    seed: int = 0,
    say: Say | None = None,
) -> CalibrationReport:
    """Fit intervals of edges and chances of scores on images that a detector did not learn from, and store them.

    Args:
        model: run folder, checkpoint or name.
        data, split, format, images_dir, rename, only_common, skip_broken: see
            :func:`gfocal.commands.evaluate.evaluate_files`.
        level: of the intervals that predictions carry.
        rule: what calibrated scores are the mean of, see :data:`gfocal.calibration.scores.RULES`.
        out: the file to write; by default the weights themselves, which stay as they are but for the calibration.
        overrides, tile, overlap: of the detector; the calibration holds for these.
        batch_size: tiles a forward pass.
        seed: of the folds.
        say: called with lines about how the data are understood.

    Raises:
        UsageError: the detector learnt from these images, there are too few objects, or the model is an exported file.
    """
    if is_exported(model):
        raise UsageError(f"{model} is an exported file: calibrate the checkpoint, then export it again")
    check_level(level)
    _check_place(model, out)
    detector, recipe, about = open_model(model, overrides, tile=tile, overlap=overlap)
    file = find_weights(Path(model) if Path(model).exists() else planned_path(model))
    place = real_path(file if out is None else out)
    with _claimed(place):
        index = open_measured(
            model, data, split, format=format, images_dir=images_dir, skip_broken=skip_broken, say=say
        )
        notes = check_unseen(file, index)
        say_lines(notes, say)
        print_of = fingerprint(index)
        index = rename_classes(index, parse_renames(rename, index.names))
        index = check_names(detector, keep_classes(index, detector.names) if only_common else index)
        if not len(index.boxes):
            raise UsageError(
                f"{index.annotations} has no object of a class of the model on {split}: nothing to learn from"
            )
        detector.calibration = None
        looked = look(detector, index, usable_precision(detector, recipe), batch_size, skip_broken)
        calibration = replace(
            _fitted(looked, detector, level=level, rule=rule, seed=seed),
            data=print_of,
            annotations=index.annotations.name,
            split=split,
            image_hashes=kept_hashes(file_hashes(index)),
        )
        more = [
            *([NO_DISTRIBUTION] if looked.matched.edges.features.edge_std is None else []),
            *_few(calibration.edges.matches, level),
        ]
        say_lines(more, say)
        source = Source(str(file), str(place), str(index.annotations), split)
        report = report_of(looked, calibration, source, [*notes, *more], seed)
        _store(file, place, about, calibration)
    return report


def _fitted(looked: Looked, detector: DenseDetector, *, level: float, rule: Rule, seed: int) -> Calibration:
    """What is stored, but for the words about the data."""
    return Calibration(
        edges=fit_edges(looked.matched.edges, seed=seed),
        scores=fit_scores(looked.scores, rule, seed=seed),
        level=level,
        images=len(looked.scores.objects),
        objects=int(looked.scores.objects.sum()),
        data="",
        annotations="",
        split="",
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        resize=asdict(detector.resize),
        tile=None if detector.tiling is None else detector.tiling.side,
        gfocal=gfocal.__version__,
    )


def _few(matches: int, level: float) -> list[str]:
    """A line where there are too few objects for a level, of all or of the four fifths that reports are made with."""
    if conformal_rank(matches * (FOLDS - 1) // FOLDS, level) is not None:
        return []
    return [
        f"note: {matches:,} found objects are too few for {100 * level:g} %, for which it takes "
        f"{math.ceil(level / (1 - level) * FOLDS / (FOLDS - 1)):,}: such intervals, or those of the report, are the "
        "whole picture"
    ]


def _check_place(model: str, out: Path | None) -> None:
    """Refuse weights that are nobody's to change, before they are fetched, and a file that cannot be a checkpoint.

    Raises:
        UsageError: it is so.
    """
    if out is None and not Path(model).exists() and (find_published(model) or is_hub_name(model)):
        raise UsageError(f"{model} is a name: give --out FILE.safetensors, a copy with the calibration")
    if out is not None and (out.is_dir() or out.suffix != ".safetensors"):
        raise UsageError(f"--out must be a file that ends in .safetensors, got {out}")


@contextlib.contextmanager
def _claimed(place: Path) -> Iterator[None]:
    """A run that still trains would replace its weights; two calibrations at once would lose one."""
    with contextlib.ExitStack() as stack:
        if (place.parent / "run.json").exists():
            stack.enter_context(locked_folder(place.parent))
        else:
            stack.enter_context(locked_file(place))
        yield


def _store(file: Path, place: Path, about: CheckpointInfo, calibration: Calibration) -> None:
    """The weights again, with the calibration in what they say about themselves."""
    texts = {name: text for name, text in read_texts(file).items() if name != KEY}
    info = replace(about, calibration=calibration.to_dict())
    content = tensor_file_bytes(read_tensors(file), {**texts, ABOUT: info.to_json()})
    write_atomically(place, lambda unfinished: unfinished.write_bytes(content), needed=len(content))
