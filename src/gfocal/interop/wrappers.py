"""What training wraps a detector in: prefixes of names, and averaged weights beside the plain ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from gfocal.interop.config_text import find, parse_config
from gfocal.serialization.torch_files import Checkpoint, read_checkpoint

_PLAIN = ("", "student.", "model.")
_AVERAGED = ("teacher.", "avg_model.", "ema_model.", "model_ema.", "ema.", "ema_")
"""Prefixes of averaged weights: semi-supervised mmdetection, NanoDet, others."""
_CARRIERS = ("module.", "_orig_mod.")
"""What modules are wrapped in for several devices or averaging, and to be compiled."""
_COUNTS = ("n_averaged", "steps")
"""What torch and mmengine count by how often they averaged."""
_EARLY = ("HIGHEST", "VERY_HIGH", "HIGH", "ABOVE_NORMAL")


def read_wrapped(file: Path) -> Checkpoint:
    """A checkpoint whose tensors have the names that the detector alone gives them; its notes say which were taken.

    ``module.`` (data parallel), ``_orig_mod.`` (torch.compile), ``model.`` (Lightning) and ``student.`` go. Averaged
    weights are taken where there are two sets of the same names and shapes; those that mmcv's EMAHook writes as
    ``ema_backbone_...`` are left out, as mmdetection leaves them out when it tests.

    Raises:
        UsageError: see :func:`gfocal.serialization.torch_files.read_checkpoint`.
    """
    return unwrap(read_checkpoint(file))


def unwrap(content: Checkpoint) -> Checkpoint:
    """See :func:`read_wrapped`."""
    notes = [*content.notes, *([] if (note := _container_note(content)) is None else [note])]
    left_out = [word for word in _CARRIERS if any(word in name for name in content.state)]
    state, twice = _without_flat_averages(_without_carriers(content.state))
    if twice:
        notes.append(f"{_hook_note(content.meta)}; {twice} tensors ema_... are left out")
    sets = _sets(state)
    plain = next((prefix for prefix in _PLAIN if _is_detector(sets.get(prefix))), None)
    averaged = next(
        (prefix for prefix in _AVERAGED if prefix in sets and (plain is None or _alike(sets[prefix], sets[plain]))),
        None,
    )
    chosen = plain if averaged is None else averaged
    if chosen is None:
        return replace(content, state=state, notes=tuple(notes))
    if chosen == plain and chosen:
        left_out.append(chosen)
    if left_out:
        notes.append(f"names are read without {', '.join(left_out)}")
    others = [prefix or "no prefix" for prefix in sets if prefix != chosen and _is_detector(sets[prefix])]
    if averaged is not None or others:
        kind = "plain" if averaged is None else "averaged"
        beside = f"; left out: those under {', '.join(others)}" if others else ""
        notes.append(f"the {kind} weights are taken, under {chosen or 'no prefix'}{beside}")
    # What is in none of the sets must be known to whoever reads the names, or is refused there.
    rest = {} if _is_detector(sets.get("")) else sets.get("", {})
    return replace(content, state={**rest, **sets[chosen]}, notes=tuple(notes))


def _sets(state: Mapping[str, object]) -> dict[str, dict[str, object]]:
    """The entries by the prefix that they have, without it; a prefix is one if a backbone stands under it."""
    sets: dict[str, dict[str, object]] = {"": {}}
    real = [p for p in (*_PLAIN, *_AVERAGED) if p and any(name.startswith(f"{p}backbone.") for name in _bare(state, p))]
    for name, value in state.items():
        prefix = next((p for p in real if name.startswith(p)), "")
        sets.setdefault(prefix, {})[name.removeprefix(prefix)] = value
    return {prefix: _without_carriers(found) for prefix, found in sets.items() if found}


def _bare(state: Mapping[str, object], prefix: str) -> list[str]:
    """Names under a prefix, without what wraps the module there."""
    inner = _without_carriers({name.removeprefix(prefix): None for name in state if name.startswith(prefix)})
    return [prefix + name for name in inner]


def _is_detector(found: Mapping[str, object] | None) -> bool:
    return found is not None and any(name.startswith("backbone.") for name in found)


def _without_carriers(state: Mapping[str, object]) -> dict[str, object]:
    """Names without what wraps a module for several devices, for averaging or to be compiled."""
    names = {name: name for name in state}
    for name in names:
        inner = name.replace("_orig_mod.", "")
        while inner.startswith("module."):
            inner = inner.removeprefix("module.")
        names[name] = inner
    return {names[name]: value for name, value in state.items() if names[name] not in _COUNTS}


def _without_flat_averages(state: Mapping[str, object]) -> tuple[dict[str, object], int]:
    """Without the copies of mmcv's EMAHook ("ema_" and a name with _ for .), and how many they were."""
    flat = {f"ema_{name.replace('.', '_')}" for name in state}
    kept = {name: value for name, value in state.items() if name not in flat}
    return kept, len(state) - len(kept)


def _alike(averaged: Mapping[str, object], plain: Mapping[str, object]) -> bool:
    """Whether every tensor of one set has its like in the other: a teacher may also be another, larger network."""
    return all(
        isinstance(other := plain.get(name), Tensor) and other.shape == tensor.shape
        for name, tensor in averaged.items()
        if isinstance(tensor, Tensor)
    )


def _container_note(content: Checkpoint) -> str | None:
    if content.container == "ema_state_dict":
        return "the weights under ema_state_dict are taken, the only ones; mmengine writes the plain ones there"
    if content.container.endswith("_ema"):
        return f"the averaged weights are taken, under {content.container}"
    if "ema_state_dict" in content.others:  # mmengine's hook changes the two when it writes a file
        return "the averaged weights are taken: mmengine writes them under state_dict, and the plain ones beside it"
    return None


def _hook_note(meta: Mapping[str, object]) -> str:
    """Which weights have the plain names: a hook that runs before the file is written puts the averaged ones there."""
    config = parse_config(next((meta[key] for key in ("config", "cfg") if key in meta), None))
    hooks = config.get("custom_hooks")
    hook = next((h for h in hooks if "EMAHook" in str(find(h, "type"))), None) if isinstance(hooks, list) else None
    if hook is None:
        return "the weights under the plain names are taken, as mmdetection does; usually these are the averaged ones"
    priority = find(hook, "priority")
    early = priority < 50 if isinstance(priority, int | float) else priority in _EARLY
    return f"the {'averaged' if early else 'plain'} weights are taken, as mmdetection does"
