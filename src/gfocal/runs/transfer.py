"""Weights of one detector for another: what means the same is taken, the rest starts new and is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gfocal.detector import DenseDetector
from gfocal.errors import UsageError
from gfocal.models.deformable import DeformableConv
from gfocal.models.depthwise import WideDepthwise
from gfocal.models.protocols import KINDS, OutputKind, OutputLayer
from gfocal.recipe import ModelRecipe, Recipe, build_recipe
from gfocal.recipe.forms import ASSIGNERS
from gfocal.representation.protocols import RowFrom
from gfocal.runs.checkpoint import find_weights, load_detector, read_about
from gfocal.runs.class_mapping import match_classes
from gfocal.zoo import build_matching

PARTS = ("backbone", "neck", "head")
Group = Literal["backbone", "neck", "head", "class", "box", "quality"]
"""What weights are counted by: the parts, of a head the outputs by kind, and what stands below them."""


@dataclass
class Taken:
    """What a detector took from a checkpoint.

    Attributes:
        fresh: names of the tensors that start new, or some of whose rows do.
        new: how many numbers of each group start new.
        total: how many it has.
        lowered: how many numbers of a place start as the nearest trained one, with next to no probability.
    """

    fresh: list[str] = field(default_factory=list)
    new: Counter[Group] = field(default_factory=Counter)
    total: Counter[Group] = field(default_factory=Counter)
    lowered: int = 0


def start_from(detector: DenseDetector, path: Path, parts: Sequence[str] = PARTS) -> Taken:
    """Copy the weights of a checkpoint that mean the same here.

    Equal names and shapes are not enough. Layers of a level are those of the same stride, and layers of a tower come
    after the same ones. A head's outputs are copied row by row: those of classes of the same name (see
    :func:`gfocal.runs.class_mapping.match_classes`), those of boxes and of a quality branch as the forms say
    (``BoxRepresentation.rows_from``, ``Quality.meaning``).

    Args:
        detector: what gets the weights.
        path: run folder or checkpoint.
        parts: of :data:`PARTS`; the others start new.

    Raises:
        UsageError: most of what should be copied does not fit, or a part that does not exist.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise UsageError(f"--init-parts takes {', '.join(PARTS)}, not {', '.join(unknown)}")
    source, _, _ = load_detector(path)
    copy = _Copy(detector, source)
    for name, tensor in detector.state_dict().items():
        if name not in copy.outputs and _part(name) in parts:
            copy.whole(name, tensor)
    if "head" in parts:
        for kind in KINDS:
            copy.rows(kind)
    wanted = [name for name in copy.sizes if _part(name) in parts]
    taken = copy.taken()
    unfit = sum(name in taken.fresh for name in wanted)
    if unfit > len(wanted) // 2:
        raise UsageError(
            f"{path} has another architecture than the recipe: {unfit} of {len(wanted)} tensors do not fit"
        )
    with torch.no_grad():
        for to, values in copy.pairs:
            to.copy_(values)
    return taken


def other_inputs(recipe: Recipe, path: Path, parts: Sequence[str] = PARTS) -> list[str]:
    """What the weights of a checkpoint were trained for and ``recipe`` has otherwise, as "points.offset 0.5 -> 0.0"."""
    theirs = stored_recipe(path)
    keys = ["model.pixels", "model.style", "model.strides", "data.range"]
    if "head" in parts:  # one that starts new learns any points
        keys += ["model.points.kind", "model.points.offset"]
        keys += ["model.points.scale"] if _reads_scale(theirs) and _reads_scale(recipe) else []
    kind = recipe.data.resize.kind
    if kind != theirs.data.resize.kind:
        keys.append("data.resize.kind")
    else:
        keys += ["data.resize.size"] if kind == "square" else ["data.resize.short_side", "data.resize.long_side"]
    pairs = {key: (_value(theirs, key), _value(recipe, key)) for key in keys}
    return [f"{key} {before} -> {after}" for key, (before, after) in pairs.items() if before != after]


def stored_recipe(path: Path) -> Recipe:
    """The recipe of a run folder's weights, or of a checkpoint."""
    return build_recipe(read_about(find_weights(path)).recipe, (), str(path))


_KEYS: dict[Group, tuple[str, ...]] = {
    "backbone": ("backbone", "deformable", "modulated"),
    "neck": ("neck", "backbone", "channels", "extra_from", "strides"),
    "head": ("head", "neck", "channels", "head_depth", "head_norm", "tower_bias", "deformable_tower", "strides"),
    "class": (
        "head",
        "channels",
        "points.kind",
        "points.ratios",
        "points.scales_per_octave",
        "quality.kind",
        "strides",
    ),
    "box": ("head", "channels", "points", "boxes", "strides", "level_scales"),
    "quality": ("head", "channels", "points.kind", "quality.kind", "quality_on", "strides"),
}
"""Keys of ``model`` that can be why numbers of a group start new."""
_NO_WEIGHTS = ("boxes.loss", "boxes.smooth_beta")


