"""Training: one readable loop from a recipe to a measured detector.

Everything random is a function of (seed, epoch, position), so a run that was cut off anywhere and resumed ends
with the same weights, bit for bit, as one that was not (same threads, layout and precision).
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn

from gfocal.criterion import Matched
from gfocal.data.coco import CocoIndex
from gfocal.data.loader import DetectionDataset, RunBatches, make_run_loader
from gfocal.data.transforms import TrainTransform
from gfocal.detector import DenseDetector
from gfocal.engine.checkpoint import load_detector, load_state, load_weights
from gfocal.engine.evaluate import Evaluation, evaluate
from gfocal.engine.optim import AveragedWeights, lr_factor, make_optimizer, scaled_lr, set_lr
from gfocal.engine.progress import ProgressBar
from gfocal.engine.run import Run
from gfocal.errors import GfocalError, UsageError
from gfocal.recipe import Recipe
from gfocal.structures import Batch
from gfocal.zoo import build_detector


@dataclass
class TrainResult:
    """How a run ended.

    Attributes:
        out: the run folder.
        metrics: the last evaluation, {} if there was none.
        best_ap: the best AP so far, or None.
        steps: optimizer steps done.
        seconds: of this call.
        pictures_per_second: while training, the whole pipeline.
        interrupted: stopped by Ctrl-C; resume with ``resume=True``.
        skipped: one line for each broken picture that another one stood in for.
    """

    out: Path
    metrics: dict[str, Any] = field(default_factory=dict)
    best_ap: float | None = None
    steps: int = 0
    seconds: float = 0.0
    pictures_per_second: float = 0.0
    interrupted: bool = False
    skipped: list[str] = field(default_factory=list)


def train(
    recipe: Recipe,
    train_index: CocoIndex,
    val_index: CocoIndex | None,
    out: Path,
    *,
    resume: bool = False,
    init: Path | None = None,
    skip_broken: bool = False,
    progress: bool = True,
) -> TrainResult:
    """Train a detector into the folder ``out``.

    Args:
        recipe: everything that decides the run.
        train_index: what it learns from.
        val_index: what it is measured on, or None.
        out: run folder; made here. Without ``resume`` it must not hold a run.
        resume: go on from ``out``'s saved state.
        init: run folder or checkpoint whose weights it starts from; class outputs of other class names start new.
        skip_broken: put the next readable picture in the place of a broken one, and list them.
        progress: show a bar on standard error.

    Raises:
        UsageError: for what cannot be trained: no pictures, fp16 on a CPU, a state of another recipe.
        GfocalError: a loss that is not finite.
    """
    if recipe.runtime.threads:
        torch.set_num_threads(recipe.runtime.threads)
    accelerator = _accelerator(recipe)
    set_seed(recipe.runtime.seed)
    detector = build_detector(recipe, train_index.names, pretrained=not resume and init is None)
    if init is not None and not resume:
        start_from(detector, init)
    if recipe.runtime.channels_last:
        detector = detector.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    trainer = _Trainer(recipe, detector, accelerator, train_index, val_index, Run(out), skip_broken, progress)
    return trainer.run_all(resume=resume)


def _accelerator(recipe: Recipe) -> Accelerator:
    precision = {"fp32": "no"}.get(recipe.runtime.precision, recipe.runtime.precision)
    if precision == "fp16" and not torch.cuda.is_available():
        raise UsageError("runtime.precision: fp16 needs a CUDA device; on a CPU use bf16 or fp32")
    accelerator = Accelerator(mixed_precision=precision)
    if accelerator.num_processes > 1:
        raise UsageError("training in several processes is not supported yet: start one process")
    return accelerator


def start_from(detector: DenseDetector, path: Path) -> list[str]:
    """Copy the weights of a checkpoint whose shapes agree; return the names of those that start new.

    Class outputs are copied only if the class names agree.
    """
    source, _, _ = load_detector(path)
    own, theirs = detector.state_dict(), source.state_dict()
    same_names = source.names == detector.names
    fresh = [
        name
        for name, tensor in own.items()
        if name not in theirs or theirs[name].shape != tensor.shape or (not same_names and _is_class_output(name))
    ]
    if len(fresh) > len(own) // 2:
        raise UsageError(
            f"{path} has another architecture than the recipe: {len(fresh)} of {len(own)} tensors do not fit"
        )
    merged = {name: tensor if name in fresh else theirs[name] for name, tensor in own.items()}
    for name in fresh:
        merged[name] = _partly(name, own[name], theirs.get(name), detector, source)
    load_weights(detector, merged, str(path))
    return fresh


def _is_class_output(name: str) -> bool:
    return name.startswith(("head.class_out.", "head.out."))


def _partly(name: str, own: Tensor, theirs: Tensor | None, detector: DenseDetector, source: DenseDetector) -> Tensor:
    """In a head whose one convolution gives classes and box code, the rows of the box code fit any classes."""
    rows = detector.boxes.channels
    shared = name.startswith("head.out.") and theirs is not None and source.boxes.channels == rows
    if not shared or theirs is None or detector.quality.quality_channels or source.quality.quality_channels:
        return own
    merged = own.clone()
    merged[-rows:] = theirs[-rows:]
    return merged


@contextmanager
def batch_norm_untouched(module: nn.Module) -> Iterator[None]:
    """Forward passes in training mode leave the running statistics as they are."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    before = [(m.momentum, None if m.num_batches_tracked is None else m.num_batches_tracked.clone()) for m in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            if count is not None and norm.num_batches_tracked is not None:
                norm.num_batches_tracked.copy_(count)


