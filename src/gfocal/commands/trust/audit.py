"""`gfocal audit`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gfocal.catalogue.resolve import model_path
from gfocal.commands.trust.audit_folder import check_apart, check_free, write_files
from gfocal.commands.trust.audit_report import RUNS, AuditReport, promise, subject, worth
from gfocal.commands.trust.folds import in_classes, look_by_folds
from gfocal.commands.trust.look import look
from gfocal.commands.trust.seen import learnt_from
from gfocal.data.formats.common import Format, Split
from gfocal.data.formats.open import open_dataset
from gfocal.data.index.data_index import DataIndex
from gfocal.data.index.rename import keep_classes, parse_renames, rename_classes
from gfocal.detections import Detections
from gfocal.errors import UsageError, require_number
from gfocal.evaluation.audit.candidates import candidates
from gfocal.evaluation.audit.evidence import weigh
from gfocal.evaluation.audit.labels import Labels
from gfocal.evaluation.audit.planting import KINDS
from gfocal.evaluation.audit.suspects import by_kind, list_suspects
from gfocal.evaluation.audit.suspicion import suspicion
from gfocal.evaluation.audit.trial import learn
from gfocal.evaluation.measured import check_names
from gfocal.exported.open import is_exported
from gfocal.images.depth import ValueRange
from gfocal.prediction.load import open_model
from gfocal.recipe import load_recipe
from gfocal.run_report.review.page import TITLES, Review, render_review
from gfocal.runs.checkpoint import find_weights
from gfocal.runs.datasets import open_measured
from gfocal.runtime.precision import usable_precision
from gfocal.utils.locks import locked_folder
from gfocal.utils.text import Say, say_lines


@dataclass(frozen=True)
class AuditOptions:
    """How labels are looked at.

    Attributes:
        level: of the intervals of edges.
        least: suspects of at least this score are written.
        shown: so many have a crop on the page.
        planted: share of labels that get a fault in a copy, to see what the list is worth.
        seed: of folds and faults.
    """

    level: float = 0.9
    least: float = 0.2
    shown: int = 100
    planted: float = 0.1
    seed: int = 0

    def check(self) -> None:
        """Refuse what is out of range."""
        require_number("least", self.least, least=0, most=1)
        require_number("shown", self.shown, least=0, whole=True)
        require_number("seed", self.seed, least=0, whole=True)
        require_number("planted", self.planted, least=0.001, most=0.5)


@dataclass(frozen=True)
class _Looked:
    index: DataIndex
    found: dict[int, Detections]
    model: str
    warnings: list[str]
    skipped: list[str]
    value_range: ValueRange = "type"


def audit_files(
    data: Path,
    out: Path,
    *,
    model: str | None = None,
    folds: int | None = None,
    recipe: str | None = None,
    init: str | None = None,
    split: Split | None = None,
    format: Format | None = None,
    images_dir: Path | None = None,
    overrides: Sequence[str] = (),
    tile: int | None = None,
    overlap: float | None = None,
    batch_size: int = 8,
    rename: Sequence[str] = (),
    only_common: bool = False,
    skip_broken: bool = False,
    options: AuditOptions = AuditOptions(),
    warn: Callable[[list[str]], None] | None = None,
    say: Say | None = None,
) -> AuditReport:
    """Rank labels of a data set that a model contradicts, and write them for review; the data stay as they are.

    Args:
        data, format, images_dir, rename, only_common, skip_broken: see
            :func:`gfocal.commands.evaluate.evaluate_files`.
        out: the folder to write, outside of the data set's.
        model: run folder, checkpoint or name. Or:
        folds: so many models are trained, each on all images but those that it looks at; needs ``recipe``.
        recipe: of these models.
        init: MODEL that they start from.
        split: by default "val" for a model, "train" for folds.
        overrides: recipe keys, of the model or of the folds' recipe.
        tile, overlap, batch_size: of the model.
        options: see :class:`AuditOptions`.
        warn: called with what was left out.
        say: called with lines about how the data are understood.

    Raises:
        UsageError: both or none of model and folds, nothing to look at, or a folder that must not be written.
    """
    options.check()
    _check_choice(model, folds, recipe, init)
    if folds is not None and (tile is not None or overlap is not None or only_common):
        raise UsageError("--tile, --overlap and --only-common are for --model; folds have data.tile of their recipe")
    check_apart(out, data, images_dir)
    check_free(out)
    with locked_folder(out):
        index = _opened(model, data, split, format=format, images_dir=images_dir, skip_broken=skip_broken, say=say)
        check_apart(out, data, index.images_dir)
        if not len(index):
            raise UsageError(f"{index.annotations} lists no pictures: there is nothing to look at")
        renamed = rename_classes(index, parse_renames(rename, index.names))
        if model is not None:
            looked = _by_model(model, renamed, index, overrides, tile, overlap, batch_size, only_common, skip_broken)
        else:
            assert folds is not None
            assert recipe is not None
            begun = [] if init is None else _warnings(init, index)
            found, skipped = look_by_folds(
                renamed,
                load_recipe(recipe, overrides),
                folds,
                out / RUNS,
                init=init,
                seed=options.seed,
                batch_size=batch_size,
                skip_broken=skip_broken,
                say=say,
            )
            looked = _Looked(renamed, found, f"{recipe}, {folds} folds", begun, skipped)
        say_lines(looked.warnings, say)
        if warn is not None:
            warn([*index.skipped, *looked.skipped])
        report, page = _judged(looked, split or ("val" if model is not None else "train"), out, options)
        write_files(out, report, looked.index, page)
    return report


def _check_choice(model: str | None, folds: int | None, recipe: str | None, init: str | None) -> None:
    if (model is None) == (folds is None):
        raise UsageError("give either --model MODEL, or --folds K with --recipe RECIPE")
    if model is not None and is_exported(model):
        raise UsageError(f"{model} is an exported file: give the checkpoint that it was made of")
    if folds is None and (recipe is not None or init is not None):
        raise UsageError("--recipe and --init are for --folds; a --model is looked with as it is")
    if folds is not None and recipe is None:
        raise UsageError("--folds trains models: say of which recipe, e.g. --recipe gfl_nano")
    if folds is not None:
        require_number("folds", folds, least=2, whole=True)


def _opened(
    model: str | None,
    data: Path,
    split: Split | None,
    *,
    format: Format | None,
    images_dir: Path | None,
    skip_broken: bool,
    say: Say | None,
) -> DataIndex:
    if model is None:
        return open_dataset(data, split or "train", format=format, images_dir=images_dir, skip_broken=skip_broken)
    return open_measured(
        model, data, split or "val", format=format, images_dir=images_dir, skip_broken=skip_broken, say=say
    )


def _warnings(model: str, index: DataIndex) -> list[str]:
    """Whether weights learnt from these images, as far as they say."""
    file = find_weights(model_path(model))
    learnt, lines = learnt_from(file, index)
    if learnt is not None:
        return [
            *(lines or ()),
            f"warning: {learnt}: a model repeats the errors that it learnt and finds few of them. --folds 5 has each "
            "picture looked at by a model that has not seen it, if it begins with other weights",
        ]
    if lines is None:
        return [
            f"note: {file} does not say what it learnt from: were these pictures among it, few errors would be found"
        ]
    return lines


def _by_model(
    model: str,
    index: DataIndex,
    opened: DataIndex,
    overrides: Sequence[str],
    tile: int | None,
    overlap: float | None,
    batch_size: int,
    only_common: bool,
    skip_broken: bool,
) -> _Looked:
    detector, recipe, _ = open_model(model, overrides, tile=tile, overlap=overlap)
    warnings = _warnings(model, opened)
    index = check_names(detector, keep_classes(index, detector.names) if only_common else index)
    looked = look(detector, index, usable_precision(detector, recipe), batch_size, skip_broken, what="audit")
    found = {image: in_classes(one, index.names) for image, one in looked.found.items()}
    return _Looked(index, found, model, warnings, list(looked.skipped), detector.value_range)


def _judged(looked: _Looked, split: str, out: Path, options: AuditOptions) -> tuple[AuditReport, str]:
    """The report, and the page as text."""
    index, labels = looked.index, Labels.of(looked.index)
    scale, expectation = learn(labels, looked.found, options.planted, options.seed, level=options.level)
    evidence = weigh(labels, looked.found, level=options.level, seed=options.seed)
    found = suspicion(evidence)
    suspects = list_suspects(index, evidence, found, candidates(evidence, found), scale, options.least)
    report = AuditReport(
        out=str(out),
        model=looked.model,
        data=str(index.annotations),
        split=split,
        images=len(looked.found),
        labels=int((labels.real & evidence.kept[labels.rows]).sum()),
        level=options.level,
        intervals=evidence.intervals,
        least=options.least,
        expectation=expectation,
        promise=tuple(promise(expectation)),
        notes=(*looked.warnings, *evidence.notes),
        skipped=(*index.skipped, *looked.skipped),
        kinds=by_kind(suspects),
        suspects=tuple(suspects),
    )
    review = Review(
        model=report.model,
        data=index.annotations.name,
        subject=subject(report),
        lines=[f"{line}." for line in report.promise],
        warnings=[line.partition(": ")[2] for line in report.notes],
        table=[(TITLES[kind], str(report.kinds.get(kind, 0)), worth(expectation, kind)) for kind in KINDS],
        total=len(suspects),
    )
    return report, render_review(review, suspects[: options.shown], index.path, looked.value_range)