def changed_keys(recipe: Recipe, path: Path, group: Group) -> list[str]:
    """Why numbers of a group start new, as "model.boxes.delta 1.0 -> 0.5"."""
    theirs, found = stored_recipe(path), []
    for key in _leaves(recipe.model):
        if key.startswith(tuple(f"{k}." for k in _KEYS[group])) or key in _KEYS[group]:
            before, after = _value(theirs, f"model.{key}"), _value(recipe, f"model.{key}")
            if before != after and key not in _NO_WEIGHTS:
                found.append(f"model.{key} {before} -> {after}")
    return found


def _leaves(model: ModelRecipe) -> list[str]:
    content = model.model_dump(mode="json")
    return [
        name
        for key, value in content.items()
        for name in ([f"{key}.{inner}" for inner in value] if isinstance(value, dict) else [key])
    ]


def _value(recipe: Recipe, key: str) -> object:
    value: Any = recipe.model_dump(mode="json")
    for word in key.split("."):
        value = value[word]
    return value


def _reads_scale(recipe: Recipe) -> bool:
    """Whether the size of the one square anchor decides anything."""
    assigner = recipe.model.assigner
    form = ASSIGNERS[assigner.kind]
    by_assigner = form.anchors or bool(form.dynamic and assigner.static_epochs)
    return recipe.model.points.kind != "ssd" and (build_matching(recipe).box_coder.reads_anchors or by_assigner)


def _part(name: str) -> str:
    """Of :data:`PARTS`: a quality with parameters of its own (GFL v2) is trained like the head, and is part of it."""
    part = name.partition(".")[0]
    return part if part in PARTS else "head"


class _Copy:
    """What will be copied from one detector to another, and what of it is there.

    Args:
        own: the detector that gets weights.
        other: the one that gives them.

    Attributes:
        sizes: numbers of each tensor.
        outputs: names of the tensors that give outputs.
        pairs: (numbers of the detector, what they become), to be copied in the end.
    """

    def __init__(self, own: DenseDetector, other: DenseDetector) -> None:
        self.own, self.other = own, other
        self.theirs = other.state_dict()
        self.sizes = {name: tensor.numel() for name, tensor in own.state_dict().items()}
        self.outputs = _output_names(own)
        self.pairs: list[tuple[Tensor, Tensor]] = []
        self._left = dict(self.sizes)  # numbers that are new so far
        self._of_kind: Counter[Group] = Counter()
        self._new_of_kind: Counter[Group] = Counter()
        self._lowered = 0
        for kind in KINDS:
            for layer in own.head.output_layers(kind):
                self._of_kind[kind] += layer.weight.numel() + layer.bias.numel() + len(layer.factors)
        self._new_of_kind.update(self._of_kind)

    def whole(self, name: str, tensor: Tensor) -> None:
        """Take a tensor that is no output's, if it means the same there."""
        theirs = self.theirs.get(self._their_name(name))
        if theirs is None or theirs.shape != tensor.shape or not _comes_after_the_same(name, self.own, self.other):
            return
        if name.startswith("quality.") and not self._same_quality():
            return
        self.pairs.append((tensor, theirs))
        self._left[name] = 0

    def rows(self, kind: OutputKind) -> None:
        """Take the rows of a kind of outputs that mean the same."""
        rows = {"class": self._class_rows, "box": self._box_rows, "quality": self._quality_rows}[kind]()
        names = _names_by_memory(self.own)
        for layer, theirs in self._layers(kind):
            if layer.weight.shape[0] != theirs.weight.shape[0] or layer.weight.shape[2:] != theirs.weight.shape[2:]:
                continue
            least = min([1.0, *(float(f) for f in theirs.factors if f > 0)])
            for row in rows:
                lower = row.lower / least
                sides = ((layer.weight, theirs.weight), (layer.bias, theirs.bias - lower))
                self.pairs += [(to[:, row.own], values[:, row.other]) for to, values in sides]
                if row.lower:
                    continue
                for to, _ in sides:
                    self._left[names[_memory(to)]] -= to[:, row.own].numel()
                    self._new_of_kind[kind] -= to[:, row.own].numel()
            if rows:
                self._take_factors(kind, layer, theirs, names)
        self._lowered += sum(row.lower > 0 for row in rows)

    def taken(self) -> Taken:
        """What is copied, and what starts new."""
        new: Counter[Group] = Counter(self._new_of_kind)
        total: Counter[Group] = Counter(self._of_kind)
        for name, count in self.sizes.items():
            if name not in self.outputs:
                group: Group = "quality" if name.startswith("quality.") else _part(name)  # type: ignore[assignment]
                new[group] += self._left[name]
                total[group] += count
        return Taken([name for name, left in self._left.items() if left], new, total, self._lowered)

    def _take_factors(self, kind: OutputKind, layer: OutputLayer, theirs: OutputLayer, names: dict[int, str]) -> None:
        if len(layer.factors) != len(self.own.strides) or len(theirs.factors) != len(self.other.strides):
            return
        for i, j in self._levels():
            self.pairs.append((layer.factors[i], theirs.factors[j]))
            self._left[names[_memory(layer.factors[i])]] = 0
            self._new_of_kind[kind] -= 1

    def _levels(self) -> list[tuple[int, int]]:
        """(own level, other level) of the same stride."""
        return [(i, self.other.strides.index(s)) for i, s in enumerate(self.own.strides) if s in self.other.strides]

    def _layers(self, kind: OutputKind) -> list[tuple[OutputLayer, OutputLayer]]:
        """Layers that give the outputs of the same level, or of all."""
        own, other = self.own.head.output_layers(kind), self.other.head.output_layers(kind)
        if len(own) == len(other) == 1:
            return [(own[0], other[0])]
        if len(own) == len(self.own.strides) and len(other) == len(self.other.strides):
            return [(own[i], other[j]) for i, j in self._levels()]
        return []

    def _their_name(self, name: str) -> str:
        """The name of a tensor there: lists of layers with one for each level go by strides."""
        part, *words = name.split(".")
        lists = [getattr(getattr(side, part, None), "level_lists", {}) for side in (self.own, self.other)]
        if len(words) < 2 or any(words[0] not in known for known in lists):
            return name
        stride = self.own.strides[lists[0][words[0]] + int(words[1])]
        if stride not in self.other.strides:
            return ""
        place = self.other.strides.index(stride) - lists[1][words[0]]
        return ".".join([part, words[0], str(place), *words[2:]]) if place >= 0 else ""

    def _same_quality(self) -> bool:
        own, other = self.own.quality, self.other.quality
        return type(own) is type(other) and own.meaning == other.meaning

    def _class_rows(self) -> list[RowFrom]:
        own, other = self.own.head.outputs[0], self.other.head.outputs[0]
        rows = [RowFrom(*pair) for pair in match_classes(self.own.names, self.other.names).pairs]
        background = own - len(self.own.names), other - len(self.other.names)
        if background[0] != background[1]:  # a softmax's logits mean something else than those of a sigmoid
            return []
        return [*rows, RowFrom(own - 1, other - 1)] if background[0] else rows  # its last one is the background's

    def _box_rows(self) -> list[RowFrom]:
        own = self.own.box_coder
        if own.reads_anchors and _anchors(self.own, self._levels(), 0) != _anchors(self.other, self._levels(), 1):
            return []
        return own.rows_from(self.other.box_coder)

    def _quality_rows(self) -> list[RowFrom]:
        own, other = self.own.head.outputs[2], self.other.head.outputs[2]
        return [RowFrom(i, i) for i in range(own)] if own == other and self._same_quality() else []


