"""The typed recipe: everything that makes a run what it is, from YAML, with overrides that refuse unknown keys."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError, model_validator

from gfocal.errors import UsageError

# Strict: "true" is no number of epochs.
PositiveInt = Annotated[int, Field(gt=0, strict=True)]
Natural = Annotated[int, Field(ge=0, strict=True)]
Pixels = Annotated[int, Field(ge=32, strict=True)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
NotNegative = Annotated[float, Field(ge=0)]


class _Section(BaseModel):
    """Unknown keys and loosely typed values are refused; a recipe does not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class QualityRecipe(_Section):
    """How quality enters the score."""

    kind: Literal["joint", "none"] = "joint"
    beta: NotNegative = Field(2.0, description="exponent of Quality Focal Loss (joint)")
    alpha: Fraction | None = Field(0.25, description="focal loss's weight of the positives (none)")
    gamma: NotNegative = Field(2.0, description="focal loss's exponent (none)")


class BoxesRecipe(_Section):
    """How a box is represented."""

    kind: Literal["dirac", "general", "general_dfl"] = "general_dfl"
    reg_max: PositiveInt = Field(16, description="n, the largest bin index (general*)")
    delta: PositiveFloat = Field(1.0, description="distance of two bins in strides (general*)")
    code: Literal["distances", "deltas"] = Field("distances", description="what the numbers mean (dirac)")


class PixelsRecipe(_Section):
    """Preprocessing inside the model; mean and std in the given order of channels, on the scale 0..255."""

    order: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (58.395, 57.12, 57.375)


class AssignerRecipe(_Section):
    """Which points learn which object."""

    kind: Literal["atss"] = "atss"
    top_k: PositiveInt = 9


class LossWeights(_Section):
    """Factor of each loss term."""

    cls: NotNegative = 1.0
    box: NotNegative = 2.0
    dfl: NotNegative = 0.25


class ModelRecipe(_Section):
    """The detector."""

    detector: Literal["gfl"] = "gfl"
    backbone: str = Field("resnet50.tv_in1k", description="a timm name, or shufflenet_v2_x1_0")
    pretrained: bool | str = Field(False, description="backbone weights: true downloads, or the path of a file")
    frozen_stages: Annotated[int, Field(ge=0, le=4, strict=True)] = 0
    norm_eval: bool = Field(False, description="batch norm keeps its running statistics")
    neck: Literal["fpn", "light_pan"] = "fpn"
    head: Literal["conv", "depthwise"] = "conv"
    channels: PositiveInt = Field(256, description="of neck and head")
    head_depth: PositiveInt = Field(4, description="convolutions of a tower, or blocks of the depthwise head")
    strides: tuple[PositiveInt, ...] = (8, 16, 32, 64, 128)
    anchor_scale: PositiveFloat = Field(8.0, description="side of the square anchor in strides")
    point_offset: Fraction = Field(0.0, description="where the first point lies, in cells")
    assigner: AssignerRecipe = AssignerRecipe()
    quality: QualityRecipe = QualityRecipe()
    boxes: BoxesRecipe = BoxesRecipe()
    box_weight: Literal["score", "centerness", "none"] = Field("score", description="weight of a positive's box terms")
    loss_weights: LossWeights = LossWeights()
    pixels: PixelsRecipe = PixelsRecipe()

    @model_validator(mode="after")
    def _fits(self) -> ModelRecipe:
        small = self.backbone == "shufflenet_v2_x1_0"
        if not self.strides or self.strides[0] not in (2, 4, 8, 16, 32):
            raise ValueError(f"strides must start at one that backbones have (4, 8, 16, 32), got {list(self.strides)}")
        if small and self.strides != (8, 16, 32):
            raise ValueError(f"backbone shufflenet_v2_x1_0 gives strides [8, 16, 32], not {list(self.strides)}")
        if self.neck == "light_pan" and len(self.strides) != 3:
            raise ValueError("neck light_pan works on the three strides [8, 16, 32]; use neck fpn for more levels")
        if any(b != 2 * a for a, b in zip(self.strides, self.strides[1:], strict=False)):
            raise ValueError(f"each stride must be twice the one before, got {list(self.strides)}")
        if self.frozen_stages and small:
            raise ValueError("frozen_stages works with timm's backbones; set it to 0 for shufflenet_v2_x1_0")
        if self.head == "conv" and self.channels % 32:
            raise ValueError(
                f"channels must be a multiple of 32 (GroupNorm's groups) for head conv, got {self.channels}"
            )
        return self


