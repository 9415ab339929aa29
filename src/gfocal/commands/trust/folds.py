"""Models that have not seen what they look at: each learns from all images but those of its fold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from gfocal.commands.trust.look import look
from gfocal.data.index.data_index import DataIndex
from gfocal.data.split import classes_of, deal_out, divide, look_alikes
from gfocal.detections import Detections
from gfocal.errors import UsageError, require_number
from gfocal.prediction.load import open_model
from gfocal.recipe import Recipe
from gfocal.runs.card import CARD
from gfocal.runtime.precision import usable_precision
from gfocal.training.train import train
from gfocal.utils.text import Say, counted


def deal_folds(index: DataIndex, folds: int, seed: int) -> list[np.ndarray]:
    """Rows of the images of each fold; look-alikes stay together, and classes are spread over the folds.

    Raises:
        UsageError: fewer than two folds, or fewer groups of images than folds.
    """
    require_number("folds", folds, least=2, whole=True)
    groups, _, _ = look_alikes(index)
    if len(np.unique(groups)) < folds:
        raise UsageError(
            f"--folds {folds}: there are {counted(len(index), 'picture')} in {len(np.unique(groups))} groups that do "
            "not look alike; give fewer folds"
        )
    pairs, left, dealt = classes_of(index), np.arange(len(index)), list[np.ndarray]()
    while len(dealt) < folds - 1:
        mine = pairs[np.isin(pairs[:, 0], left)]
        local = np.stack([np.searchsorted(left, mine[:, 0]), mine[:, 1]], 1)
        apart = deal_out(groups[left], local, 1 / (folds - len(dealt)), seed + len(dealt))
        dealt.append(left[apart])
        left = left[~apart]
        if len(np.unique(groups[left])) < folds - len(dealt):  # the groups are of very different sizes
            raise UsageError(f"--folds {folds}: most pictures look like one another; give fewer folds")
    return [*dealt, left]


def look_by_folds(
    index: DataIndex,
    recipe: Recipe,
    folds: int,
    runs: Path,
    *,
    init: str | None,
    seed: int,
    batch_size: int,
    skip_broken: bool,
    say: Say | None,
) -> tuple[dict[int, Detections], list[str]]:
    """What models find on images that they did not learn from.

    A fold whose run in ``runs`` is finished, of the same data, is not trained again.

    Args:
        index: the data set.
        recipe: of all models.
        folds: how many.
        runs: folder of the runs.
        init: MODEL that each starts from; it must not have learnt from these images.
        seed: of the folds.
        batch_size: tiles a forward pass.
        skip_broken: leave out what cannot be read.
        say: called with lines.

    Returns:
        (detections by id of the image, in the classes of ``index``; lines about images that were left out)
    """
    found: dict[int, Detections] = {}
    skipped: list[str] = []
    for number, rows in enumerate(deal_folds(index, folds, seed), start=1):
        apart = np.zeros(len(index), bool)
        apart[rows] = True
        learnt, held = divide(index, apart)
        run = runs / f"fold-{number}-of-{folds}"
        if say is not None:
            say(f"fold {number} of {folds}: learns from {counted(len(learnt), 'picture')}, looks at {len(held):,}")
        # The run is told nothing of the images that it will look at: not even its best weights are chosen by them.
        train(recipe, learnt, None, run, init=init, resume=(run / CARD).exists(), skip_broken=skip_broken, plots=False)
        detector, own, _ = open_model(str(run), ())
        looked = look(
            detector,
            held.with_classes(detector.names) if set(held_names(held)) <= set(detector.names) else held,
            usable_precision(detector, own),
            batch_size,
            skip_broken,
            what="audit",
        )
        skipped += looked.skipped
        found |= {image: in_classes(one, index.names) for image, one in looked.found.items()}
    return found, skipped


def held_names(index: DataIndex) -> Iterator[str]:
    """Classes that have boxes."""
    return (index.names[int(label)] for label in np.unique(np.asarray(index.labels)))


def in_classes(found: Detections, names: tuple[str, ...]) -> Detections:
    """The same with labels that follow ``names``, which has all of the detector's."""
    if found.names == names:
        return found
    own = found.numpy()
    place = np.array([names.index(name) for name in found.names], np.int64)
    return replace(own, labels=place[np.asarray(own.labels, np.int64)], names=names)  # type: ignore[arg-type]
