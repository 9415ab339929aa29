"""The loop of a run: steps, evaluations, what is saved and what is said.

Everything random is a function of (seed, epoch, position), so a run that was cut off anywhere and resumed ends
with the same weights, bit for bit, as one that was not (same threads, layout and precision).
"""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from gfocal.analysis.statistics import before_training
from gfocal.data.index.data_index import DataIndex
from gfocal.data.loading.loader import BatchLoader
from gfocal.data.pipeline import batches_from, images_per_epoch, tile_lines
from gfocal.detector import DenseDetector
from gfocal.errors import GfocalError, UsageError
from gfocal.evaluation.evaluator import evaluate
from gfocal.recipe import Recipe
from gfocal.runs.checkpoint import generator_states, kept_weights, restore_generators
from gfocal.runs.folder import Run, TrainResult
from gfocal.runs.initial_weights import describe_start
from gfocal.runtime.memory import memory_notes
from gfocal.runtime.precision import real_precision
from gfocal.structures import Batch
from gfocal.training.early_stopping import Best, check_patience, stop_line
from gfocal.training.optimizer import AveragedWeights, idle_settings, lr_factor, lr_line, make_optimizer, scaled_lr
from gfocal.training.precision_check import precision_notes
from gfocal.training.step import Counts, NotFinite, optimizer_step
from gfocal.utils.progress import CtrlC, ProgressBar


