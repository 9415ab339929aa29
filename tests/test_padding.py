"""What an image teaches does not depend on the padding that its batch gives it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gfocal.assigners import AtssAssigner
from gfocal.criterion import assign_batch, detection_losses
from gfocal.detector import DenseDetector
from gfocal.points import Points, grid_sizes, make_points
from gfocal.recipe import load_recipe
from gfocal.recipe.forms import BACKBONES, HEADS
from gfocal.representation import GeneralBoxes, JointQuality
from gfocal.structures import Batch, HeadOutput, Targets
from gfocal.training.optimizer import make_optimizer
from gfocal.training.step import make_accelerator, optimizer_step
from gfocal.zoo import build_detector

STRIDES = (8, 16, 32, 64, 128)
SIZE = 125, 187
OBJECT = Targets(torch.tensor([[81.0, 26, 183, 113]]), torch.tensor([1]))
LARGER = Targets(torch.tensor([[200.0, 100, 500, 400]]), torch.tensor([0]))
BOXES = GeneralBoxes(16)


def points_of(height: int, width: int) -> Points:
    return make_points(grid_sizes(height, width, STRIDES), STRIDES, anchor_scale=8, offset=0.0)


def positives(points: Points, sizes: list[tuple[int, int]] | None, count: int = 1) -> list[int]:
    """Number of positives of an object in each image of a batch."""
    return assign_batch(points, [OBJECT] * count, AtssAssigner(), BOXES, sizes=sizes).counts.tolist()


def test_atss_takes_no_candidates_from_the_padding() -> None:
    # Alone the image is padded to 128 x 192; beside a larger one to 512 x 512, where ATSS would find twelve more.
    assert positives(points_of(128, 192), None) == [6]
    assert positives(points_of(512, 512), None) == [18]
    for padded in ((128, 192), (512, 512), (1024, 2048)):
        assert positives(points_of(*padded), [SIZE]) == [6]
    assert positives(points_of(512, 512), [SIZE, (512, 512), SIZE], 3) == [6, 18, 6]


KINDS = [
    *["fcos_nano", "atss_nano", "gfl_nano", "foveabox_nano", "retinanet_nano", "ssd_nano"],
    *["gfl_nano task_aligned", "retinanet_nano task_aligned"],
    *["gfl_nano dsla", "gfl_nano sim_ota"],
]


def detector_of(kind: str, *changes: str) -> DenseDetector:
    name, _, assigner = kind.partition(" ")
    more = [f"model.assigner.kind={assigner}"] if assigner else []
    torch.manual_seed(0)
    recipe = load_recipe(name, ["model.backbone=test_resnet", *more, *changes])
    return build_detector(recipe, ["car", "bus"], pretrained=False).eval()


def learnt(
    detector: DenseDetector, padded: tuple[int, int], sizes: Tensor | None
) -> tuple[set[tuple[float, ...]], int]:
    """The positives of OBJECT by place and anchor, and how many points learn nothing; the outputs are the same."""
    points = detector.points(*padded)
    # What the network says hangs on the place alone, so that padding cannot change it.
    seed = (points.anchors * torch.tensor([0.37, 0.11, 0.53, 0.29])).sum(1, keepdim=True).sin()
    columns = detector.quality.num_logits(2), detector.box_coder.channels
    logits, code = (torch.cat([(seed * (k + 1)).cos() for k in range(n)], 1)[None] for n in columns)
    out = HeadOutput(logits, code)
    images = torch.zeros(1, 3, *padded, dtype=torch.uint8)
    found = detector.assign_batch(images, [OBJECT], out, sizes=sizes)
    rows = torch.cat((points.xy, points.anchors), 1)[found.positive].tolist()
    ignored = 0 if found.ignored is None else int(found.ignored.sum())
    return {tuple(row) for row in rows}, ignored


@pytest.mark.parametrize("kind", KINDS)
def test_every_assigner_gives_an_image_the_same_points_in_any_batch(kind: str) -> None:
    detector = detector_of(kind)
    alone, _ = learnt(detector, (128, 192), torch.tensor([SIZE]))
    beside, ignored = learnt(detector, (512, 512), torch.tensor([SIZE]))
    assert alone
    assert alone == beside
    points = detector.points(512, 512)
    assert ignored >= int(((points.xy[:, 0] >= SIZE[1]) | (points.xy[:, 1] >= SIZE[0])).sum())


def test_a_key_keeps_the_points_in_the_padding() -> None:
    detector = detector_of("gfl_nano", "model.assigner.in_padding=true")
    assert learnt(detector, (512, 512), torch.tensor([SIZE])) == learnt(detector, (512, 512), None)
    assert learnt(detector, (512, 512), torch.tensor([SIZE]))[1] == 0


def test_outputs_in_the_padding_teach_nothing() -> None:
    points, quality = points_of(512, 512), JointQuality()
    assignment = assign_batch(points, [OBJECT, LARGER], AtssAssigner(), BOXES, sizes=[SIZE, (512, 512)])
    outside = (points.xy[:, 0] >= SIZE[1]) | (points.xy[:, 1] >= SIZE[0])
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, len(points), 2, generator=generator)
    code = torch.randn(2, len(points), BOXES.channels, generator=generator)

    def total(logits: Tensor) -> Tensor:
        weights = {"cls": 1.0, "box": 2.0, "dfl": 0.25}
        terms = detection_losses(HeadOutput(logits, code), points, assignment, BOXES, quality, loss_weights=weights)
        return torch.stack(list(terms.values())).sum()

    logits.requires_grad_()
    loss = total(logits)
    loss.backward()
    assert logits.grad is not None
    assert bool((logits.grad[0, outside] == 0).all())
    assert bool((logits.grad[0, ~outside] != 0).any(1).all())
    changed = logits.detach().clone()
    changed[0, outside] = 50.0
    assert total(changed).item() == loss.item()


@pytest.mark.parametrize("size", [(1, 1), (4, 300), (0, 0)])
@pytest.mark.parametrize("kind", KINDS)
def test_an_image_with_hardly_a_point(kind: str, size: tuple[int, int]) -> None:
    detector = detector_of(kind)
    images, sizes = torch.zeros(2, 3, 128, 320, dtype=torch.uint8), torch.tensor([size, (128, 320)])
    pixel = Targets(torch.tensor([[0.0, 0, 1, 1]]), torch.tensor([0]))
    out = detector.train()(images)
    for targets in ([pixel, OBJECT], [Targets.empty(), Targets.empty()]):
        assignment = detector.assign_batch(images, targets, out, sizes=sizes)
        losses = detector.losses(out, assignment, (128, 320))
        assert all(bool(value.isfinite()) for value in losses.values())


@pytest.mark.parametrize("batches", [1, 2])
def test_a_step_leaves_the_padding_out(batches: int) -> None:
    # Both ways of a step: a single batch, and several that are looked at beforehand.
    detector = detector_of("atss_nano")
    accelerator = make_accelerator("fp32")
    made = make_optimizer(detector, load_recipe("atss_nano").optim)
    model, optimizer = accelerator.prepare(detector, made)

    def positives_in(padded: tuple[int, int], size: tuple[int, int]) -> float:
        images, sizes = torch.zeros(1, 3, *padded, dtype=torch.uint8), torch.tensor([size])
        batch = Batch(images, (OBJECT,), torch.tensor([1]), sizes, torch.ones(1, 2), sizes)
        done = optimizer_step(detector, model, optimizer, accelerator, [batch] * batches, lr=0.0, clip_norm=None)
        return done.counts.edges / 4 / batches

    # A border through the object leaves it the points on one side.
    size = (64, 130)
    alone = positives_in((128, 192), size)
    assert positives_in((256, 384), size) == alone > 0
    assert positives_in((256, 384), (256, 384)) > alone


# --- networks that look at the whole map ----------------------------------------------------------------------------


def differs(one: Tensor, other: Tensor) -> bool:
    """Whether two float64 maps or rows are more apart than other kernels for another size make them."""
    return float((one - other).abs().max()) > 1e-9 * float(one.std())


@pytest.mark.parametrize(
    "name", [pytest.param("vgg16", marks=pytest.mark.slow), *(name for name in BACKBONES if name != "vgg16")]
)
def test_backbones_that_see_the_padding_are_marked(name: str) -> None:
    """Far from the padding a map changes only where all of it is looked at."""
    base = {"vgg16": "ssd512_vgg16"}.get(name, "gfl_nano")
    torch.manual_seed(0)
    recipe = load_recipe(base, [f"model.backbone={name}"])
    network = build_detector(recipe, ["a"], pretrained=False).eval().backbone.double()
    for weight in (each for each in network.parameters() if each.ndim == 4):
        torch.nn.init.kaiming_normal_(weight)  # so that maps do not fade on the way
    image = torch.rand(1, 3, 32, 1536, dtype=torch.float64)
    with torch.inference_mode():
        alone, padded = network(image), network(torch.nn.functional.pad(image, (0, 1536)))
    found = any(differs(one[..., :1], other[..., :1]) for one, other in zip(alone, padded, strict=True))
    assert found == BACKBONES[name].pools


@pytest.mark.parametrize("name", [name for name in HEADS if name != "conv"])
def test_heads_that_see_the_padding_are_marked(name: str) -> None:
    torch.manual_seed(0)
    detector = build_detector(load_recipe("gfl_nano", [f"model.head={name}"]), ["a"], pretrained=False).eval()
    detector.head.double()
    levels = [torch.randn(1, 96, 2, 48, dtype=torch.float64) for _ in detector.strides]
    with torch.inference_mode():
        alone = detector.head(levels)
        padded = detector.head([torch.nn.functional.pad(level, (0, 48)) for level in levels])
    assert differs(alone.class_logits[:, :4], padded.class_logits[:, :4]) == HEADS[name].pools
