"""The sections of a recipe that say how a detector is trained and run."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, model_validator

from gfocal.recipe.base import (
    Decay,
    Factor,
    Fraction,
    Natural,
    NotNegative,
    Pixels,
    PositiveInt,
    Section,
    Seed,
    Share,
    ValueRange,
)


class ResizeRecipe(Section):
    """How large an image enters."""

    kind: Literal["square", "short_long"] = "short_long"
    size: Pixels = Field(320, description="side in pixels (square)")
    short_side: Pixels = Field(800, description="pixels (short_long)")
    long_side: Pixels = Field(1333, description="pixels at most (short_long)")
    pad: Literal["black", "mean"] = Field("black", description="colour beside the picture; mean: 0 after model.pixels")

    @model_validator(mode="after")
    def _fits(self) -> ResizeRecipe:
        if self.kind == "short_long" and self.short_side > self.long_side:
            raise ValueError(f"short_side must not be over long_side, got {self.short_side} and {self.long_side}")
        return self


class DataRecipe(Section):
    """What happens to images."""

    resize: ResizeRecipe = ResizeRecipe()
    range: ValueRange = Field(
        "type",
        description="values that become black and white where pictures have more than 8 bits: [low, high], or type",
    )
    flip: Fraction = Field(0.5, description="probability of a horizontal flip")
    vertical_flip: Fraction = Field(0.0, description="probability of a vertical flip")
    photometric: Fraction = Field(0.0, description="probability of brightness, contrast, saturation changes")
    scale: tuple[Factor, Factor] | None = Field(
        None, description="range of the random scale, followed by a random crop"
    )
    zoom_out: Fraction = Field(0.0, description="probability of a larger canvas with the picture somewhere on it")
    iou_crop: Fraction = Field(0.0, description="probability of SSD's crop, by the least IoU with an object")
    mosaic: Fraction = Field(0.0, description="probability that four pictures share one canvas")
    mosaic_scale: tuple[PositiveFloat, PositiveFloat] = Field(
        (0.5, 1.0), description="range of the size of each of the four, as a share of the size that it has alone"
    )
    mosaic_until: Fraction = Field(0.9, description="share of the epochs after which there are no mosaics")
    multi_scale: tuple[Factor, Factor] | None = Field(
        None, description="range of the size of each step's pictures, as a share of data.resize"
    )
    repeat_threshold: Share | None = Field(
        None, description="classes in a smaller share of the pictures than this are shown more often"
    )
    mix: tuple[Factor, ...] | None = Field(
        None, description="how often an epoch shows each picture of the first --data, of the second, ..."
    )
    tile: Pixels | None = Field(
        None, description="side of the tiles that pictures are cut into, to learn from and to look at, in their pixels"
    )
    tile_overlap: Annotated[float, Field(ge=0, le=0.9)] = Field(
        0.2, description="share of its side that a tile has in common with the next"
    )
    tile_whole: bool = Field(True, description="the whole picture is one more tile, for large objects")
    tile_empty: NotNegative | None = Field(
        0.5, description="tiles without objects per epoch, as a share of those with objects; null for all of them"
    )
    drop_empty_classes: bool = Field(
        False, description="classes without boxes in what is learnt and measured get no output: placeholders, groups"
    )
    workers: Annotated[int, Field(ge=0, le=1024, strict=True)] = Field(2, description="loader processes")
    worker_timeout: NotNegative = Field(
        600.0, description="seconds without any picture read after which a run ends, naming what hangs; 0 for never"
    )

    @property
    def sides(self) -> tuple[int, ...]:
        """What multi_scale draws ``size`` or ``short_side`` from: multiples of 32; () where it holds none."""
        side = self.resize.size if self.resize.kind == "square" else self.resize.short_side
        low, high = (share * side / 32 for share in self.multi_scale or (1, 1))
        return tuple(32 * number for number in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1))

    @model_validator(mode="after")
    def _fits(self) -> DataRecipe:
        for name in ("scale", "mosaic_scale", "multi_scale"):
            limits = getattr(self, name)
            if limits and limits[0] > limits[1]:
                raise ValueError(f"{name} must be [lowest, highest], got {list(limits)}")
        if self.multi_scale and not self.sides:
            side = self.resize.size if self.resize.kind == "square" else self.resize.short_side
            raise ValueError(
                f"multi_scale={list(self.multi_scale)} of {side} pixels has no multiple of 32 in it: widen it"
            )
        return self


class OptimRecipe(Section):
    """The optimizer."""

    kind: Literal["sgd", "adamw"] = "sgd"
    lr: PositiveFloat = 0.01
    reference_batch: PositiveInt | None = Field(
        None, description="pictures per step that lr was chosen for: lr scales with the real number"
    )
    momentum: Fraction = Field(0.9, description="sgd's momentum")
    betas: tuple[Decay, Decay] = Field((0.9, 0.999), description="adamw's betas")
    weight_decay: NotNegative = 1e-4
    decay_norm_and_bias: bool = Field(True, description="weight decay on one-dimensional parameters too")
    backbone_lr: NotNegative = Field(1.0, description="factor of the backbone's learning rate")
    clip_norm: PositiveFloat | None = Field(None, description="largest norm of the gradient")


class ScheduleRecipe(Section):
    """How long, how fast."""

    epochs: PositiveInt = 12
    batch_size: PositiveInt = Field(16, description="pictures per forward pass")
    accumulate: PositiveInt = Field(1, description="forward passes per optimizer step")
    minutes: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        None, description="time that a run may take: epochs, their length and what depends on them are laid out to fit"
    )
    most_epochs: PositiveInt | None = Field(None, description="epochs that are laid out at most (minutes)")
    epoch_steps: PositiveInt | None = Field(None, description="optimizer steps of an epoch at most")
    kind: Literal["multistep", "cosine"] = "multistep"
    milestones: tuple[PositiveInt, ...] = Field((8, 11), description="epochs after which lr falls (multistep)")
    gamma: Fraction = Field(0.1, description="factor of lr at each milestone (multistep)")
    final_lr: Fraction = Field(0.01, description="lr at the end, as a share of lr (cosine)")
    warmup_steps: Natural = 500
    warmup_start: Fraction = Field(0.001, description="lr of the first step, as a share of lr")
    ema: Decay = Field(0.0, description="decay of the averaged weights; 0 for none")
    eval_every: PositiveInt = Field(1, description="epochs between evaluations")
    patience: PositiveInt | None = Field(None, description="epochs without a better AP after which a run stops")
    save_every: PositiveInt = Field(100, description="optimizer steps between saved states, to resume from")
    keep_steps: tuple[PositiveInt, ...] = Field(
        (), description="optimizer steps whose weights are kept, as step-N.safetensors"
    )


class PredictRecipe(Section):
    """From raw outputs to detections."""

    score_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.05
    pre_nms_top_k: PositiveInt = 1000
    nms_iou: Fraction = 0.6
    max_detections: PositiveInt = 100
    clip_margin: NotNegative = Field(0.0, description="pixels that boxes keep from the right and bottom border")
    class_agnostic: bool = Field(False, description="boxes of different classes suppress each other too")
    voting: Annotated[float, Field(ge=1e-6)] | None = Field(
        None, description="suppressed boxes move the edges of those that stay, by how sure they are (0.005); null: no"
    )


class RuntimeRecipe(Section):
    """How it is computed; two runs are bit-identical only if these agree."""

    seed: Seed = 0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    sync_batch_norm: bool = Field(False, description="batch norm over the pictures of all processes (GPUs)")
    deterministic: bool = Field(False, description="only operations that give the same bits each time, or an error")
    channels_last: bool | Literal["auto"] = Field(
        "auto", description="memory layout; auto: on CPUs the faster one by a few timed steps, else channels last"
    )
    threads: Annotated[int, Field(ge=0, le=4096, strict=True)] = Field(
        0, description="CPU threads of torch; 0 leaves torch's own choice"
    )
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = Field(
        (), description="where metrics go beside metrics.jsonl"
    )
