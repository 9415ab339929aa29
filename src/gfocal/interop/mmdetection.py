"""Detectors of mmdetection 2.x and 3.x, and of GFocal, which is built on it -> gfocal: the same networks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from re import Match

from torch import Tensor

from gfocal.interop.mmdetection_config import Style
from gfocal.interop.mmdetection_recipe import find_row, recipe_of
from gfocal.interop.report import (
    ImportReport,
    class_names,
    folded_note,
    free_place,
    refuse_misfits,
    refuse_unusable,
    save_import,
    shape_of,
)
from gfocal.interop.wrappers import read_wrapped
from gfocal.runs.checkpoint import build_within
from gfocal.serialization.torch_files import Checkpoint

# The constants 0, 1, ..., n; what GHM's losses count by and have counted.
_UNUSED = re.compile(r"bbox_head\.(integral\.project|loss_(cls|bbox)\.(edges|acc_sum))")
_TEACHER = "bbox_head.teacher_models."  # the detector that a distilled one learnt from, in files of LD's own code
_PARTS = {"cls": "class", "reg": "box", "centerness": "quality"}
_TOWER = re.compile(r"bbox_head\.(cls|reg)_convs\.(\d+)\.(conv|gn)\.((?:conv_offset\.)?(?:weight|bias))")
_EXTRA = re.compile(r"neck\.fpn_convs\.(\d+)\.conv\.(weight|bias)")
# Theirs -> ours where one text is enough. FCOS and FoveaBox once had their own prefixes, which mmdetection renames too.
_NAMES: tuple[tuple[re.Pattern[str], Callable[[Match[str]], str]], ...] = (
    (re.compile(r"backbone\.(features\..+)"), lambda m: f"backbone.{m[1]}"),
    # As mmcv once called it.
    (re.compile(r"backbone\.(.+\.conv2)_offset\.(weight|bias)"), lambda m: f"backbone.body.{m[1]}.conv_offset.{m[2]}"),
    (re.compile(r"backbone\.(.+)"), lambda m: f"backbone.body.{m[1]}"),
    (re.compile(r"neck\.lateral_convs\.(\d+)\.conv\.(weight|bias)"), lambda m: f"neck.lateral.{m[1]}.{m[2]}"),
    (re.compile(r"neck\.l2_norm\.weight"), lambda m: "neck.norm.weight"),
    (
        re.compile(r"neck\.extra_layers\.(\d+)\.([01])\.conv\.(weight|bias)"),
        lambda m: f"neck.extra.{m[1]}.{2 * int(m[2])}.{m[3]}",  # a ReLU after each convolution
    ),
    (
        re.compile(r"bbox_head\.(?:gfl|atss|retina|conv|fcos|fovea)_(cls|reg|centerness)\.(weight|bias)"),
        lambda m: f"head.{_PARTS[m[1]]}_out.{m[2]}",
    ),
    (
        re.compile(r"bbox_head\.(cls|reg)_convs\.(\d+)\.0\.(weight|bias)"),
        lambda m: f"head.{_PARTS[m[1]]}_out.{m[2]}.{m[3]}",
    ),
    (re.compile(r"bbox_head\.(scales\.\d+\.scale)"), lambda m: f"head.{m[1]}"),
    (re.compile(r"bbox_head\.reg_conf\.([02]\.(?:weight|bias))"), lambda m: f"quality.stack.{m[1]}"),
)


def import_mmdetection(
    checkpoint: Path,
    out: Path,
    *,
    style: Style | None = None,
    names: Sequence[str] | None = None,
    overwrite: bool = False,
    content: Checkpoint | None = None,
) -> ImportReport:
    """Write ``out/best.safetensors`` from a detector of mmdetection or GFocal; every tensor is accounted for.

    The row (GFL, GFL v2, ATSS, FCOS, RetinaNet, FoveaBox, SSD512) follows from the names of the tensors, backbone,
    classes and n from their shapes; class names, colours, thresholds and image size from what the file says about
    itself, as far as it does.

    Args:
        checkpoint: the ``.pth`` file. It is read as data: nothing in it is imported or called.
        out: the folder to write to; made if it does not exist.
        style: of a ResNet whose file does not say it: "pytorch" (RGB, mean 123.675 116.28 103.53, std 58.395 57.12
            57.375, stride on a bottleneck's 3x3) or "caffe" (BGR, mean 103.53 116.28 123.675, std 1, stride on
            its first 1x1).
        names: of the classes, instead of those that the file says.
        overwrite: replace a checkpoint that ``out`` has already.
        content: what the file holds, if it was read already.

    Raises:
        UsageError: the file is missing or no such detector; a tensor is missing, unknown or of another shape (the
            message names it); the configuration in the file asks for what gfocal does otherwise; ``style`` is missing
            or contradicts the file; or ``out`` has a checkpoint already.
    """
    checkpoint, file = Path(checkpoint), free_place(out, overwrite=overwrite)
    content = content or read_wrapped(checkpoint)
    where = str(checkpoint)
    state = {name: value for name, value in content.state.items() if not name.startswith(_TEACHER)}
    teacher = len(content.state) - len(state)
    row = find_row(state, where)
    found = recipe_of(row, state, content.meta, style, where)
    class_list, note = class_names(found.names, found.classes, names)
    refuse_unusable(checkpoint, {name: value for name, value in state.items() if not _UNUSED.fullmatch(name)})
    detector = build_within(found.recipe, class_list, state, checkpoint)
    detector.load_state_dict(fit(state, detector.state_dict(), f"{checkpoint} does not fit {row}"))
    weights = detector.state_dict()
    save_import(file, weights, found.recipe, class_list, source=checkpoint, format="mmdetection")
    return ImportReport(
        file,
        "mmdetection",
        row,
        found.changed,
        len(weights),
        tuple(name for name in state if _UNUSED.fullmatch(name)),
        found.classes,
        notes=(
            *content.notes,
            *((f"{teacher} tensors of the teacher are left out: {_TEACHER}*",) if teacher else ()),
            *((note,) if note else ()),
            *found.notes,
            *folded_note(detector),
        ),
        foreign=content.foreign,
    )


def our_names(names: Iterable[str]) -> dict[str, str]:
    """Our name of each tensor of mmdetection; constants that have no place here are left out.

    Args:
        names: of the whole detector, or of its ``backbone.``, ``neck.`` or ``bbox_head.`` alone.

    Raises:
        UsageError: naming those that have no place.
    """
    names = list(names)
    mapped = _mapped(names)
    refuse_misfits(
        "not a detector of mmdetection that can be imported", {"unknown": [n for n in names if n not in mapped]}
    )
    return {theirs: ours for theirs, ours in mapped.items() if not _UNUSED.fullmatch(theirs)}


def fit(state: Mapping[str, object], own: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The tensors under our names, every one of them in its place.

    Args:
        state: theirs, by their names.
        own: the detector's state.
        where: start of the message.

    Raises:
        UsageError: naming tensors that are missing, unknown or of another shape.
    """
    names = {theirs: ours for theirs, ours in _mapped(state).items() if not _UNUSED.fullmatch(theirs)}
    placed = {ours: _halved(ours, _as_linear(state[theirs], own.get(ours)), own) for theirs, ours in names.items()}
    unknown = [name for name in state if names.get(name) not in own and not _UNUSED.fullmatch(name)]
    missing = [name for name in own if name not in placed]
    misshapen = [
        f"{theirs} {shape_of(placed[ours])} instead of {shape_of(own[ours])}"
        for theirs, ours in names.items()
        if ours in own and shape_of(placed[ours]) != shape_of(own[ours])
    ]
    refuse_misfits(where, {"missing": missing, "unknown": unknown, "of another shape": misshapen})
    return {ours: value for ours, value in placed.items() if isinstance(value, Tensor)}


