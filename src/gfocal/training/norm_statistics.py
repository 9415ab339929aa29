"""Before a training from weights made for inference: statistics for its batch norms, from the images it learns from."""

from __future__ import annotations

from itertools import islice

import torch

from gfocal.data.index.data_index import DataIndex
from gfocal.data.pipeline import batches_from, images_per_epoch
from gfocal.detector import DenseDetector
from gfocal.recipe import Recipe
from gfocal.runs.initial_weights import NormStatistics
from gfocal.runtime.norm_statistics import measure_statistics, norms_without_statistics
from gfocal.training.step_plan import StepPlan

IMAGES = 128
"""How many are looked at, rounded up to batches, or those of an epoch: the coarsest map of 320 pixels has 25 cells."""


def complete_norms(
    detector: DenseDetector, recipe: Recipe, index: DataIndex, device: torch.device, *, skip_broken: bool
) -> NormStatistics | None:
    """Measure the statistics of batch norms that have none and will normalise by the batch; outputs stay as they are.

    What is frozen, or keeps its statistics (``model.norm_eval``), is left alone: there the identity is right. In
    several processes all of them look at the same images.

    Args:
        detector: with the weights that it starts from; it is moved to ``device``.
        recipe: of the run.
        index: what it learns from, see :func:`gfocal.data.pipeline.in_tiles`.
        device: to compute on.
        skip_broken: put the next readable image in the place of a broken one.

    Returns:
        What was done; None where nothing had to be.
    """
    norms = [norm for norm in norms_without_statistics(detector.train()) if norm.training]
    if not norms:
        return None
    images = images_per_epoch(recipe, index)
    batch_size = recipe.schedule.batch_size
    plain = recipe.schedule.model_copy(update={"accumulate": 1, "epoch_steps": None})
    own = recipe.model_copy(update={"schedule": plain})
    batches = batches_from(own, index, detector.resize, 0, StepPlan.of(plain, images).an_epoch, skip_broken)
    some = islice(batches, -(-min(IMAGES, images) // batch_size))
    detector.to(device)
    seen = measure_statistics(detector, norms, (batch.images.to(device) for batch in some))
    return NormStatistics(len(norms), seen)
