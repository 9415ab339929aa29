"""What helps a detector to learn and is gone when it predicts: NanoDet-Plus's assign guidance module."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gfocal.criterion import assign_batch
from gfocal.detector import DenseDetector
from gfocal.errors import UsageError
from gfocal.models.assistant import AssignGuidance
from gfocal.recipe import load_recipe
from gfocal.runs.checkpoint import load_detector, save_detector
from gfocal.runs.transfer import start_from
from gfocal.structures import HeadOutput, Targets
from gfocal.zoo import add_assistant, build_detector

AGM = "model.assistant.kind=agm"
TINY = (AGM, "model.channels=16", "data.resize.size=64")
TARGETS = (
    Targets(torch.tensor([[4.0, 4, 40, 50], [20, 30, 60, 64]]), torch.tensor([1, 2])),
    Targets.empty(),
)


def assisted(*overrides: str, name: str = "nanodet_plus_m", classes: int = 3, seed: int = 0) -> DenseDetector:
    recipe = load_recipe(name, overrides)
    torch.manual_seed(seed)
    detector = build_detector(recipe, [str(i) for i in range(classes)], pretrained=False)
    add_assistant(detector, recipe)
    return detector


@pytest.fixture(scope="module")
def tiny() -> DenseDetector:
    return assisted(*TINY).double()


def images(count: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, 64, 64), generator=generator, dtype=torch.uint8)


def official_name(name: str) -> str:
    """NanoDet-Plus's name of a tensor of the assistant's head."""
    towers = {"class_tower": "cls_convs", "box_tower": "reg_convs"}
    name = re.sub(
        r"^(class_tower|box_tower)\.(\d+)\.",
        lambda m: f"{towers[m[1]]}.{int(m[2]) // 3}.{('conv', 'gn')[int(m[2]) % 3]}.",
        name,
    )
    return "aux_head." + name.replace("class_out.", "gfl_cls.").replace("box_out.", "gfl_reg.")


@pytest.mark.parametrize(
    ("recipe", "numbers", "listed"),
    [
        ("nanodet_plus_m", 4_330_904, "nanodet_plus_m.txt"),
        ("nanodet_plus_m_1.5x", 7_962_196, "nanodet_plus_m_1.5x.txt"),
    ],
)
def test_every_tensor_of_the_published_training_model_has_its_place(
    recipe: str, numbers: int, listed: str, shared: Path
) -> None:
    detector = assisted(AGM, name=recipe, classes=80)
    assert sum(p.numel() for p in detector.parameters()) == numbers
    lines = (shared / "oracle/checkpoint_keys" / listed).read_text().splitlines()
    published = dict(line.split("\t") for line in lines)
    head = {name: size for name, size in published.items() if name.startswith("aux_head.")}
    shapes = {name: "x".join(map(str, value.shape)) for name, value in detector.assistant.head.state_dict().items()}
    assert {official_name(name): size or "scalar" for name, size in shapes.items()} == head
    # The second neck is a copy of the first, whose names have a test of their own.
    assert sum(name.startswith("aux_fpn.") for name in published) == len(detector.assistant.neck.state_dict())
    assert len(head) + len(detector.assistant.neck.state_dict()) == 242


def by_hand(assistant: AssignGuidance, maps: list[Tensor], levels: list[Tensor]) -> HeadOutput:
    """The head written out: groups by a mean and a variance, leaky ReLU as a maximum."""
    state = assistant.head.state_dict()
    classes, boxes = [], []
    for number, (level, own) in enumerate(zip(levels, assistant.neck(maps), strict=True)):
        outputs = []
        for tower in ("class", "box"):
            x = torch.cat((level, own), 1)
            for layer in range(4):
                x = F.conv2d(x, state[f"{tower}_tower.{3 * layer}.weight"], padding=1)
                groups = x.unflatten(1, (16, -1))
                mean = groups.mean((2, 3, 4), keepdim=True)
                spread = (groups - mean).square().mean((2, 3, 4), keepdim=True)
                x = ((groups - mean) / (spread + 1e-5).sqrt()).flatten(1, 2)
                weight, bias = (state[f"{tower}_tower.{3 * layer + 1}.{part}"] for part in ("weight", "bias"))
                x = x * weight[:, None, None] + bias[:, None, None]
                x = torch.maximum(x, 0.1 * x)
            x = F.conv2d(x, state[f"{tower}_out.weight"], state[f"{tower}_out.bias"], padding=1)
            outputs.append(x.flatten(2).transpose(1, 2))
        classes.append(outputs[0])
        boxes.append(outputs[1] * state[f"scales.{number}.scale"])
    return HeadOutput(torch.cat(classes, 1), torch.cat(boxes, 1))


def test_the_assistant_is_what_it_says(tiny: DenseDetector) -> None:
    assistant = tiny.assistant
    with torch.no_grad():
        for name, parameter in assistant.head.named_parameters():
            parameter.add_(0.1 * torch.randn_like(parameter) * (1 if "scale" in name else 0.5))
        tiny.eval()
        maps = tiny.backbone(tiny.pixels(images()).double())
        levels = tiny.neck(maps)
        found, expected = assistant(maps, levels, 0), by_hand(assistant, maps, levels)
    assert found.class_logits.shape == (2, len(tiny.points(64, 64)), 3)
    torch.testing.assert_close(found.class_logits, expected.class_logits, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.box, expected.box, rtol=1e-9, atol=1e-9)


def test_its_neck_begins_as_a_copy(tiny: DenseDetector) -> None:
    detector = assisted(*TINY)
    own, other = detector.neck.state_dict(), detector.assistant.neck.state_dict()
    assert own.keys() == other.keys()
    for name, value in own.items():
        assert torch.equal(value, other[name])
        assert not len(value.shape) or value.data_ptr() != other[name].data_ptr()
    assert detector.assistant.head.class_out.bias.unique().item() == pytest.approx(-4.595, abs=1e-3)


def test_it_is_there_in_training_alone(tiny: DenseDetector) -> None:
    detector = assisted(*TINY)
    plain = build_detector(load_recipe("nanodet_plus_m", TINY), detector.names)
    out = detector.train()(images())
    assert out.assistant is not None
    assert out.heads == [out, out.assistant]
    assert out.judge is out.assistant
    before = {name: value.clone() for name, value in detector.assistant.state_dict().items()}
    plain.load_state_dict(detector.state_dict())  # with what batch norm has seen by now
    with torch.no_grad():
        found, alone = detector.eval()(images()), plain.eval()(images())
    assert found.assistant is None
    assert found.judge is found
    assert torch.equal(found.class_logits, alone.class_logits)
    assert torch.equal(found.box, alone.box)
    detector.train().predict(images()[0])
    assert all(torch.equal(value, before[name]) for name, value in detector.assistant.state_dict().items())


def test_it_is_no_part_of_the_state(tiny: DenseDetector, tmp_path: Path) -> None:
    recipe, detector = load_recipe("nanodet_plus_m", TINY), assisted(*TINY)
    plain = build_detector(recipe, detector.names)
    assert detector.state_dict().keys() == plain.state_dict().keys()
    assert any(name.startswith("assistant.") for name, _ in detector.named_parameters())
    wrapped = nn.ModuleDict({"inner": detector}).state_dict()
    assert {name.removeprefix("inner.") for name in wrapped} == plain.state_dict().keys()
    # Weights of inference load into the detector of training, and leave the assistant as it is.
    own = copy.deepcopy(detector.assistant.state_dict())
    detector.load_state_dict(plain.state_dict())
    assert torch.equal(detector.head.out[0].weight, plain.head.out[0].weight)
    assert all(torch.equal(value, own[name]) for name, value in detector.assistant.state_dict().items())
    with pytest.raises(RuntimeError, match=r"Missing key.*head\.out\.0\.weight"):
        detector.load_state_dict({n: v for n, v in plain.state_dict().items() if n != "head.out.0.weight"})
    save_detector(tmp_path / "best.safetensors", detector.state_dict(), recipe, detector.names)
    loaded, same, _ = load_detector(tmp_path)
    assert loaded.assistant is None
    assert same == recipe
    copied = copy.deepcopy(detector)
    assert copied.state_dict().keys() == plain.state_dict().keys()


def test_it_copies_the_neck_that_was_loaded(tmp_path: Path) -> None:
    recipe, trained = load_recipe("nanodet_plus_m", TINY), assisted(*TINY, seed=1)
    save_detector(tmp_path / "best.safetensors", trained.state_dict(), recipe, trained.names)
    torch.manual_seed(2)
    detector = build_detector(recipe, trained.names)
    start_from(detector, tmp_path)
    add_assistant(detector, recipe)
    first = trained.neck.state_dict()
    assert all(torch.equal(value, first[name]) for name, value in detector.assistant.neck.state_dict().items())


def gradients(detector: DenseDetector, epoch: int, losses: str) -> dict[str, float]:
    """Size of the gradient in each part, from the losses whose names start so."""
    detector.zero_grad()
    out = detector.train()(images(), epoch)
    terms = detector.losses(out, detector.assign_batch(images(), TARGETS, out), (64, 64))
    assert list(terms) == ["cls", "box", "dfl", "assistant_cls", "assistant_box", "assistant_dfl"]
    sum(value for name, value in terms.items() if name.startswith("assistant_") == (losses == "assistant")).backward()
    parts = {"backbone": detector.backbone, "neck": detector.neck, "head": detector.head}
    parts |= {"second neck": detector.assistant.neck, "second head": detector.assistant.head}
    return {
        name: sum(float(p.grad.square().sum()) for p in part.parameters() if p.grad is not None)
        for name, part in parts.items()
    }


def test_what_the_assistant_teaches_before_and_after_it_is_detached() -> None:
    detector = assisted(*TINY, "model.assistant.detach_after=3").double()
    for epoch in (0, 2):
        found = gradients(detector, epoch, "assistant")
        assert found.pop("head") == 0
        assert all(value > 0 for value in found.values()), found
    found = gradients(detector, 3, "assistant")
    assert found["backbone"] == found["neck"] == found["head"] == 0
    assert found["second neck"] > 0
    assert found["second head"] > 0
    # The head's own losses teach what they always do: the assistant decides what is learnt and gets nothing back.
    for epoch in (0, 3):
        found = gradients(detector, epoch, "head")
        assert found["second neck"] == found["second head"] == 0
        assert min(found["backbone"], found["neck"], found["head"]) > 0


def test_objects_are_assigned_by_what_the_assistant_says() -> None:
    detector = assisted(*TINY).double().train()
    with torch.no_grad():
        for conv in (*detector.head.out, detector.assistant.head.box_out):
            conv.weight.normal_()
        out = detector(images())
    found = detector.assign_batch(images(), TARGETS, out)
    points, quality = detector.points(64, 64), detector.quality
    by, other = (
        assign_batch(points, TARGETS, detector.assigner, detector.box_coder, out=head, quality=quality)
        for head in (out, replace(out, assistant=None))
    )
    assert torch.equal(found.positive, by.positive)
    assert torch.equal(found.gt_index, by.gt_index)
    assert not torch.equal(by.positive, other.positive)
    # Both heads learn that; each divides its box terms by its own scores.
    sums = detector.step_sums(out, found, (64, 64))
    assert sums.shape == (2, 1)
    own = [head.class_logits.flatten(0, 1)[found.positive].sigmoid().amax(-1).sum() for head in out.heads]
    torch.testing.assert_close(sums[:, 0], torch.stack(own))
    whole = detector.losses(out, found, (64, 64))
    given = detector.losses(out, found, (64, 64), box_norm=torch.tensor([2.0, 4.0], dtype=torch.float64))
    for name, norm, divisor in (("box", sums[0], 2), ("assistant_box", sums[1], 4), ("assistant_dfl", sums[1], 4)):
        assert given[name].item() * divisor == pytest.approx(whole[name].item() * max(norm.item(), 1), rel=1e-9)


def test_a_frozen_neck_is_copied_and_its_copy_learns() -> None:
    detector = assisted(*TINY, "model.frozen=[neck]")
    assert not any(p.requires_grad for p in detector.neck.parameters())
    assert all(p.requires_grad for p in detector.assistant.parameters())
    norms = [m for m in detector.train().assistant.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(norm.training for norm in norms)
    assert not any(m.training for m in detector.neck.modules() if isinstance(m, nn.BatchNorm2d))


def test_images_without_objects_and_no_images() -> None:
    detector = assisted(*TINY).train()
    for count in (2, 0):
        detector.zero_grad()
        out = detector(images(count))
        found = detector.losses(out, detector.assign_batch(images(count), [Targets.empty()] * count, out), (64, 64))
        assert (found["assistant_cls"].item() > 0) == bool(count)
        assert found["assistant_box"].item() == found["assistant_dfl"].item() == 0
        sum(found.values()).backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in detector.parameters())


@pytest.mark.parametrize(
    ("recipe", "overrides", "words"),
    [
        (
            "gfl_nano",
            [AGM],
            r"agm makes the predictions .*assigner.kind atss looks at none; what goes: assigner.kind task",
        ),
        (
            "nanodet_plus_m",
            [AGM, "model.assigner.kind=fcos"],
            r"assigner.kind fcos looks at none.*or assistant.kind none",
        ),
        (
            "ssd_nano",
            [AGM, "model.assigner.kind=dsla"],
            r"agm does not go with detector ssd .*shared by all levels.*what goes: none",
        ),
        (
            "nanodet_plus_m",
            [AGM, "model.channels=40"],
            r"channels must be a multiple of 16 for assistant.kind agm .*got 40",
        ),
        ("nanodet_plus_m", ["model.assistant.detach_after=-1"], r"model.assistant.detach_after"),
        ("nanodet_plus_m", ["model.assistant.kind=lad"], r"model.assistant.kind: input should be 'none' or 'agm'"),
        (
            "ssd512_vgg16",
            [AGM, "model.assigner.kind=dsla", "model.points.kind=square", "model.quality.kind=none"],
            r"agm takes levels of one width, not neck ssd's",
        ),
    ],
)
def test_what_no_assistant_goes_with_is_refused(recipe: str, overrides: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_recipe(recipe, overrides)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("gfl_nano", ["model.assigner.kind=task_aligned", "model.box_weight=target"]),
        ("picodet_s", ["model.backbone=test_resnet"]),
        ("retinanet_nano", ["model.assigner.kind=dsla"]),
        ("fcos_nano", ["model.assigner.kind=sim_ota", "model.assigner.static_epochs=1"]),
        ("atss_nano", ["model.assigner.kind=dsla", "model.boxes.kind=general", "model.quality.kind=joint_v2"]),
    ],
)
def test_any_row_and_dynamic_assigner_takes_it(name: str, overrides: list[str]) -> None:
    detector = assisted(AGM, *overrides, "model.channels=16", "data.resize.size=64", name=name).train()
    for epoch in (0, 10):
        detector.zero_grad()
        out = detector(images(), epoch)
        assignment = detector.assign_batch(images(), TARGETS, out, epoch=epoch)
        losses = detector.losses(out, assignment, (64, 64))
        assert len(losses) == 2 * sum(not name.startswith("assistant_") for name in losses)
        sum(losses.values()).backward()
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in detector.parameters())
