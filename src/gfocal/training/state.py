"""The state of a training: all that changes while it runs, saved and restored as one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, TypedDict

import torch
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor, nn

from gfocal.detector import DenseDetector
from gfocal.errors import GfocalError, UsageError
from gfocal.runs.checkpoint import StateDict
from gfocal.runtime.distributed import ALONE, Processes
from gfocal.training.early_stopping import Best
from gfocal.training.optimizer import AveragedWeights
from gfocal.training.step import Counts


class GeneratorStates(TypedDict):
    """Where torch's random generators stand: the CPU's, and that of this process's CUDA device."""

    cpu: Tensor
    cuda: Tensor | None


class Generators:
    """Torch's random generators, of which there is one set a process."""

    def state_dict(self) -> GeneratorStates:
        cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
        return {"cpu": torch.get_rng_state(), "cuda": cuda}

    def load_state_dict(self, state: GeneratorStates) -> None:
        """Put them back; on a machine without CUDA only the CPU's."""
        torch.set_rng_state(state["cpu"])
        if state["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["cuda"])


@dataclass(kw_only=True, eq=False)
class TrainState:
    """What changes while a run trains; recipe, data and this decide the rest of it.

    A saved state has a key for each field, and the fields alone say which: an object gives its own ``state_dict``, a
    dataclass its fields, anything else itself. Their metadata say what is different:

    - ``key``: the key is not the field's name;
    - ``prefix``: a dataclass whose fields are keys of the state, with this before their names;
    - ``own``: each process has a value of its own; the state has a list of them, by rank.

    Attributes:
        step: optimizer steps done.
        detector: the one that learns.
        optimizer: over its parameters.
        scaler: accelerate's for fp16, which moves with the gradients; None in other precisions.
        average: averaged weights, if the recipe has them.
        generators: random numbers of this process.
        best: evaluation so far.
        metrics: the last evaluation, as JSON types; {} before the first one.
        measured_step: after which step that was; -1 before the first one.
        unmeasured: an epoch ended whose evaluation is still to come.
        skipped: one line for each broken image that this process left out, in the order of their discovery.
        announced_share: of truncated edges, as it was last printed.
        grad_norm: of the step before.
        counts: what assignment met in this epoch so far.
        assistant: the detector's, if it has one.
    """

    step: int
    detector: DenseDetector = field(metadata={"key": "model"})
    optimizer: AcceleratedOptimizer
    scaler: torch.amp.GradScaler | None
    average: AveragedWeights | None
    generators: Generators = field(metadata={"own": True})
    best: Best = field(default_factory=Best, metadata={"prefix": "best_"})
    metrics: dict[str, Any] = field(default_factory=dict)
    measured_step: int = -1
    unmeasured: bool = False
    skipped: list[str] = field(default_factory=list, metadata={"own": True})
    announced_share: float = field(default=0.0, metadata={"key": "told_share"})
    grad_norm: float = math.nan
    counts: Counts = field(default_factory=Counts)
    assistant: nn.Module | None = None

    def state_dict(self, processes: Processes = ALONE) -> StateDict:
        """Tensors and plain types; to be called in all processes."""
        state: StateDict = {}
        for each in fields(self):
            value = _plain(getattr(self, each.name))
            if prefix := each.metadata.get("prefix"):
                state |= {prefix + name: part for name, part in value.items()}
            else:
                state[_key(each)] = processes.gather(value) if "own" in each.metadata else value
        return state

    def load_state_dict(self, state: StateDict, processes: Processes = ALONE) -> None:
        """Go back to where a state was saved; what an earlier version did not save keeps its default.

        Raises:
            UsageError: it lacks what every version saves.
        """
        needed = [_key(each) for each in fields(self) if each.default is MISSING and each.default_factory is MISSING]
        if lacking := [key for key in needed if key not in state]:
            raise UsageError(f"the saved state of the run lacks {lacking[0]}: start a new run with --init")
        for each in fields(self):
            value = getattr(self, each.name)
            if prefix := each.metadata.get("prefix"):
                saved: Any = {key.removeprefix(prefix): state[key] for key in state if key.startswith(prefix)}
            elif _key(each) in state:
                saved = state[_key(each)]
            else:
                continue
            setattr(self, each.name, _restored(value, saved[processes.rank] if "own" in each.metadata else saved))

    def note_skipped(self, lines: Sequence[str]) -> None:
        """Add lines about broken images, each once."""
        if lines:
            self.skipped = list(dict.fromkeys([*self.skipped, *lines]))


@contextmanager
def kept_steps(step: int, save: Callable[[], None]) -> Iterator[None]:
    """What ends the run inside, between two steps, loses none of the ``step`` steps that are done: ``save`` is called.

    Where they cannot be saved, a note of the error says so.
    """
    try:
        yield
    except (GfocalError, RuntimeError) as error:  # which torch raises for a loader process that died
        try:
            save()
        except (GfocalError, RuntimeError) as problem:
            error.add_note(f"nor could the state of step {step} be saved: {problem}")
        raise


def _key(each: Field[Any]) -> str:
    return str(each.metadata.get("key", each.name))


def _plain(value: Any) -> Any:
    """What is saved of a field."""
    if hasattr(value, "state_dict"):
        return value.state_dict()
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _restored(value: Any, saved: Any) -> Any:
    """A field with what was saved of it; ``value`` is what it has."""
    if hasattr(value, "load_state_dict"):
        if saved:  # a scaler that had nothing to do saves nothing
            value.load_state_dict(saved)
        return value
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{part.name: saved[part.name] for part in fields(value) if part.name in saved})
    return saved
