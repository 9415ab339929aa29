"""The loop of a run: steps, evaluations, what is saved and what is said.

Everything random is a function of (seed, epoch, position), so a run that was cut off anywhere and resumed ends
with the same weights, bit for bit, as one that was not (same threads, layout and precision).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import cast

from accelerate import Accelerator
from torch import nn

from gfocal.analysis.start import before_training
from gfocal.data.loading.loader import BatchLoader
from gfocal.data.pipeline import batches_from, images_per_epoch, tile_lines
from gfocal.detector import DenseDetector
from gfocal.errors import GfocalError, message_of
from gfocal.evaluation.evaluator import evaluate, measured_by
from gfocal.runs.checkpoint import kept_weights
from gfocal.runs.folder import Run, TrainResult
from gfocal.runs.initial_weights import Start, describe_start
from gfocal.runs.measured_data import MeasuredData, describe_change, describe_new_start
from gfocal.runtime.memory import memory_notes
from gfocal.runtime.precision import real_precision
from gfocal.structures import Batch
from gfocal.training import drawings
from gfocal.training.early_stopping import Best, stop_line
from gfocal.training.optimizer import AveragedWeights, idle_settings, lr_factor, lr_line, make_optimizer, scaled_lr
from gfocal.training.precision_check import precision_notes
from gfocal.training.state import Generators, TrainState, kept_steps
from gfocal.training.step import Counts, NotFinite, StepResult, optimizer_step
from gfocal.training.step_plan import FORWARD, StepPlan
from gfocal.utils.progress import ProgressBar
from gfocal.utils.signals import StopRequest
from gfocal.utils.text import decimals


class Trainer:
    """The loop over one run.

    Args:
        run: what the run is made of, and where it is written.
        detector: that learns, with the weights it starts from.
        accelerator: device, precision and processes.
        skip_broken: put the next readable image in the place of a broken one.
        progress: show a bar on standard error.
        plots: draw curves and what the best weights find at the end, see :mod:`gfocal.training.drawings`.

    Attributes:
        plan: the optimizer steps of the run.
        model: the detector as accelerate prepared it: its forward pass.
        state: all that changes.
    """

    def __init__(
        self,
        run: Run,
        detector: DenseDetector,
        accelerator: Accelerator,
        *,
        skip_broken: bool,
        progress: bool,
        plots: bool,
    ) -> None:
        recipe, data = run.recipe, run.train_index
        self.run, self.recipe, self.processes = run, recipe, run.processes
        self.skip_broken, self.progress, self.plots = skip_broken, progress and run.processes.main, plots
        self.plan = StepPlan.of(recipe.schedule, images_per_epoch(recipe, data), run.processes.count)
        self.detector, self.accelerator = detector, accelerator
        self._validation_seconds: float | None = None  # of the last one of this call
        self.model, optimizer = accelerator.prepare(detector, make_optimizer(detector, recipe.optim))
        self.state = TrainState(
            step=0,
            detector=detector,
            optimizer=optimizer,
            scaler=accelerator.scaler,
            average=AveragedWeights(detector, recipe.schedule.ema) if recipe.schedule.ema else None,
            generators=Generators(),
            assistant=cast(nn.Module | None, detector.assistant),
        )
        self.best_measured: drawings.Measured | None = None  # of this call

    def run_all(self, *, resume: bool, start: Start | None, notes: Sequence[str] = ()) -> TrainResult:
        """Train to the end of the schedule, or until Ctrl-C or another signal that ends a process.

        ``notes`` are lines to print first.
        """
        with closing(self.run):
            return self._run_all(resume, start, notes)

    def _run_all(self, resume: bool, start: Start | None, notes: Sequence[str]) -> TrainResult:
        lines = [*notes, lr_line(self.recipe.optim, self.plan.images)]
        lines += idle_settings(self.recipe.schedule, self.plan.total)
        saved = self.run.open(resume=resume, start=start)
        try:
            if start is not None:
                lines += describe_start(start)
            if saved is not None:
                self.state.load_state_dict(saved.state, self.processes)
                if changed := self.run.changed_environment(saved):
                    what = ", ".join(changed)
                    lines.append(
                        f"the result will not be bit-identical to an uninterrupted run, since these changed: {what}"
                    )
            else:
                data, trained = self.run.train_index, start is not None and "head" in start.parts
                known = before_training(data, self.recipe, self.run.val_index, trained=trained)
                lines += [*tile_lines(self.recipe, data), *known]
            lines += memory_notes(self.detector, self.recipe)
            lines += self.run.track(self.state.step, measured=not self.state.unmeasured)
            if saved is not None and (changed_val := self.run.changed_measurement(saved)) is not None:
                lines.append(self._measure_anew(*changed_val))
            with (
                ProgressBar(self.plan.total, "training", done=self.state.step, shown=self.progress) as bar,
                StopRequest(bar.say) as stop,
            ):
                for line in lines:
                    bar.say(line)
                result = self._steps(bar, stop)
                self.run.check()
                if self.plots:
                    ended = not result.interrupted
                    result.drawings = drawings.draw_run(self.run, self.best_measured, bar.say, ended=ended)
            self.run.ended(result.outcome, self.state.step)
            return result
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt)  # by a signal that nobody noted, or a second one
            outcome = "interrupted" if stopped else f"failed: {type(error).__name__}: {message_of(error)}"
            self.run.ended(outcome, self.state.step)
            if self.plots and isinstance(error, Exception):  # how the loss ran off can be seen
                drawings.draw_run(self.run, None, lambda _: None)
            raise

    def _measure_anew(self, before: MeasuredData | None, now: MeasuredData) -> str:
        """Begin with no best AP, as one that was measured otherwise compares with nothing; a line that says so."""
        state = self.state
        state.best, state.metrics, state.measured_step = Best(), {}, -1
        # Between epochs at once, so that what follows has something to be better than.
        state.unmeasured = state.step > 0 and state.step % self.plan.an_epoch == 0
        aside = self.run.set_best_aside(state.step)
        self.run.log("val_data", state.step, describe_change(before, now))
        self._save()
        return describe_new_start(before, now, state.step, aside)

    def _steps(self, bar: ProgressBar, stop: StopRequest) -> TrainResult:
        state, total = self.state, self.plan.total
        started, first, busy = time.perf_counter(), state.step, 0.0
        if state.unmeasured:
            self._measure(bar)
            self._save()
        batches = iter(self._loader()) if state.step < total and not self.stopped else iter(())
        while state.step < total and not self.stopped and not self.processes.any(stop.asked):
            begin = time.perf_counter()
            # Several processes save together, and the others know of nothing.
            alone = state.step > 0 and self.processes.count == 1
            with self.processes.own_errors(), kept_steps(state.step, self._save) if alone else nullcontext():
                step = [next(batches) for _ in range(self.recipe.schedule.accumulate)]
            if state.step == 0:
                with self.processes.own_errors():
                    lines = precision_notes(self.detector, step[0], real_precision(self.recipe.runtime.precision))
                for line in lines:
                    bar.say(line)
                # With the first images in hand: a run that is cut off from here on can be resumed, and one that
                # could not read its data has left nothing that a second try must get rid of.
                self._save()
            lr = self._lr()
            done = self._one_step(step, lr)
            busy += time.perf_counter() - begin
            self._after_step(done, lr, bar, (state.step - first) * self.plan.images / busy)
        if self.stopped:
            self._note_stop(bar)
        interrupted = state.step < total and not self.stopped
        if interrupted and (state.step == 0 or state.step % self.plan.an_epoch):  # otherwise all is saved
            self._save()
            if state.step:
                self._save_weights(self.run.last)
        return TrainResult(
            out=self.run.folder,
            metrics=state.metrics,
            best_ap=state.best.ap,
            best_epoch=state.best.epoch or None,
            stopped_early=self.stopped,
            steps=state.step,
            seconds=time.perf_counter() - started,
            images_per_second=(state.step - first) * self.plan.images / busy if busy else 0.0,
            interrupted=interrupted,
            signal=max(self.processes.gather(stop.number or 0)) or None,
            skipped=list(dict.fromkeys(line for lines in self.processes.gather(state.skipped) for line in lines)),
        )

    def _note_stop(self, bar: ProgressBar) -> None:
        patience = self.recipe.schedule.patience
        best = self.state.best
        self.run.log("stop", self.state.step, {"epoch": self.epoch, "patience": patience, **best.to_dict()})
        bar.say(stop_line(best, self.epoch, patience or 0))

    def _loader(self) -> BatchLoader:
        return batches_from(
            self.recipe,
            self.run.train_index,
            self.detector.resize,
            self.state.step,
            self.plan.an_epoch,
            self.skip_broken,
            rank=self.processes.rank,
            processes=self.processes.count,
        )

    def _lr(self) -> float:
        """The learning rate of the next step."""
        factor = lr_factor(self.recipe.schedule, self.state.step, self.plan.an_epoch)
        return scaled_lr(self.recipe.optim, self.plan.images) * factor

    def _one_step(self, batches: list[Batch], lr: float) -> StepResult:
        state = self.state
        try:
            done = optimizer_step(
                self.detector,
                self.model,
                state.optimizer,
                self.accelerator,
                batches,
                lr=lr,
                clip_norm=self.recipe.optim.clip_norm,
                processes=self.processes,
                epoch=self.epoch,
            )
        except NotFinite as error:
            stopped = GfocalError(
                f"step {state.step + 1} stopped the run: {error}; gradient norm of the step before "
                f"{state.grad_norm:.4g}. Lower optim.lr, set optim.clip_norm, or lengthen schedule.warmup_steps; the "
                f"last saved state is {self.run.state_file}"
            )
            stopped.together = True
            raise stopped from error
        state.counts.add(done.counts)
        state.note_skipped([line for batch in batches for line in batch.skipped])
        if state.average is not None:
            state.average.update(self.detector)
        state.step += 1
        state.grad_norm = done.grad_norm
        return done

    def _after_step(self, done: StepResult, lr: float, bar: ProgressBar, rate: float) -> None:
        """Record a step; ``rate`` in images a second."""
        schedule, step = self.recipe.schedule, self.state.step
        loss = sum(done.losses.values())
        facts = {"loss": loss, "lr": lr, "grad_norm": done.grad_norm, "pictures_per_second": round(rate, 2)}
        self.run.log("train", step, {**done.losses, **facts})
        terms = " ".join(f"{name} {value:.3f}" for name, value in done.losses.items())
        val = self.run.val_index
        each = 0.0 if val is None else self._validation_seconds or FORWARD * len(val) / rate
        more = each * self.plan.validations_left(schedule, step)
        bar.update(step, f"loss {loss:.3f} ({terms}) {rate:.1f} pictures/s", more=more)
        if step in schedule.keep_steps:  # before the state: a run that is cut off in between does it again
            self._save_weights(kept_weights(self.run.folder, step))
        within = step % self.plan.an_epoch
        if within == 0:
            self._end_epoch(bar)
        if within == 0 or step % schedule.save_every == 0:
            self._save()

    @property
    def epoch(self) -> int:
        """Epochs that are finished."""
        return self.state.step // self.plan.an_epoch

    @property
    def stopped(self) -> bool:
        """Whether ``schedule.patience`` ends the run here, before its last epoch."""
        state = self.state
        early = state.measured_step == state.step < self.plan.total and not state.unmeasured
        return early and state.best.is_stale(self.recipe.schedule.patience, self.epoch)

    def _end_epoch(self, bar: ProgressBar) -> None:
        counts = self.state.counts.describe()
        self.state.counts = Counts()
        self.run.log("epoch", self.state.step, {"epoch": self.epoch, **counts})
        share = counts["truncated_share"]
        if self.epoch == 1 or (share > 0.001 and share >= 2 * self.state.announced_share):
            self.state.announced_share = share
            bar.say(
                f"epoch {self.epoch}: {100 * share:.2f} % of the edges lie beyond what the boxes can reach, "
                f"{100 * counts['missed_share']:.2f} % of the objects got no point"
            )
        self._measure(bar)
        bar.pause()

    def _measure(self, bar: ProgressBar) -> None:
        """Evaluate after the epoch that just ended if that is due; write the weights in any case."""
        schedule = self.recipe.schedule
        due = self.epoch == schedule.epochs or self.epoch % schedule.eval_every == 0
        if due and self.run.val_index is not None:
            self.state.unmeasured = True
            self._save()  # an evaluation may take long, or meet an image that cannot be read
            self._evaluate(bar)
        self.state.unmeasured = False
        self._save_weights(self.run.last)

    def _save_weights(self, file: Path) -> None:
        state = self.state
        weights = state.average.weights if state.average else self.detector.state_dict()
        metrics = state.metrics if state.measured_step == state.step else {}
        self.run.save_weights(file, weights, {"epoch": self.epoch, "step": state.step, "metrics": metrics})

    def _evaluate(self, bar: ProgressBar) -> None:
        """Measure the averaged weights if there are any, and keep the best."""
        state, val_index = self.state, self.run.val_index
        assert val_index is not None
        with state.average.inside(self.detector) if state.average else nullcontext():
            self.processes.copy_from_main(self.detector)
            measured = evaluate(
                self.detector,
                val_index,
                batch_size=self.recipe.schedule.batch_size,
                skip_broken=self.skip_broken,
                processes=self.processes,
                keep_findings=self.plots,
                **measured_by(self.recipe, self.detector),
            )
        self._validation_seconds = measured.seconds
        state.note_skipped(measured.skipped)
        state.metrics, state.measured_step = measured.to_dict(), state.step
        self.run.log("val", state.step, {"epoch": self.epoch, **state.metrics})
        ap, ap50 = state.metrics["AP"], state.metrics["AP50"]
        best = state.best.take(ap, self.epoch)
        bar.say(f"epoch {self.epoch}: AP {decimals(ap)}, AP50 {decimals(ap50)}{' (best)' if best else ''}")
        if best:
            self._save_weights(self.run.best)
            if measured.findings is not None:
                self.best_measured = drawings.Measured(self.epoch, measured.findings)

    def _save(self) -> None:
        self.run.save(self.state.state_dict(self.processes))
