"""Every form of assigner, box, quality and box weight in its detector: on a device as on the CPU."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gfocal.boxes import aligned_iou
from gfocal.detector import DenseDetector
from gfocal.recipe import load_recipe
from gfocal.recipe.rows import AXES
from gfocal.structures import Detections, HeadOutput, Targets
from gfocal.zoo import build_detector

pytestmark = pytest.mark.cuda

NAMES = ("a", "b", "c")
SIZE = (256, 320)
SSD = (512, 512)
DYNAMIC = ("task_aligned", "dsla", "sim_ota")


def _forms() -> list[tuple[str, str]]:
    """(recipe, override): every row as it is, and every form of the axes in a row that takes it."""
    found = [(name, "") for name in ("fcos", "atss", "gfl", "retinanet", "foveabox", "ssd")]
    for axis, kinds in AXES["square"].items():
        found += [("gfl", f"model.{axis}={kind}") for kind in kinds if axis != "boxes.code"]
    found += [("atss", f"model.boxes.code={code}") for code in AXES["square"]["boxes.code"]]
    found += [("retinanet", f"model.assigner.kind={kind}") for kind in DYNAMIC]
    return list(dict.fromkeys(found))


def _detector(form: tuple[str, str]) -> DenseDetector:
    name, override = form
    more = ["model.boxes.kind=general_dfl"] if "joint_v2" in override else []
    no_target = ("quality.kind=none", "quality.kind=softmax_mined")
    more += ["model.box_weight=none"] if override.endswith(no_target) else []
    torch.manual_seed(0)
    recipe = load_recipe(f"{name}_nano", [*([override] if override else []), *more, "model.pretrained=false"])
    return build_detector(recipe, NAMES, pretrained=False).eval()


def _targets(count: int, size: tuple[int, int], seed: int) -> Targets:
    """Objects of 2 to 200 pixels."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.rand(count, 2, generator=generator) * torch.tensor(size[::-1])
    side = 2 * 100 ** torch.rand(count, 2, generator=generator)
    boxes = torch.cat((centre - side / 2, centre + side / 2), 1)
    return Targets(boxes, torch.randint(0, len(NAMES), (count,), generator=generator))


def _case(detector: DenseDetector) -> tuple[Tensor, list[Targets], HeadOutput]:
    """Two images with objects and one without, and outputs such as a trained network has."""
    size = SSD if len(detector.strides) == 7 else SIZE
    targets = [_targets(12, size, 0), Targets.empty(), _targets(3, size, 1)]
    with torch.no_grad():
        out = detector(torch.zeros(3, 3, *size, dtype=torch.uint8))
    generator = torch.Generator().manual_seed(2)
    out = out.map(
        lambda x: (2 * torch.randn(x.shape, generator=generator) - (0.0 if x is out.box else 1.0)).to(x.dtype)
    )
    return torch.zeros(3, 3, *size, dtype=torch.uint8), targets, out


def _moved(out: HeadOutput, device: torch.device) -> HeadOutput:
    return out.map(lambda x: x.detach().to(device, copy=True).requires_grad_())


FORMS = _forms()


@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_assignment_losses_and_gradients(form: tuple[str, str], device: torch.device) -> None:
    detector = _detector(form)
    images, targets, raw = _case(detector)
    size = (images.shape[-2], images.shape[-1])
    sizes = torch.tensor([size, size, (size[0] - 40, size[1] - 70)])
    seen = []
    for where in (torch.device("cpu"), device):
        own, out = copy.deepcopy(detector).to(where), _moved(raw, where)
        assignment = own.assign_batch(images.to(where), targets, out, sizes=sizes)
        if not seen:
            known = assignment
        else:
            assert assignment.labels.device.type == where.type
            differ = (assignment.labels.cpu() != known.labels).float().mean()
            assert differ < 1e-3  # where rounding decides
        # Both learn the same.
        losses = own.losses(out, known.to(where), size)
        learnt = [x for x in vars(out).values() if x is not None]
        slopes = torch.autograd.grad(sum(losses.values()), learnt, allow_unused=True)
        seen.append((losses, slopes))
    (here, slopes), (there, other_slopes) = seen
    assert here.keys() == there.keys()
    for name, value in here.items():
        torch.testing.assert_close(there[name].cpu(), value, rtol=1e-4, atol=1e-5, msg=name)
    for one, other in zip(slopes, other_slopes, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(other.cpu(), one, rtol=1e-3, atol=1e-5)


def partners(some: Detections, others: Detections) -> float:
    """Share of detections that have one of the same class, box and score among the others."""
    if not len(some):
        return 1.0
    if not len(others):
        return 0.0
    same = (some.labels[:, None] == others.labels) & ((some.scores[:, None] - others.scores).abs() < 1e-3)
    return float((same & (aligned_iou(some.boxes[:, None], others.boxes) > 0.99)).any(1).float().mean())


@pytest.mark.parametrize("form", FORMS, ids="-".join)
def test_detections(form: tuple[str, str], device: torch.device) -> None:
    detector = _detector(form)
    images, _, raw = _case(detector)
    raw = raw.map(lambda x: x.detach())
    height, width = images.shape[-2:]
    post = replace(detector.postprocess, score_threshold=0.3)
    found = []
    for where in (torch.device("cpu"), device):
        own, out = copy.deepcopy(detector).to(where), raw.map(lambda x: x.to(where))  # noqa: B023
        points = own.points(height, width)
        found.append(post(out[0], points, own.box_coder, own.quality, height=height, width=width, names=NAMES))
    here, there = found
    assert there.boxes.device.type == device.type
    assert len(here) > 10
    assert min(partners(here, there.cpu()), partners(there.cpu(), here)) > 0.97
    if here.edge_std is not None and there.edge_std is not None and len(here) == len(there):
        torch.testing.assert_close(there.edge_std.mean().cpu(), here.edge_std.mean(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("name", ["gfl_nano", "gfl_r18"])
def test_network(name: str, layout: torch.memory_format, device: torch.device) -> None:
    torch.manual_seed(0)
    detector = build_detector(load_recipe(name, ["model.pretrained=false"]), NAMES, pretrained=False).eval()
    images = torch.randint(0, 256, (2, 3, 128, 160), dtype=torch.uint8)
    with torch.no_grad():
        here = detector(images)
        there = detector.to(device).to(memory_format=layout)(images.to(device))
    for one, other in ((here.class_logits, there.class_logits), (here.box, there.box)):
        torch.testing.assert_close(other.cpu(), one, rtol=1e-3, atol=1e-3)