class ResizeRecipe(_Section):
    """How large a picture enters."""

    kind: Literal["square", "short_long"] = "short_long"
    size: Pixels = Field(320, description="side in pixels (square)")
    short_side: Pixels = Field(800, description="pixels (short_long)")
    long_side: Pixels = Field(1333, description="pixels at most (short_long)")

    @model_validator(mode="after")
    def _fits(self) -> ResizeRecipe:
        if self.kind == "short_long" and self.short_side > self.long_side:
            raise ValueError(f"short_side must not be over long_side, got {self.short_side} and {self.long_side}")
        return self


class DataRecipe(_Section):
    """What happens to pictures."""

    resize: ResizeRecipe = ResizeRecipe()
    flip: Fraction = Field(0.5, description="probability of a horizontal flip")
    photometric: Fraction = Field(0.0, description="probability of brightness, contrast, saturation changes")
    scale: tuple[PositiveFloat, PositiveFloat] | None = Field(
        None, description="range of the random scale, followed by a random crop"
    )
    workers: Natural = Field(2, description="loader processes")

    @model_validator(mode="after")
    def _fits(self) -> DataRecipe:
        if self.scale and self.scale[0] > self.scale[1]:
            raise ValueError(f"scale must be [lowest, highest], got {list(self.scale)}")
        return self


class OptimRecipe(_Section):
    """The optimizer."""

    kind: Literal["sgd", "adamw"] = "sgd"
    lr: PositiveFloat = 0.01
    reference_batch: PositiveInt | None = Field(
        None, description="pictures a step that lr was chosen for: lr scales with the real number"
    )
    momentum: Fraction = Field(0.9, description="sgd's momentum")
    betas: tuple[Decay, Decay] = Field((0.9, 0.999), description="adamw's betas")
    weight_decay: NotNegative = 1e-4
    decay_norm_and_bias: bool = Field(True, description="weight decay on one-dimensional parameters too")
    backbone_lr: NotNegative = Field(1.0, description="factor of the backbone's learning rate")
    clip_norm: PositiveFloat | None = Field(None, description="largest norm of the gradient")


class ScheduleRecipe(_Section):
    """How long, how fast."""

    epochs: PositiveInt = 12
    batch_size: PositiveInt = Field(16, description="pictures a forward pass")
    accumulate: PositiveInt = Field(1, description="forward passes an optimizer step")
    kind: Literal["multistep", "cosine"] = "multistep"
    milestones: tuple[PositiveInt, ...] = Field((8, 11), description="epochs after which lr falls (multistep)")
    gamma: Fraction = Field(0.1, description="factor of lr at each milestone (multistep)")
    final_lr: Fraction = Field(0.01, description="lr at the end, as a share of lr (cosine)")
    warmup_steps: Natural = 500
    warmup_start: Fraction = Field(0.001, description="lr of the first step, as a share of lr")
    ema: Decay = Field(0.0, description="decay of the averaged weights; 0 for none")
    eval_every: PositiveInt = Field(1, description="epochs between evaluations")
    save_every: PositiveInt = Field(100, description="optimizer steps between saved states, to resume from")


class PredictRecipe(_Section):
    """From raw outputs to detections."""

    score_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.05
    pre_nms_top_k: PositiveInt = 1000
    nms_iou: Fraction = 0.6
    max_detections: PositiveInt = 100


class RuntimeRecipe(_Section):
    """How it is computed; two runs are bit-identical only if these agree."""

    seed: Seed = 0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = True
    threads: Natural = Field(0, description="CPU threads of torch; 0 leaves torch's own choice")
    trackers: tuple[Literal["tensorboard"], ...] = Field((), description="where metrics go beside metrics.jsonl")


class Recipe(_Section):
    """A whole run."""

    model: ModelRecipe = ModelRecipe()
    data: DataRecipe = DataRecipe()
    optim: OptimRecipe = OptimRecipe()
    schedule: ScheduleRecipe = ScheduleRecipe()
    predict: PredictRecipe = PredictRecipe()
    runtime: RuntimeRecipe = RuntimeRecipe()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; ``Recipe.model_validate`` reads it back."""
        return self.model_dump(mode="json")


def recipe_names() -> list[str]:
    """Recipes that come with the package."""
    return sorted(f.name.removesuffix(".yaml") for f in _folder().iterdir() if f.name.endswith(".yaml"))


def load_recipe(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by name or from a YAML file.

    Args:
        name_or_path: a name of :func:`recipe_names`, or the path of a YAML file.
        overrides: "a.b=c" each; the value is read as YAML.

    Raises:
        UsageError: unknown recipe, unknown key (with the nearest right one), or a value of the wrong type.
    """
    text, where = _read(name_or_path)
    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise UsageError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{where} must hold sections such as 'model:', not {type(content).__name__}")
    return build_recipe(content, overrides, where)


