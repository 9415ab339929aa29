"""The paper's figures, drawn by code: see :func:`draw_figures`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from gfocal.data.scenes.shapes import CLASSES
from gfocal.detector import DenseDetector
from gfocal.errors import UsageError
from gfocal.prediction.load import open_model
from gfocal.recipe import Recipe, load_recipe
from gfocal.recipe.forms import BOXES
from gfocal.studies.figures.data import Source, open_source, targets_figure
from gfocal.studies.figures.edges import edges_figure
from gfocal.studies.figures.scores import Trained, score_figure
from gfocal.studies.figures.theory import qfl_figure, representations_figure, score_schematic
from gfocal.utils.files import real_path, write_atomically
from gfocal.utils.locks import locked_folder

FORMATS = ("png", "svg")
_SCENE_SIDE = 320
_SMALL = 500  # pixels: images whose longer side is shorter are looked at as the small recipes train

Say = Callable[[str], None]


def draw_figures(
    out: Path,
    *,
    data: Path | None = None,
    images_dir: Path | None = None,
    model: str | Sequence[str] | None = None,
    format: str = "png",
    recipe: str | None = None,
    say: Say | None = None,
) -> dict[str, Path]:
    """Draw the paper's figures into a folder.

    - ``representations``: Dirac, Gaussian and General on one edge.
    - ``quality-focal-loss``: over the score, for several beta and several targets.
    - ``score-use``: separate branch and joint score, at training and at test; a schematic without a model.
    - ``targets``: histogram of the distances from points to edges (Figure 5c).
    - ``edges``: boxes with the distributions of their edges (Figure 3); needs a model with General boxes.

    Args:
        out: folder, made where missing.
        data: data set for the last three; by default generated scenes.
        images_dir: the folder of its images, or one around it; by default near the annotations.
        model: run folders or checkpoints; the first with General boxes gives ``edges``.
        format: "png" or "svg".
        recipe: of ``targets``; by default that of the first model, else gfl_nano for scenes and small images, and
            gfl_r50.
        say: called with a line about what is left out.

    Returns:
        The file of each figure drawn, by name.

    Raises:
        UsageError: the format is unknown, ``out`` is a file, a model or the data cannot be read, or a model knows
            other classes than the data have.
    """
    if format not in FORMATS:
        raise UsageError(f"--format is {' or '.join(FORMATS)}, not {format!r}")
    if out.exists() and not out.is_dir():
        raise UsageError(f"cannot write to {out}: it is a file; name a folder")
    with locked_folder(out):
        return _draw_figures(out, data, images_dir, model, recipe, format, say or (lambda line: None))


def _draw_figures(
    out: Path,
    data: Path | None,
    images_dir: Path | None,
    model: str | Sequence[str] | None,
    recipe: str | None,
    format: str,
    say: Say,
) -> dict[str, Path]:
    paths = [model] if isinstance(model, str) else list(model or ())
    opened = [open_model(path, ()) for path in paths]
    first = opened[0][1].data if opened else None
    size, value_range = (first.resize.size, first.range) if first else (_SCENE_SIDE, "type")
    source = open_source(data, size, images_dir, value_range)
    for path, (detector, _, _) in zip(paths, opened, strict=True):
        _same_classes(path, detector.names, source, data)
    chosen, name = _targets_recipe(recipe, opened, paths, source)
    figures: dict[str, Figure] = {
        "representations": representations_figure(),
        "quality-focal-loss": qfl_figure(),
        "targets": targets_figure(source, chosen, name),
    }
    trained = [Trained(one[0].eval(), _title(path, one[1])) for path, one in zip(paths, opened, strict=True)]
    figures["score-use"] = score_figure(trained, source) if trained else score_schematic()
    general = [one for one, (_, r, _) in zip(trained, opened, strict=True) if BOXES[r.model.boxes.kind].bins]
    edges = edges_figure(general[0].detector, source) if general else None
    if edges is not None:
        figures["edges"] = edges
    elif general:
        say("edges is left out: the detector finds no object on these pictures with a score of 0.3")
    else:
        say(
            "edges is left out: it shows what a trained detector predicts; give one with General boxes, for example "
            "gfocal train gfl_nano --data SCENES --out RUN, then --model RUN"
        )
    return {name: _save(out / f"{name}.{format}", figure, format) for name, figure in figures.items()}


def _save(file: Path, figure: Figure, format: str) -> Path:
    # Letters as paths would make a text of an SVG file unreadable for machines; ids from the content, not from chance.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "gfocal"}):
        metadata = {"Date": None} if format == "svg" else {}
        write_atomically(file, partial(figure.savefig, format=format, dpi=130, metadata=metadata))
    return file


def _title(path: str, recipe: Recipe) -> str:
    model = recipe.model
    return f"{real_path(Path(path)).name}: {model.detector}, {model.quality.kind}, {model.boxes.kind}"


def _same_classes(path: str, names: Sequence[str], source: Source, data: Path | None) -> None:
    """Refuse a model that was trained on something else than generated scenes, where no data are given."""
    if data is None and tuple(names) != CLASSES:
        raise UsageError(
            f"{path} finds {', '.join(names[:3])} ..., not the shapes of generated scenes: give its --data"
        )
    source.index.with_classes(names)


def _targets_recipe(
    recipe: str | None, opened: Sequence[tuple[DenseDetector, Recipe, object]], paths: Sequence[str], source: Source
) -> tuple[Recipe, str]:
    if recipe is not None:
        return load_recipe(recipe), recipe
    if opened:
        return opened[0][1], real_path(Path(paths[0])).name
    longest = np.maximum(source.index.widths, source.index.heights)
    name = "gfl_nano" if not len(longest) or np.median(longest) < _SMALL else "gfl_r50"
    return load_recipe(name), name
