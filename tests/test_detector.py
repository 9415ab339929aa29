from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from gfocal.assigners import AtssAssigner
from gfocal.detector import DenseDetector
from gfocal.errors import UsageError
from gfocal.images.io import Resize, pad_batch
from gfocal.models import PixelNorm, PostProcess
from gfocal.models.postprocess import to_original
from gfocal.points import make_points
from gfocal.recipe import load_recipe
from gfocal.representation import GeneralBoxes, JointQuality, ScoreWeight
from gfocal.runtime.layout import in_layout
from gfocal.structures import Detections, HeadOutput, Targets
from gfocal.zoo import build_detector

# --- a network that says what it was told ---------------------------------------------------------------------------


class Told(nn.Module):
    """Finds one object of class 1 at the last point of every image, each edge uniform over three bins."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Parameter(torch.tensor(2.0))
        self.seen: list[tuple[bool, tuple[int, ...]]] = []

    def forward(self, images: Tensor) -> HeadOutput:
        self.seen.append((self.training, tuple(images.shape)))
        batch, _, height, width = images.shape
        count = math.ceil(height / 32) * math.ceil(width / 32)
        logits = torch.full((batch, count, 2), -9.0)
        logits[:, -1, 1] = self.score
        return HeadOutput(logits, torch.zeros(batch, count, 12))


def told(resize: Resize) -> DenseDetector:
    return DenseDetector(
        pixels=PixelNorm((0.0, 0, 0), (1.0, 1, 1)),
        backbone=nn.Identity(),
        neck=nn.Identity(),
        head=Told(),
        strides=(32,),
        make_points=partial(make_points, strides=(32,), anchor_scale=8, offset=0.5),
        assigner=AtssAssigner(),
        box_coder=GeneralBoxes(2),
        quality=JointQuality(),
        names=("a", "b"),
        resize=resize,
        postprocess=PostProcess(),
        box_weight=ScoreWeight(),
        loss_weights={"cls": 1.0, "box": 1.0, "dfl": 1.0},
    )


def test_boxes_and_deviations_come_back_in_pixels_of_the_image() -> None:
    # 128 rows, 32 columns become 64 x 64. The last point is (48, 48); every edge expects 1 stride = 32 pixels:
    # [16, 16, 80, 80], clipped [16, 16, 64, 64]. Back: x times 1/2, y times 2.
    found = told(Resize("square", 64)).predict(torch.zeros(3, 128, 32, dtype=torch.uint8))
    assert found.boxes.tolist() == [[8, 32, 32, 128]]
    # A uniform distribution over 0, 1, 2 has the variance 2/3.
    std = 32 * math.sqrt(2 / 3)
    assert found.edge_std[0].tolist() == pytest.approx([std / 2, std * 2, std / 2, std * 2])
    assert found.edge_probs.flatten().tolist() == pytest.approx([1 / 3] * 12)
    assert found.scores.tolist() == pytest.approx([1 / (1 + math.exp(-2))])
    assert (found.labels.tolist(), found.names) == ([1], ("a", "b"))


def test_boxes_do_not_reach_into_the_padding() -> None:
    # 40 x 50 pixels, shorter side to 80: 80 x 100, padded to 96 x 128: 3 x 4 points, the last at (112, 80).
    detector = told(Resize("short_long", short_side=80, long_side=200))
    found = detector.predict(torch.zeros(3, 40, 50, dtype=torch.uint8))
    assert detector.head.seen == [(False, (1, 3, 96, 128))]
    # [80, 48, 144, 112] clipped to 100 x 80 is [80, 48, 100, 80]; then halved.
    assert found.boxes.tolist() == [[40, 24, 50, 40]]
    # A batch knows the size of each image; without sizes the whole batch counts.
    batch = torch.zeros(2, 3, 96, 128, dtype=torch.uint8)
    first, second = detector.detect(batch, torch.tensor([[80, 100], [96, 120]]))
    assert (first.boxes.tolist(), second.boxes.tolist()) == ([[80, 48, 100, 80]], [[80, 48, 120, 96]])
    assert detector.detect(batch)[0].boxes.tolist() == [[80, 48, 128, 96]]


def test_the_threshold_can_be_raised_for_one_call() -> None:
    detector, image = told(Resize("square", 64)), torch.zeros(3, 9, 9, dtype=torch.uint8)
    assert len(detector.predict(image, score_threshold=0.9)) == 0
    assert len(detector.predict(image)) == 1
    assert detector.postprocess.score_threshold == 0.05


def test_a_threshold_out_of_range_is_named() -> None:
    detector, image = told(Resize("square", 64)), torch.zeros(3, 9, 9, dtype=torch.uint8)
    for value in (2, -1):
        with pytest.raises(UsageError, match=f"score_threshold must be at least 0 and below 1, got {value}"):
            detector.predict(image, score_threshold=value)


@pytest.mark.parametrize("kind", [list, tuple])
def test_several_images_may_come_in_a_list_or_a_tuple(kind: type) -> None:
    images = kind([torch.zeros(3, 9, 9, dtype=torch.uint8), torch.zeros(3, 18, 9, dtype=torch.uint8)])
    found = told(Resize("square", 64)).predict(images)
    assert [one.boxes[0, 3].item() for one in found] == [9, 18]


@pytest.mark.parametrize("training", [True, False])
def test_predict_leaves_the_mode_as_it_was(training: bool) -> None:
    detector = told(Resize("square", 64)).train(training)
    detector.predict(torch.zeros(3, 9, 9, dtype=torch.uint8))
    assert detector.head.seen[0][0] is False  # it ran in evaluation mode
    assert (detector.training, detector.head.training) == (training, training)

    def fail(images: Tensor) -> Tensor:
        raise RuntimeError("broken")

    detector.backbone.forward = fail
    with pytest.raises(RuntimeError, match="broken"):
        detector.predict(torch.zeros(3, 9, 9, dtype=torch.uint8))
    assert (detector.training, detector.head.training) == (training, training)


def test_nothing_found_comes_back_as_nothing() -> None:
    none = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), edge_std=torch.zeros(0, 4))
    assert len(to_original(none, (32, 32), (64, 64))) == 0


def test_pixels_are_normalised_in_their_order() -> None:
    image = torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 3, 1, 1)
    rgb = PixelNorm((1.0, 2, 3), (2.0, 4, 8))(image)
    assert rgb.flatten().tolist() == [4.5, 4.5, 27 / 8]
    bgr = PixelNorm((1.0, 2, 3), (2.0, 4, 8), "bgr")(image)  # 30, 20, 10
    assert bgr.flatten().tolist() == [14.5, 4.5, 7 / 8]
    assert PixelNorm((1.0, 2, 3), (2.0, 4, 8)).state_dict() == {}  # the recipe holds them, no checkpoint


# --- the small real detector ----------------------------------------------------------------------------------------


@pytest.fixture
def nano() -> DenseDetector:
    torch.manual_seed(0)
    detector = build_detector(load_recipe("gfl_nano", ["data.resize.size=64"]), ["a", "b", "c"])
    with torch.no_grad():  # features of the size that training gives them; scores around a half, boxes that differ
        norms = [m for m in detector.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1.0
        detector(random_images(4, seed=9))
        for norm in norms:
            norm.momentum = 0.1
        for out in detector.head.out:
            out.weight.normal_(std=0.1)
            out.bias.zero_()
    return detector


def random_images(count: int, height: int = 64, width: int = 64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), generator=generator, dtype=torch.uint8)


def test_every_kind_of_source_gives_the_same(nano: DenseDetector, tmp_path: Path) -> None:
    image = random_images(1, 50, 70)[0]
    array = image.permute(1, 2, 0).numpy()
    Image.fromarray(array).save(tmp_path / "picture.png")
    sources = [array, Image.fromarray(array), tmp_path / "picture.png", str(tmp_path / "picture.png")]
    expected = nano.predict(image)
    assert len(expected) > 10
    assert not expected.boxes.requires_grad
    for found in nano.predict([image, *sources]):
        assert torch.equal(found.boxes, expected.boxes)
        assert torch.equal(found.scores, expected.scores)
    assert nano.predict([]) == []


def test_predicting_teaches_nothing(nano: DenseDetector) -> None:
    before = {name: value.clone() for name, value in nano.train().state_dict().items()}
    nano.predict(random_images(1)[0])
    assert all(torch.equal(value, before[name]) for name, value in nano.state_dict().items())


def test_predict_is_detect_on_a_padded_batch() -> None:
    # Levels up to stride 128 on images padded to a multiple of 32: what evaluation gets is what a person gets.
    overrides = [
        "model.pretrained=false",
        "data.resize.short_side=96",
        "data.resize.long_side=160",
        "model.channels=64",
    ]
    torch.manual_seed(0)
    detector = build_detector(load_recipe("gfl_r18", overrides), ["a", "b"]).eval()
    nn.init.zeros_(detector.head.class_out.bias)
    images = [random_images(1, 60, 75)[0], random_images(1, 70, 60, seed=1)[0]]
    resized = [detector.resize(p) for p in images]
    assert [tuple(p.shape[-2:]) for p in resized] == [(96, 120), (112, 96)]
    for image, small in zip(images, resized, strict=True):
        (whole,) = detector.detect(pad_batch([small]), torch.tensor([small.shape[-2:]]))
        expected = to_original(whole, small.shape[-2:], image.shape[-2:])
        found = detector.predict(image)
        assert len(found) >= 5
        assert torch.equal(found.scores, expected.scores)
        assert torch.equal(found.boxes, expected.boxes)


def test_images_of_a_batch_do_not_mix(nano: DenseDetector) -> None:
    images = random_images(3)
    nano.eval()
    with torch.no_grad():
        together, alone = nano(images), nano(images[1:2])
    torch.testing.assert_close(together.class_logits[1:2], alone.class_logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together.box[1:2], alone.box, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 96), (160, 32), (33, 70)])
def test_there_are_as_many_outputs_as_points(nano: DenseDetector, height: int, width: int) -> None:
    with torch.no_grad():
        out = nano.eval()(random_images(2, height, width))
    points = nano.points(height, width)
    assert out.class_logits.shape == (2, len(points), 3)
    assert out.box.shape == (2, len(points), 32)
    assert nano.points(height, width) is points  # made once a size


TARGETS = (
    Targets(torch.tensor([[4.0, 4, 40, 50], [20, 30, 60, 64]]), torch.tensor([1, 2])),
    Targets.empty(),
)


def test_low_precision_is_close_and_its_losses_are_float32(nano: DenseDetector) -> None:
    images = random_images(2)
    assignment = nano.assign_batch(images, TARGETS)
    assert len(assignment.positive) >= 2
    nano.eval()
    full = nano.losses(nano(images), assignment, (64, 64))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = nano(images)
        low = nano.losses(out, assignment, (64, 64))
        found = nano.detect(images)
    assert out.class_logits.dtype == torch.bfloat16  # the network did run in it
    for name, value in low.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(full[name].item(), rel=0.05)
    torch.stack(list(low.values())).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in nano.parameters() if p.grad is not None)
    for low_found, full_found in zip(found, nano.detect(images), strict=True):
        assert low_found.boxes.dtype == low_found.scores.dtype == torch.float32
        assert low_found.scores[0].item() == pytest.approx(full_found.scores[0].item(), abs=0.03)


def test_every_parameter_learns(nano: DenseDetector) -> None:
    images = random_images(2)
    nano.train()
    torch.stack(list(nano.losses(nano(images), nano.assign_batch(images, TARGETS), (64, 64)).values())).sum().backward()
    silent = [name for name, p in nano.named_parameters() if p.grad is None or not p.grad.any()]
    # Levels without a positive still have negatives.
    assert silent == []


def test_the_losses_of_a_step_can_be_normalised_together(nano: DenseDetector) -> None:
    images = random_images(2)
    nano.eval()
    whole = nano.losses(nano(images), nano.assign_batch(images, TARGETS), (64, 64))
    assignments = [nano.assign_batch(images[i : i + 1], TARGETS[i : i + 1]) for i in range(2)]
    outputs = [nano(images[i : i + 1]) for i in range(2)]
    count = sum(len(assignment.positive) for assignment in assignments)
    weights = [nano.step_sums(out, m, (64, 64))[:, 0] for out, m in zip(outputs, assignments, strict=True)]
    assert weights[1].item() == 0  # no object there
    assert 1 < weights[0].item() < count  # scores, not ones
    parts = [
        nano.losses(out, assignment, (64, 64), cls_norm=count, box_norm=sum(weights))
        for out, assignment in zip(outputs, assignments, strict=True)
    ]
    for name, value in whole.items():
        assert sum(p[name].item() for p in parts) == pytest.approx(value.item(), rel=1e-5)


def test_assigners_of_the_epochs() -> None:
    task = ["data.resize.size=64", "model.assigner.kind=task_aligned"]
    for name, first in (("gfl_nano", "AtssAssigner"), ("retinanet_nano", "MaxIouAssigner")):
        late = build_detector(load_recipe(name, [*task, "model.assigner.static_epochs=2"]), ["a", "b", "c"])
        assert [type(late.assigner_in(epoch)).__name__ for epoch in (0, 1, 2, 9)] == [first] * 2 + [
            "TaskAlignedAssigner"
        ] * 2
        images, out = random_images(2), late(random_images(2))
        static, dynamic = (late.assign_batch(images, TARGETS, out, epoch=epoch) for epoch in (1, 2))
        assert (static.alignment is None, dynamic.alignment is None) == (True, False)
        assert not torch.equal(static.labels, dynamic.labels)
        # Without an epoch it is the one that the detector is for.
        assert torch.equal(late.assign_batch(images, TARGETS, out).labels, dynamic.labels)
        assert torch.equal(late.assign_batch(images, TARGETS, epoch=1).labels, static.labels)
        with pytest.raises(UsageError, match=r"looks at predictions: call assign_batch\(images, targets, detector\(im"):
            late.assign_batch(images, TARGETS, epoch=2)
    soon = build_detector(load_recipe("gfl_nano", task), ["a", "b", "c"])
    assert (soon.static_assigner, soon.assigner_in(0)) == (None, soon.assigner)
    # Reach is a matter of either.
    both = [*task, "model.assigner.static_epochs=1", "model.assigner.within_reach=true", "model.assigner.top_k=3"]
    within = build_detector(load_recipe("gfl_nano", both), ["a", "b", "c"])
    assert [type(within.assigner_in(epoch)).__name__ for epoch in (0, 1)] == ["WithinReach", "DynamicWithinReach"]
    assert within.static_assigner.assigner.top_k == 3
    # The keys of an assigner that looks at predictions mean nothing to another one.
    plain = build_detector(load_recipe("gfl_nano", ["model.assigner.static_epochs=5"]), ["a", "b", "c"])
    assert plain.static_assigner is None


def test_a_threshold_of_ones_own_is_one_of_final_scores() -> None:
    # A branch multiplies after the threshold on the class score; a person who asks for 0.3 wants no 0.15.
    torch.manual_seed(0)
    detector = build_detector(load_recipe("fcos_nano", ["data.resize.size=64"]), ["a", "b"]).eval()
    image = random_images(1)[0]
    everything = detector.predict(image, score_threshold=0.0)
    assert len(everything) == 100
    threshold = float(everything.scores[40])
    found = detector.predict(image, score_threshold=threshold)
    assert len(found) > 0
    assert float(found.scores.min()) > threshold


@pytest.mark.parametrize("recipe", ["gfl_nano", "gfl_r18"])
def test_padding_with_the_mean_is_zero_to_the_network(recipe: str) -> None:
    # gfl_nano's statistics are in the order BGR, gfl_r18's RGB; colours of images are RGB.
    overrides = ["data.resize.pad=mean", "model.pretrained=false"]
    detector = build_detector(load_recipe(recipe, overrides), ["a"])
    assert detector.resize.fill == (124, 116, 104)
    padded = pad_batch([torch.zeros(3, 32, 16, dtype=torch.uint8)], fill=detector.resize.fill)
    assert float(detector.pixels(padded)[..., 16:].abs().max()) < 0.01


@pytest.mark.parametrize("name", ["gfl_nano", "gfl_r18"])
def test_one_channel_after_another_is_what_the_network_computes_in(name: str) -> None:
    # Images come with channels last, and a convolution does as its input is: plain weights alone would change nothing.
    recipe = load_recipe(name, ["model.pretrained=false", "model.frozen_stages=0", "model.norm_eval=false"])
    detector = build_detector(recipe, ["a"], pretrained=False).eval()
    layouts: list[bool] = []
    for module in detector.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, images, out: layouts.append(out.is_contiguous()))
    images = torch.randint(0, 255, (2, 3, 64, 96), dtype=torch.uint8)
    last = images.to(memory_format=torch.channels_last)
    assert not detector.channels_last
    assert torch.equal(detector.raw(last).class_logits, detector.raw(images).class_logits)
    assert all(layouts)
    layouts.clear()
    detector = in_layout(detector, True)
    assert detector.channels_last
    detector.raw(last)
    assert not any(layouts[:20])