@dataclass
class _Counts:
    """What assignment met in one epoch, so that nothing is truncated in silence."""

    objects: int = 0
    missed: int = 0
    edges: int = 0
    truncated: int = 0

    def add(self, matched: Matched) -> None:
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(matched, name))

    def describe(self) -> dict[str, float | int]:
        return {
            **vars(self),
            "missed_share": self.missed / max(self.objects, 1),
            "truncated_share": self.truncated / max(self.edges, 1),
        }


class _Trainer:
    """The state of one run and the loop over it."""

    def __init__(
        self,
        recipe: Recipe,
        detector: DenseDetector,
        accelerator: Accelerator,
        train_index: CocoIndex,
        val_index: CocoIndex | None,
        run: Run,
        skip_broken: bool,
        progress: bool,
    ) -> None:
        schedule = recipe.schedule
        if len(train_index) == 0:
            raise UsageError(f"{train_index.annotations} lists no pictures: there is nothing to train on")
        self.recipe, self.accelerator, self.run = recipe, accelerator, run
        self.train_index, self.val_index = train_index, val_index
        self.skip_broken, self.progress = skip_broken, progress
        # A last batch that is not full is left out, unless the data set is smaller than a batch.
        self.batches = max(len(train_index) // schedule.batch_size, 1)
        self.steps_an_epoch = self.batches // schedule.accumulate
        if self.steps_an_epoch == 0:
            raise UsageError(
                f"an epoch has {self.batches} batches of {schedule.batch_size}, fewer than schedule.accumulate="
                f"{schedule.accumulate}: lower it or the batch size"
            )
        self.detector = detector
        optimizer = make_optimizer(detector, recipe.optim)
        self.model, self.optimizer = accelerator.prepare(detector, optimizer)
        self.average = AveragedWeights(detector, schedule.ema) if schedule.ema else None
        self.lr = scaled_lr(recipe.optim, schedule.batch_size * schedule.accumulate)
        self.step = 0
        self.best_ap: float | None = None
        self.metrics: dict[str, Any] = {}
        self.counts = _Counts()
        self.skipped: list[str] = []
        self.stop = False
        self.grad_norm = math.nan

    @property
    def total_steps(self) -> int:
        return self.recipe.schedule.epochs * self.steps_an_epoch

    def run_all(self, *, resume: bool) -> TrainResult:
        """Train to the end of the schedule, or until Ctrl-C."""
        self.run.open(self.recipe, self.train_index, resume=resume)
        if resume:
            self._load(load_state(self.run.state_file))
        self.run.track(self.recipe, self.step)
        started, first = time.perf_counter(), self.step
        busy = 0.0
        with (
            ProgressBar(self.total_steps, "training", done=self.step, shown=self.progress) as bar,
            self._stop_on_ctrl_c(bar),
        ):
            batches = iter(self._loader()) if self.step < self.total_steps else iter(())
            while self.step < self.total_steps and not self.stop:
                begin = time.perf_counter()
                losses = self._one_step(batches)
                busy += time.perf_counter() - begin
                self._after_step(losses, bar, (self.step - first) / busy)
            if self.stop:
                self._save()
        self.run.close()
        pictures = (self.step - first) * self.recipe.schedule.batch_size * self.recipe.schedule.accumulate
        return TrainResult(
            out=self.run.folder,
            metrics=self.metrics,
            best_ap=self.best_ap,
            steps=self.step,
            seconds=time.perf_counter() - started,
            pictures_per_second=pictures / busy if busy else 0.0,
            interrupted=self.stop and self.step < self.total_steps,
            skipped=list(dict.fromkeys(self.skipped)),
        )

    def _loader(self) -> Any:
        data, schedule = self.recipe.data, self.recipe.schedule
        transform = TrainTransform(self.detector.resize, flip=data.flip, photometric=data.photometric, scale=data.scale)
        seed = self.recipe.runtime.seed
        dataset = DetectionDataset(self.train_index, transform, seed=seed, skip_broken=self.skip_broken)
        epoch, step = divmod(self.step, self.steps_an_epoch)
        batches = RunBatches(
            len(self.train_index),
            seed=seed,
            batch_size=schedule.batch_size,
            batches=self.steps_an_epoch * schedule.accumulate,
            epochs=schedule.epochs,
            epoch=epoch,
            batch=step * schedule.accumulate,
        )
        return make_run_loader(dataset, batches, workers=data.workers)

    def _one_step(self, batches: Iterator[Batch]) -> dict[str, float]:
        """One optimizer step over ``accumulate`` batches; the normalisers are those of the whole step."""
        self.detector.train()
        device = self.accelerator.device
        step = [next(batches) for _ in range(self.recipe.schedule.accumulate)]
        pictures = [batch.pictures.to(device) for batch in step]
        matches = [self.detector.match(p, batch.targets) for p, batch in zip(pictures, step, strict=True)]
        for batch, matched in zip(step, matches, strict=True):
            self.counts.add(matched)
            self.skipped.extend(batch.skipped)
        lr = self.lr * lr_factor(self.recipe.schedule, self.step, self.steps_an_epoch)
        set_lr(self.optimizer.optimizer, lr)
        cls_norm = max(sum(len(matched.positive) for matched in matches), 1)
        box_norm = self._box_norm(pictures, matches) if len(step) > 1 else None
        sums: dict[str, float] = {}
        for picture, matched in zip(pictures, matches, strict=True):
            size = (picture.shape[-2], picture.shape[-1])
            out = self.model(picture)
            losses = self.detector.losses(out, matched, size, cls_norm=cls_norm, box_norm=box_norm)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.item()
            if not all(math.isfinite(value) for value in sums.values()):
                self._not_finite(sums, step, lr)
            self.accelerator.backward(sum(losses.values()))
        limit = self.recipe.optim.clip_norm or math.inf
        norm = self.accelerator.clip_grad_norm_(self.detector.parameters(), limit)
        self.grad_norm = float(norm)
        # With fp16 the scaler itself leaves out such a step and lowers its factor.
        if not math.isfinite(self.grad_norm) and self.recipe.runtime.precision != "fp16":
            self._not_finite(sums, step, lr)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.detector)
        self.step += 1
        return {**sums, "loss": sum(sums.values()), "lr": lr, "grad_norm": self.grad_norm}

    def _box_norm(self, pictures: list[Tensor], matches: list[Matched]) -> Tensor:
        """The sum of the positives' weights over all batches of the step, from a pass without gradients."""
        total = torch.zeros((), device=self.accelerator.device)
        with torch.no_grad(), batch_norm_untouched(self.detector):
            for picture, matched in zip(pictures, matches, strict=True):
                size = (picture.shape[-2], picture.shape[-1])
                total += self.detector.box_weight_sum(self.model(picture), matched, size)
        return total.clamp(min=1)

    def _not_finite(self, sums: dict[str, float], step: list[Batch], lr: float) -> None:
        terms = ", ".join(f"{name} {value:.4g}" for name, value in sums.items())
        ids = ", ".join(str(i) for batch in step for i in batch.image_ids.tolist())
        raise GfocalError(
            f"the loss is not finite at step {self.step}: {terms}; learning rate {lr:.3g}, gradient norm "
            f"{self.grad_norm:.4g}, image ids {ids}. Lower optim.lr, set optim.clip_norm, or lengthen "
            f"schedule.warmup_steps; the state of an earlier step is in {self.run.state_file}"
        )

    def _after_step(self, losses: dict[str, float], bar: ProgressBar, rate: float) -> None:
        schedule = self.recipe.schedule
        pictures = rate * schedule.batch_size * schedule.accumulate
        self.run.log("train", self.step, {**losses, "pictures_per_second": round(pictures, 2)})
        terms = " ".join(f"{name} {losses[name]:.3f}" for name in losses if name not in ("loss", "lr", "grad_norm"))
        bar.update(self.step, f"loss {losses['loss']:.3f} ({terms}) {pictures:.1f} pictures/s")
        epoch, within = divmod(self.step, self.steps_an_epoch)
        if within == 0:
            self._end_epoch(epoch, bar)
        if within == 0 or self.step % schedule.save_every == 0:
            self._save()

    def _end_epoch(self, epoch: int, bar: ProgressBar) -> None:
        counts = self.counts.describe()
        self.counts = _Counts()
        self.run.log("epoch", self.step, {"epoch": epoch, **counts})
        if epoch == 1 or counts["truncated_share"] > 0.001:
            bar.say(
                f"epoch {epoch}: {100 * counts['truncated_share']:.2f} % of the edges lie beyond what the boxes can "
                f"reach, {100 * counts['missed_share']:.2f} % of the objects got no point"
            )
        last = epoch == self.recipe.schedule.epochs
        if self.val_index is not None and (last or epoch % self.recipe.schedule.eval_every == 0):
            self._evaluate(epoch, bar)
        if last or self.val_index is None:
            self.run.save_weights(self.run.last, self._weights(), self.recipe, self.train_index, self._notes(epoch))

    def _weights(self) -> dict[str, Tensor]:
        return self.detector.state_dict() if self.average is None else self.average.state

    def _notes(self, epoch: int) -> dict[str, Any]:
        return {"epoch": epoch, "step": self.step, "metrics": self.metrics}

    def _evaluate(self, epoch: int, bar: ProgressBar) -> None:
        """Measure the averaged weights if there are any, and keep the best."""
        assert self.val_index is not None
        own = {name: tensor.clone() for name, tensor in self.detector.state_dict().items()}
        if self.average is not None:
            self.detector.load_state_dict(self.average.state)
        try:
            measured: Evaluation = evaluate(
                self.detector,
                self.val_index,
                batch_size=self.recipe.schedule.batch_size,
                workers=self.recipe.data.workers,
                precision=self.recipe.runtime.precision,
                skip_broken=self.skip_broken,
            )
        finally:
            self.detector.load_state_dict(own)
        self.skipped.extend(measured.skipped)
        self.metrics = measured.to_dict()
        self.run.log("val", self.step, {"epoch": epoch, **self.metrics})
        ap = self.metrics["AP"]
        best = ap is not None and (self.best_ap is None or ap > self.best_ap)
        bar.say(f"epoch {epoch}: AP {_number(ap)}, AP50 {_number(self.metrics['AP50'])}{' (best)' if best else ''}")
        if best:
            self.best_ap = ap
            self.run.save_weights(self.run.best, self._weights(), self.recipe, self.train_index, self._notes(epoch))

    def _save(self) -> None:
        self.run.save(
            {
                "step": self.step,
                "model": self.detector.state_dict(),
                "optimizer": self.optimizer.optimizer.state_dict(),
                "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,
                "average": None
                if self.average is None
                else {"state": self.average.state, "updates": self.average.updates},
                "generator": torch.get_rng_state(),
                "best_ap": self.best_ap,
                "metrics": self.metrics,
                "counts": vars(self.counts),
            }
        )

    def _load(self, state: dict[str, Any]) -> None:
        self.run.check_resumable(state, self.recipe, self.train_index)
        self.detector.load_state_dict(state["model"])
        self.optimizer.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load(state["average"]["state"], state["average"]["updates"])
        torch.set_rng_state(state["generator"])
        self.step, self.best_ap, self.metrics = state["step"], state["best_ap"], state["metrics"]
        self.counts = _Counts(**state["counts"])

    @contextmanager
    def _stop_on_ctrl_c(self, bar: ProgressBar) -> Iterator[None]:
        """The first Ctrl-C ends the run after the current step, with its state saved; a second one at once."""

        def handle(number: int, frame: Any) -> None:
            if self.stop:
                raise KeyboardInterrupt
            self.stop = True
            bar.say("stopping after this step; Ctrl-C again stops at once")

        try:
            before = signal.signal(signal.SIGINT, handle)
        except ValueError:  # not in the main thread: whoever called decides about signals
            yield
            return
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