def build_recipe(content: dict[str, Any], overrides: Sequence[str] = (), where: str = "recipe") -> Recipe:
    """A recipe from plain data and overrides; see :func:`load_recipe`."""
    content = yaml.safe_load(yaml.safe_dump(content))  # a copy: overrides must not reach the caller's data
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set takes key=value, for example optim.lr=0.01; got {override!r}")
        try:
            parsed = _number(yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise UsageError(f"--set {override}: the value is not valid YAML") from error
        _set(content, key.strip().split("."), parsed, override)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise UsageError(_explain(error, where)) from error


def _folder() -> Any:
    return resources.files("gfocal") / "recipes"


def _read(name_or_path: str | Path) -> tuple[str, str]:
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise UsageError(f"there is no recipe file {path}")
        try:
            return path.read_text(encoding="utf-8"), str(path)
        except (UnicodeDecodeError, OSError) as error:
            raise UsageError(f"the recipe {path} cannot be read as UTF-8 text: {error}") from error
    names = recipe_names()
    if str(name_or_path) not in names:
        raise UsageError(
            f"there is no recipe {str(name_or_path)!r}{_nearest(str(name_or_path), names)}; there are "
            f"{', '.join(names)}; or give the path of a .yaml file"
        )
    return (_folder() / f"{name_or_path}.yaml").read_text(encoding="utf-8"), f"recipe {name_or_path}"


def _number(value: Any) -> Any:
    """YAML 1.1 takes 1e-3 for a word; people mean a number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _set(content: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    for depth, key in enumerate(keys[:-1]):
        inner = content.setdefault(key, {})
        if not isinstance(inner, dict):
            raise UsageError(f"--set {override}: {'.'.join(keys[: depth + 1])} is a value, not a section")
        content = inner
    content[keys[-1]] = value


def _nearest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f" (did you mean {near[0]}?)" if near else ""


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key of a section."""
    for name, field in model.model_fields.items():
        section = _section_of(field.annotation)
        yield prefix + name
        if section:
            yield from _keys(section, f"{prefix}{name}.")


def _section_of(annotation: Any) -> type[BaseModel] | None:
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _explain(error: ValidationError, where: str) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"] if part not in ("bool", "str", "int"))
        if problem["type"] == "extra_forbidden":
            lines.append(f"unknown key {key}{_hint(key, problem['input'])}")
        else:
            reason = problem["msg"].removeprefix("Value error, ")
            lines.append(
                f"{key}: {reason[0].lower() + reason[1:]} (got {problem['input']!r})"
                if not _own(problem)
                else f"{key}: {reason}"
            )
    return f"{where}: " + "; ".join(dict.fromkeys(lines))


def _own(problem: Any) -> bool:
    """Whether the message is one of this file's, which names its values itself."""
    return bool(problem["type"] == "value_error")


_ALIASES = {
    "accumulation_steps": "schedule.accumulate",
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
    "image_size": "data.resize.size",
    "img_size": "data.resize.size",
    "imgsz": "data.resize.size",
    "input_size": "data.resize.size",
    "iou": "predict.nms_iou",
    "iou_threshold": "predict.nms_iou",
    "learning_rate": "optim.lr",
    "lr0": "optim.lr",
    "max_epochs": "schedule.epochs",
    "n_epochs": "schedule.epochs",
    "num_epochs": "schedule.epochs",
    "num_threads": "runtime.threads",
    "num_workers": "data.workers",
    "optimizer": "optim.kind",
    "score_thr": "predict.score_threshold",
    "scheduler": "schedule.kind",
    "topk": "model.assigner.top_k",
    "warmup": "schedule.warmup_steps",
    "warmup_iters": "schedule.warmup_steps",
    "wd": "optim.weight_decay",
    "weights": "model.pretrained",
}
"""What other programs call these keys."""


def _hint(key: str, value: Any) -> str:
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