def _as_linear(value: object, own: Tensor | None) -> object:
    """GFL v2's small network is written as 1x1 convolutions there and as linear layers here."""
    if isinstance(value, Tensor) and own is not None and own.ndim == 2 and value.ndim == 4:
        return value.flatten(2).squeeze(2) if value.shape[2:] == (1, 1) else value
    return value


def _halved(name: str, value: object, own: Mapping[str, Tensor]) -> object:
    """A modulated convolution weighs its samples by a sigmoid there and by twice that here; a half is exact."""
    offsets = own.get(f"{name.removesuffix('weight')}conv_offset.weight") if name.endswith(".weight") else None
    if isinstance(value, Tensor) and offsets is not None and len(offsets) == 3 * offsets[0, 0].numel():
        return value.float() / 2
    return value


def _mapped(names: Iterable[str]) -> dict[str, str]:
    """Our names, of those that have one; a constant keeps its own."""
    names = list(names)
    maps = sum(name.startswith("neck.lateral_convs.") and name.endswith(".weight") for name in names)
    # A convolution, perhaps a norm, and an activation: places in our Sequential.
    places = 3 if any(name.startswith("bbox_head.cls_convs.0.gn.") for name in names) else 2
    return {name: ours for name in names if (ours := _our_name(name, maps, places)) is not None}


def _our_name(name: str, maps: int, places: int) -> str | None:
    if match := _EXTRA.fullmatch(name):
        number, what = int(match[1]), match[2]
        # The convolutions of the extra levels come after those of the backbone's maps.
        return f"neck.output.{number}.{what}" if number < maps else f"neck.extra.{number - maps}.{what}"
    if match := _TOWER.fullmatch(name):
        part, number, layer, what = match[1], int(match[2]), match[3], match[4]
        return f"head.{_PARTS[part]}_tower.{places * number + (layer == 'gn')}.{what}"
    for pattern, ours in _NAMES:
        if match := pattern.fullmatch(name):
            return ours(match)
    return name if _UNUSED.fullmatch(name) else None
