"""`gfocal calibrate`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import NormalDist

import numpy as np

import gfocal
from gfocal.calibration.edges_fit import REPORTED, cross_fitted, fit_edges
from gfocal.calibration.quantiles import check_level
from gfocal.calibration.scale import ScaleKind
from gfocal.calibration.scores import RULES, Rule, Threshold
from gfocal.calibration.scores_fit import ScoreSamples, cross_fitted_scores, fit_scores
from gfocal.calibration.stored import Calibration
from gfocal.catalogue.entries import find as find_published
from gfocal.catalogue.resolve import planned_path
from gfocal.commands.trust.seen import check_unseen
from gfocal.data.fingerprint import fingerprint
from gfocal.data.formats.common import Format, Split
from gfocal.data.index.data_index import DataIndex
from gfocal.data.index.rename import keep_classes, parse_renames, rename_classes
from gfocal.detections import Detections
from gfocal.detector import DenseDetector
from gfocal.errors import BrokenInputError, UsageError
from gfocal.evaluation.coco import CocoEvaluator
from gfocal.evaluation.measured import check_names
from gfocal.evaluation.trust.check import PROMISE
from gfocal.evaluation.trust.samples import MatchedSamples, matched_samples, score_samples
from gfocal.evaluation.trust.tables import IntervalTable, ScoreRow, interval_table, score_row
from gfocal.exported.open import is_exported
from gfocal.hub.names import is_hub_name
from gfocal.prediction.load import open_model
from gfocal.runs.checkpoint import ABOUT, CheckpointInfo, find_weights
from gfocal.runs.datasets import open_measured
from gfocal.runtime.precision import autocast, usable_precision
from gfocal.serialization.sums import KEY
from gfocal.serialization.tensor_files import read_tensors, read_texts, tensor_file_bytes
from gfocal.utils.files import real_path, write_atomically
from gfocal.utils.locks import locked_file, locked_folder
from gfocal.utils.progress import ProgressBar
from gfocal.utils.records import FLAT, IF_ANY, named
from gfocal.utils.text import Say, say_lines

HOW = (
    "Numbers are of pictures that the calibration did not see: five parts, each measured by a calibration that was "
    "chosen and fitted on the other four. What is stored is fitted on all of them"
)
NO_DISTRIBUTION = (
    "note: these boxes have no distributions of their edges, so there is nothing of their own to scale: intervals are "
    "constant, proportional to the box, or by a model of its size and score, whichever is narrowest"
)
_PRECISIONS, _RECALLS = (0.5, 0.8, 0.9, 0.95), (0.5, 0.8, 0.9)


@dataclass(frozen=True)
class ThresholdRow:
    """A score from which on precision or recall is reached."""

    of: str
    target: float
    threshold: Threshold


@dataclass(frozen=True)
class Source:
    """What is calibrated, on what.

    Attributes:
        model, out: the weights, and the file that has the calibration now.
        data, split: annotations and split.
    """

    model: str
    out: str
    data: str
    split: str


@dataclass(frozen=True)
class CalibrationReport:
    """What a calibration came to.

    Attributes:
        source: what is calibrated, on what.
        images, objects: that could be read, and what there was to find on them.
        scale: the kind that was taken, see :class:`gfocal.calibration.scale.Scale`.
        candidates: see :class:`gfocal.calibration.EdgeCalibration`.
        own_classes: classes with quantiles of their own; all others share theirs.
        before: the distributions read as normal ones; None for boxes without.
        after, constant, size: intervals of the calibration, constant ones, ones proportional to the box.
        score_kind, rule: the map of scores, and what a calibrated score is the mean of.
        scores_before, scores_after: see :class:`ScoreRow`.
        ap_before, ap_after: AP by the scores and by the calibrated ones.
        thresholds: scores for ``gfocal predict --score``.
        how, promise: what the numbers are of, and what the intervals say.
        notes: what else should be known.
        skipped: a line for each image or record that could not be read.
    """

    source: Source = field(metadata=FLAT)
    images: int = field(metadata=named("pictures"))
    objects: int
    scale: str
    candidates: dict[str, float]
    own_classes: tuple[str, ...]
    before: IntervalTable | None = field(metadata=IF_ANY)
    after: IntervalTable
    constant: IntervalTable
    size: IntervalTable
    score_kind: str
    rule: str
    scores_before: ScoreRow
    scores_after: ScoreRow
    ap_before: float
    ap_after: float
    thresholds: tuple[ThresholdRow, ...]
    how: str
    promise: str
    notes: tuple[str, ...]
    skipped: tuple[str, ...]


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
        detector.calibration = None
        looked = _look(detector, index, usable_precision(detector, recipe), batch_size, skip_broken)
        edges, chances = fit_edges(looked.matched.edges, seed=seed), fit_scores(looked.scores, rule, seed=seed)
        calibration = Calibration(
            edges=edges,
            scores=chances,
            level=level,
            images=len(looked.scores.objects),
            objects=int(looked.scores.objects.sum()),
            data=print_of,
            annotations=index.annotations.name,
            split=split,
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            resize=asdict(detector.resize),
            tile=None if detector.tiling is None else detector.tiling.side,
            gfocal=gfocal.__version__,
        )
        if looked.matched.edges.features.edge_std is None:
            notes.append(NO_DISTRIBUTION)
            say_lines([NO_DISTRIBUTION], say)
        report = _report(looked, calibration, Source(str(file), str(place), str(index.annotations), split), notes, seed)
        _store(file, place, about, calibration)
    return report


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


@dataclass(frozen=True)
class _Looked:
    """What a detector found."""

    matched: MatchedSamples
    scores: ScoreSamples
    evaluator: CocoEvaluator
    index: DataIndex
    found: dict[int, Detections]
    skipped: tuple[str, ...]


def _look(detector: DenseDetector, index: DataIndex, precision: str, batch_size: int, skip_broken: bool) -> _Looked:
    """Image by image, with the distributions of the edges of what found an object alone."""
    found: dict[int, Detections] = {}
    parts, skipped = [], list[str]()
    with ProgressBar(len(index), "calibrating") as bar, autocast(detector.device, precision):
        for i, image_id in enumerate(index.image_ids.tolist()):
            try:
                one = detector.predict(index.path(i), batch_size=batch_size).numpy()
            except BrokenInputError as error:
                if not skip_broken:
                    raise
                skipped.append(f"{error} (left out of the calibration)")
            else:
                parts.append(matched_samples(index, [image_id], [one]))
                found[image_id] = replace(one, edge_probs=None)
            bar.callback(i + 1, len(index))
    matched = MatchedSamples.joined([part for part in parts if part is not None])
    evaluator = _evaluated(index, found)
    return _Looked(matched, score_samples(evaluator.findings()), evaluator, index, found, tuple(skipped))


def _evaluated(index: DataIndex, found: dict[int, Detections]) -> CocoEvaluator:
    evaluator = CocoEvaluator(index)
    evaluator.update(list(found), list(found.values()))
    evaluator.leave_out([image_id for image_id in index.image_ids.tolist() if image_id not in found])
    return evaluator


def _report(
    looked: _Looked, calibration: Calibration, source: Source, notes: Sequence[str], seed: int
) -> CalibrationReport:
    """Before and after."""
    matched, scores = looked.matched, looked.scores
    edges, chances, level = calibration.edges, calibration.scores, calibration.level
    levels = sorted({*REPORTED, level})
    mapped = {
        image_id: replace(one, scores=chances.of(np.asarray(one.scores, np.float64)))  # type: ignore[arg-type]
        for image_id, one in looked.found.items()
    }
    return CalibrationReport(
        source=source,
        images=calibration.images,
        objects=calibration.objects,
        scale=edges.scale.kind,
        candidates=edges.candidates,
        own_classes=tuple(group.name for group in edges.groups[:-1]),
        before=_table_before(matched, levels, level),
        after=_cross_table(matched, levels, level, None, seed),
        constant=_cross_table(matched, levels, level, ("constant",), seed),
        size=_cross_table(matched, levels, level, ("size",), seed),
        score_kind=chances.kind,
        rule=RULES[chances.rule],
        scores_before=score_row(scores, scores.scores),
        scores_after=score_row(scores, cross_fitted_scores(scores, chances.rule, seed=seed)),
        ap_before=looked.evaluator.compute().stats["AP"],
        ap_after=_evaluated(looked.index, mapped).compute().stats["AP"],
        thresholds=(
            *(ThresholdRow("precision", p, chances.threshold_for(precision=p)) for p in _PRECISIONS),
            *(ThresholdRow("recall", r, chances.threshold_for(recall=r)) for r in _RECALLS),
        ),
        how=HOW,
        promise=PROMISE,
        notes=tuple(notes),
        skipped=(*looked.index.skipped, *looked.skipped),
    )


def _cross_table(
    matched: MatchedSamples, levels: Sequence[float], level: float, kinds: Sequence[ScaleKind] | None, seed: int
) -> IntervalTable:
    edges, boxes = cross_fitted(matched.edges, levels, kinds=kinds, seed=seed)

    def widths(each: float, whole: bool) -> np.ndarray:
        return (boxes if whole else edges)[levels.index(each)]

    return interval_table(matched, widths, levels, level)


def _table_before(matched: MatchedSamples, levels: Sequence[float], level: float) -> IntervalTable | None:
    """The distributions read as normal ones, the edges of a box as independent."""
    std = matched.edges.features.edge_std
    if std is None:
        return None

    def widths(each: float, whole: bool) -> np.ndarray:
        share = each**0.25 if whole else each
        return NormalDist().inv_cdf((1 + share) / 2) * std

    return interval_table(matched, widths, levels, level)


def _store(file: Path, place: Path, about: CheckpointInfo, calibration: Calibration) -> None:
    """The weights again, with the calibration in what they say about themselves."""
    texts = {name: text for name, text in read_texts(file).items() if name != KEY}
    info = replace(about, calibration=calibration.to_dict())
    content = tensor_file_bytes(read_tensors(file), {**texts, ABOUT: info.to_json()})
    write_atomically(place, lambda unfinished: unfinished.write_bytes(content), needed=len(content))
