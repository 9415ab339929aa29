"""Why a recipe was refused, and which key was meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import get_args

from pydantic import BaseModel, ValidationError

from gfocal.recipe.sections import Recipe


def nearest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean {near[0]}?)" if near else ""


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key of a section."""
    for name, field in model.model_fields.items():
        section = _section_of(field.annotation)
        yield prefix + name
        if section:
            yield from _keys(section, f"{prefix}{name}.")


def _section_of(annotation: object) -> type[BaseModel] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _is_type(part: object) -> bool:
    """Whether a part of a key's path is pydantic's, for one of several types that a value may have."""
    return part in ("bool", "str", "int") or str(part).startswith("literal[")


def explain(error: ValidationError, where: str) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"] if not _is_type(part))
        if problem["type"] == "extra_forbidden":
            lines.append(f"unknown key {key}{_hint(key, problem['input'])}")
        elif problem["type"] == "value_error":  # from a check of this package, whose message names the values itself
            refused = str(problem["ctx"]["error"])
            lines.append(f"{key}: {refused}" if key else refused)
        else:
            reason = problem["msg"]
            lines.append(f"{key}: {reason[0].lower() + reason[1:]} (got {_short(problem['input'])})")
    return f"{where}: " + "; ".join(dict.fromkeys(lines))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]} ..."


_ALIASES = {
    "accumulation_steps": "schedule.accumulate",
    "agnostic": "predict.class_agnostic",
    "agnostic_nms": "predict.class_agnostic",
    "anchor_scale": "model.points.scale",
    "amp": "runtime.precision",
    "batch": "schedule.batch_size",
    "bs": "schedule.batch_size",
    "clip_grad": "optim.clip_norm",
    "conf": "predict.score_threshold",
    "fp16": "runtime.precision",
    "freeze": "model.frozen_stages",
    "grad_accum": "schedule.accumulate",
    "grad_clip": "optim.clip_norm",
    "gradient_accumulation_steps": "schedule.accumulate",
    "gradient_clip": "optim.clip_norm",
    "conf_thres": "predict.score_threshold",
    "image_size": "data.resize.size",
    "img": "data.resize.size",
    "img_size": "data.resize.size",
    "imgsz": "data.resize.size",
    "input_size": "data.resize.size",
    "iou": "predict.nms_iou",
    "iou_thres": "predict.nms_iou",
    "iou_threshold": "predict.nms_iou",
    "learning_rate": "optim.lr",
    "lr0": "optim.lr",
    "max_det": "predict.max_detections",
    "max_epochs": "schedule.epochs",
    "n_epochs": "schedule.epochs",
    "num_epochs": "schedule.epochs",
    "num_threads": "runtime.threads",
    "num_workers": "data.workers",
    "num_bins": "model.boxes.reg_max",
    "optimizer": "optim.kind",
    "score_thr": "predict.score_threshold",
    "point_offset": "model.points.offset",
    "scheduler": "schedule.kind",
    "topk": "model.assigner.top_k",
    "warmup": "schedule.warmup_steps",
    "warmup_iters": "schedule.warmup_steps",
    "wd": "optim.weight_decay",
    "weights": "model.pretrained",
}
"""What other programs call these keys."""


def key_named(word: str) -> str | None:
    """The key that other programs call ``word``, or the only one that ends with it; None for others."""
    same = [key for key in _keys(Recipe) if key.rpartition(".")[2] == word]
    return _ALIASES.get(word) or (same[0] if len(same) == 1 else None)


def _hint(key: str, value: object) -> str:
    """What may follow "unknown key ...": the nearest right one, or those of its section."""
    known = list(_keys(Recipe))
    head, _, tail = key.rpartition(".")
    siblings = [k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == head]
    asked = [key]
    if isinstance(value, dict) and not difflib.get_close_matches(tail, siblings):
        asked = [f"{key}.{inner}" for inner in value] + asked  # of a section that does not exist the keys may
    near = next((found for one in asked if (found := _nearest_key(one, known))), None)
    return f" (did you mean {near}?)" if near else f" ({head or 'a recipe'} has {', '.join(siblings)})"


def _nearest_key(key: str, known: list[str]) -> str | None:
    """The right key most like a wrong one: its last word by another name, anywhere, nearly in its section, nearly."""
    head, _, tail = key.rpartition(".")
    if tail in _ALIASES:
        return _ALIASES[tail]
    words = {k: k.rpartition(".")[2] for k in known}
    siblings = [k for k in known if k.rpartition(".")[0] == head]
    near = [k for k, word in words.items() if word == tail]
    for keys in (siblings, known):
        close = difflib.get_close_matches(tail, [words[k] for k in keys], n=1, cutoff=0.6)
        near += [k for k in keys if words[k] in close]
    return near[0] if near else None