class Trainer:
    """The state of one run and the loop over it."""

    def __init__(
        self,
        recipe: Recipe,
        detector: DenseDetector,
        accelerator: Accelerator,
        train_index: DataIndex,
        val_index: DataIndex | None,
        run: Run,
        skip_broken: bool,
        progress: bool,
    ) -> None:
        schedule = recipe.schedule
        check_patience(schedule.patience, val_index)
        if len(train_index) == 0:
            raise UsageError(f"{train_index.annotations} lists no pictures: there is nothing to train on")
        self.recipe, self.accelerator, self.run, self.processes = recipe, accelerator, run, run.processes
        self.train_index, self.val_index = train_index, val_index
        self.skip_broken, self.progress = skip_broken, progress and self.processes.main
        # A last batch that is not full is left out, unless the data set is smaller than a batch.
        images = images_per_epoch(recipe, train_index)
        together = schedule.batch_size * self.processes.count
        if self.processes.count > 1 and images < together:
            raise UsageError(
                f"{images} pictures do not fill one batch of {schedule.batch_size} for each of "
                f"{self.processes.count} processes: lower schedule.batch_size or start fewer processes"
            )
        self.batches = max(images // together, 1)
        self.steps_an_epoch = self.batches // schedule.accumulate
        if self.steps_an_epoch == 0:
            raise UsageError(
                f"an epoch has {self.batches} batches of {together}, fewer than schedule.accumulate="
                f"{schedule.accumulate}: lower it or the batch size"
            )
        self.detector = detector
        optimizer = make_optimizer(detector, recipe.optim)
        self.model, self.optimizer = accelerator.prepare(detector, optimizer)
        self.average = AveragedWeights(detector, schedule.ema) if schedule.ema else None
        self.images_per_step = min(together, images) * schedule.accumulate
        self.lr = scaled_lr(recipe.optim, self.images_per_step)
        self.step = 0
        self.best = Best()
        self.metrics: dict[str, Any] = {}
        self.counts = Counts()
        self.skipped: dict[str, None] = {}
        self.grad_norm = math.nan
        self.unmeasured = False  # an epoch ended whose evaluation is still to come
        self.measured_step = -1
        self.announced_share = 0.0

    @property
    def total_steps(self) -> int:
        return self.recipe.schedule.epochs * self.steps_an_epoch

    def run_all(self, *, resume: bool, started: dict[str, Any] | None) -> TrainResult:
        """Train to the end of the schedule, or until Ctrl-C."""
        lines = [lr_line(self.recipe.optim, self.images_per_step)]
        lines += idle_settings(self.recipe.schedule, self.total_steps)
        state = self.run.open(self.recipe, self.train_index, self.val_index, resume=resume, init=started)
        if started is not None:
            lines += describe_start(started)
        if state is not None:
            self._load(state)
            if changed := self.run.changed_environment(state):
                what = ", ".join(changed)
                lines.append(
                    f"the result will not be bit-identical to an uninterrupted run, since these changed: {what}"
                )
        else:
            lines += [*tile_lines(self.recipe, self.train_index), *before_training(self.train_index, self.recipe)]
        lines += memory_notes(self.detector, self.recipe)
        self.run.track(self.recipe, self.step, measured=not self.unmeasured)
        try:
            with (
                ProgressBar(self.total_steps, "training", done=self.step, shown=self.progress) as bar,
                CtrlC(bar.say) as ctrl_c,
            ):
                for line in lines:
                    bar.say(line)
                result = self._steps(bar, ctrl_c)
            self.run.ended(result.outcome, self.step)
            return result
        except BaseException as error:
            self.run.ended(f"failed: {type(error).__name__}: {error}", self.step)
            raise
        finally:
            self.run.close()

    def _steps(self, bar: ProgressBar, ctrl_c: CtrlC) -> TrainResult:
        started, first, busy = time.perf_counter(), self.step, 0.0
        if self.unmeasured:
            self._measure(bar)
            self._save()
        batches = iter(self._loader()) if self.step < self.total_steps and not self.stopped else iter(())
        while self.step < self.total_steps and not self.stopped and not self.processes.any(ctrl_c.asked):
            begin = time.perf_counter()
            with self.processes.own_errors():
                step = [next(batches) for _ in range(self.recipe.schedule.accumulate)]
            if self.step == 0:
                with self.processes.own_errors():
                    lines = precision_notes(self.detector, step[0], real_precision(self.recipe.runtime.precision))
                for line in lines:
                    bar.say(line)
                # With the first images in hand: a run that is cut off from here on can be resumed, and one that
                # could not read its data has left nothing that a second try must get rid of.
                self._save()
            losses = self._one_step(step)
            busy += time.perf_counter() - begin
            self._after_step(losses, bar, (self.step - first) / busy)
        if self.stopped:
            self._note_stop(bar)
        interrupted = self.step < self.total_steps and not self.stopped
        if interrupted and (self.step == 0 or self.step % self.steps_an_epoch):  # otherwise all is saved
            self._save()
            if self.step:
                self._save_weights(self.run.last)
        return TrainResult(
            out=self.run.folder,
            metrics=self.metrics,
            best_ap=self.best.ap,
            best_epoch=self.best.epoch or None,
            stopped_early=self.stopped,
            steps=self.step,
            seconds=time.perf_counter() - started,
            images_per_second=(self.step - first) * self.images_per_step / busy if busy else 0.0,
            interrupted=interrupted,
            skipped=list(dict.fromkeys(line for lines in self.processes.gather(list(self.skipped)) for line in lines)),
        )

    def _note_stop(self, bar: ProgressBar) -> None:
        patience = self.recipe.schedule.patience
        self.run.log("stop", self.step, {"epoch": self.epoch, "patience": patience, **self.best.to_dict()})
        bar.say(stop_line(self.best, self.epoch, patience or 0))

    def _loader(self) -> BatchLoader:
        return batches_from(
            self.recipe,
            self.train_index,
            self.detector.resize,
            self.step,
            self.steps_an_epoch,
            self.skip_broken,
            rank=self.processes.rank,
            processes=self.processes.count,
        )

    def _one_step(self, batches: list[Batch]) -> dict[str, float]:
        lr = self.lr * lr_factor(self.recipe.schedule, self.step, self.steps_an_epoch)
        clip_norm = self.recipe.optim.clip_norm
        try:
            done = optimizer_step(
                self.detector,
                self.model,
                self.optimizer,
                self.accelerator,
                batches,
                lr=lr,
                clip_norm=clip_norm,
                processes=self.processes,
                epoch=self.epoch,
            )
        except NotFinite as error:
            stopped = GfocalError(
                f"step {self.step + 1} stopped the run: {error}; gradient norm of the step before "
                f"{self.grad_norm:.4g}. Lower optim.lr, set optim.clip_norm, or lengthen schedule.warmup_steps; the "
                f"last saved state is {self.run.state_file}"
            )
            stopped.together = True
            raise stopped from error
        self.counts.add(done.counts)
        for batch in batches:
            self.skipped.update(dict.fromkeys(batch.skipped))
        if self.average is not None:
            self.average.update(self.detector)
        self.step += 1
        self.grad_norm = done.grad_norm
        return {**done.losses, "loss": sum(done.losses.values()), "lr": lr, "grad_norm": done.grad_norm}

    def _after_step(self, losses: dict[str, float], bar: ProgressBar, rate: float) -> None:
        schedule = self.recipe.schedule
        images = rate * self.images_per_step
        self.run.log("train", self.step, {**losses, "pictures_per_second": round(images, 2)})
        terms = " ".join(f"{name} {losses[name]:.3f}" for name in losses if name not in ("loss", "lr", "grad_norm"))
        bar.update(self.step, f"loss {losses['loss']:.3f} ({terms}) {images:.1f} pictures/s")
        if self.step in schedule.keep_steps:  # before the state: a run that is cut off in between does it again
            self._save_weights(kept_weights(self.run.folder, self.step))
        within = self.step % self.steps_an_epoch
        if within == 0:
            self._end_epoch(bar)
        if within == 0 or self.step % schedule.save_every == 0:
            self._save()

    @property
    def epoch(self) -> int:
        """Epochs that are finished."""
        return self.step // self.steps_an_epoch

    @property
    def stopped(self) -> bool:
        """Whether ``schedule.patience`` ends the run here, before its last epoch."""
        early = self.measured_step == self.step < self.total_steps and not self.unmeasured
        return early and self.best.is_stale(self.recipe.schedule.patience, self.epoch)

    def _end_epoch(self, bar: ProgressBar) -> None:
        counts = self.counts.describe()
        self.counts = Counts()
        self.run.log("epoch", self.step, {"epoch": self.epoch, **counts})
        share = counts["truncated_share"]
        if self.epoch == 1 or (share > 0.001 and share >= 2 * self.announced_share):
            self.announced_share = share
            bar.say(
                f"epoch {self.epoch}: {100 * share:.2f} % of the edges lie beyond what the boxes can reach, "
                f"{100 * counts['missed_share']:.2f} % of the objects got no point"
            )
        self._measure(bar)

    def _measure(self, bar: ProgressBar) -> None:
        """Evaluate after the epoch that just ended if that is due; write the weights in any case."""
        schedule = self.recipe.schedule
        due = self.epoch == schedule.epochs or self.epoch % schedule.eval_every == 0
        if due and self.val_index is not None:
            self.unmeasured = True
            self._save()  # an evaluation may take long, or meet an image that cannot be read
            self._evaluate(bar)
        self.unmeasured = False
        self._save_weights(self.run.last)

    def _save_weights(self, file: Path) -> None:
        weights = self.average.weights if self.average else self.detector.state_dict()
        metrics = self.metrics if self.measured_step == self.step else {}
        notes = {"epoch": self.epoch, "step": self.step, "metrics": metrics}
        self.run.save_weights(file, weights, self.recipe, self.train_index, notes)

    def _evaluate(self, bar: ProgressBar) -> None:
        """Measure the averaged weights if there are any, and keep the best."""
        assert self.val_index is not None
        with self.average.inside(self.detector) if self.average else nullcontext():
            self.processes.copy_from_main(self.detector)
            measured = evaluate(
                self.detector,
                self.val_index,
                batch_size=self.recipe.schedule.batch_size,
                workers=self.recipe.data.workers,
                precision=real_precision(self.recipe.runtime.precision),
                skip_broken=self.skip_broken,
                processes=self.processes,
            )
        self.skipped.update(dict.fromkeys(measured.skipped))
        self.metrics, self.measured_step = measured.to_dict(), self.step
        self.run.log("val", self.step, {"epoch": self.epoch, **self.metrics})
        ap = self.metrics["AP"]
        best = self.best.take(ap, self.epoch)
        bar.say(
            f"epoch {self.epoch}: AP {_number(ap)}, AP50 {_number(self.metrics['AP50'])}{' (best)' if best else ''}"
        )
        if best:
            self._save_weights(self.run.best)

    def _save(self) -> None:
        self.run.save(
            {
                "step": self.step,
                "model": self.detector.state_dict(),
                "optimizer": self.optimizer.optimizer.state_dict(),
                "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else None,
                "average": self.average.state_dict() if self.average else None,
                "generators": self.processes.gather(generator_states()),
                **self.best.to_dict(),
                "metrics": self.metrics,
                "measured_step": self.measured_step,
                "unmeasured": self.unmeasured,
                "skipped": self.processes.gather(list(self.skipped)),
                "told_share": self.announced_share,
                "grad_norm": self.grad_norm,
                "counts": vars(self.counts),
            }
        )

    def _load(self, state: dict[str, Any]) -> None:
        self.detector.load_state_dict(state["model"])
        self.optimizer.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        restore_generators(state["generators"][self.processes.rank])
        self.step, self.metrics = state["step"], state["metrics"]
        self.best = Best(state["best_ap"], state.get("best_epoch", 0))
        self.measured_step, self.unmeasured = state.get("measured_step", -1), state.get("unmeasured", False)
        self.counts = Counts(**state["counts"])
        self.skipped = dict.fromkeys(state["skipped"][self.processes.rank])
        self.announced_share, self.grad_norm = state["told_share"], state["grad_norm"]


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