def _anchors(detector: DenseDetector, levels: Sequence[tuple[int, int]], side: int) -> list[object]:
    """The anchors of some levels."""
    points = detector.points(64, 64)
    return [points.anchors[points.level == pair[side]].tolist() for pair in levels]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _names_by_memory(detector: DenseDetector) -> dict[int, str]:
    return {_memory(tensor): name for name, tensor in detector.state_dict().items() if name.startswith("head.")}


def _output_names(detector: DenseDetector) -> set[str]:
    """Names of the tensors that a head's outputs come from."""
    names, found = _names_by_memory(detector), set()
    for kind in KINDS:
        for layer in detector.head.output_layers(kind):
            found |= {names[_memory(tensor)] for tensor in (layer.weight, layer.bias, *layer.factors)}
    return found


def _comes_after_the_same(name: str, own: nn.Module, other: nn.Module) -> bool:
    """Whether the layers before a tensor's are of the same kinds, wherever layers follow each other.

    In a tower with norms the seventh is the third convolution, in one without it is the fourth.
    """
    sides: tuple[nn.Module, nn.Module] = (own, other)
    for word in name.split(".")[:-1]:
        if all(isinstance(side, nn.Sequential) and word.isdigit() for side in sides):
            first, second = (_kinds(side.children(), int(word)) for side in sides)
            if first != second:
                return False
        children = [dict(side.named_children()).get(word) for side in sides]
        if any(child is None for child in children):
            return True
        sides = (children[0], children[1])  # type: ignore[assignment]
    return True


def _kinds(layers: Iterable[nn.Module], last: int) -> list[type]:
    """Of the first layers; a deformable convolution starts as a plain one, a wide depthwise one is such."""
    kinds = [type(layer) for layer in list(layers)[: last + 1]]
    return [nn.Conv2d if kind in (DeformableConv, WideDepthwise) else kind for kind in kinds]
