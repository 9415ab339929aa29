"""The graph that is exported, run by torch itself: what it finds is what the detector finds, for every kind of part."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gfocal.detector import DenseDetector
from gfocal.export.graph import DetectorGraph
from gfocal.export.pt2_file import suppression
from gfocal.models.deformable import DeformableConv
from gfocal.recipe.reading import recipe_names
from gfocal.representation.quality.joint_v2 import JointV2
from helpers.exporting import NAMES, SQUARE, small_square, stirred
from helpers.small_runs import small

OTHERS = {
    "gfl v2": ("model.quality.kind=joint_v2",),
    "gaussian": ("model.boxes.kind=gaussian",),
    "dirac": ("model.boxes.kind=dirac",),
    "iou branch": ("model.quality.kind=iou",),
    "depthwise": ("model.head=depthwise",),
    "one class for all": ("predict.class_agnostic=true",),
    "no threshold": ("predict.score_threshold=0.0", "predict.pre_nms_top_k=30"),
}


ROWS = [name for name in recipe_names() if name.endswith("_nano")]


def outputs_of(detector: DenseDetector, images: Tensor, sizes: Tensor, **options: bool) -> dict[str, Tensor]:
    graph = DetectorGraph(detector, suppression(detector.postprocess, len(detector.names)), **options)
    with torch.no_grad():
        return graph(images.permute(0, 2, 3, 1), sizes)


def check(detector: DenseDetector, images: Tensor, sizes: Tensor) -> None:
    """The graph gives what the detector finds, row by row, and nothing but filling behind it."""
    found = outputs_of(detector, images, sizes, edge_probs=True)
    wanted = detector.detect(images, sizes)
    assert found["count"].tolist() == [len(one) for one in wanted]
    assert found["count"].sum() > 0
    for i, one in enumerate(wanted):
        count = len(one)
        assert torch.equal(found["labels"][i, :count], one.labels)
        torch.testing.assert_close(found["scores"][i, :count], one.scores, rtol=0, atol=1e-6)
        torch.testing.assert_close(found["boxes"][i, :count], one.boxes, rtol=0, atol=1e-4)
        for name in ("edge_std", "edge_probs"):
            values = getattr(one, name)
            assert (name in found) == (values is not None), name
            if values is not None:
                torch.testing.assert_close(found[name][i, :count], values, rtol=0, atol=1e-4)
        for name, values in found.items():
            if name != "count":
                filling = -1 if name == "labels" else 0
                assert (values[i, count:] == filling).all(), name


IMAGES = torch.randint(0, 256, (3, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
SIZES = torch.tensor([[64, 96], [40, 96], [64, 33]])


@pytest.mark.parametrize("row", ROWS)
def test_every_row(row: str) -> None:
    check(stirred(small(*SQUARE, name=row)), IMAGES, SIZES)


@pytest.mark.parametrize("keys", OTHERS.values(), ids=OTHERS)
def test_every_kind_of_part(keys: tuple[str, ...]) -> None:
    check(stirred(small_square(*keys)), IMAGES, SIZES)


def test_a_level_of_fewer_pairs_than_are_kept() -> None:
    detector = stirred(small_square())
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    check(detector, images, torch.tensor([[32, 32]]))


def test_an_image_where_nothing_is_found_is_all_filling() -> None:
    detector = stirred(small_square())
    for layer in detector.head.output_layers("class"):
        layer.bias.sub_(1000)
    found = outputs_of(detector, torch.zeros(2, 3, 64, 64, dtype=torch.uint8), torch.tensor([[64, 64]] * 2))
    assert found["count"].tolist() == [0, 0]
    assert found["boxes"].abs().sum() == 0
    assert (found["labels"] == -1).all()


def test_without_suppression_every_candidate_is_given_best_first() -> None:
    detector = stirred(small_square("predict.pre_nms_top_k=50"))
    with torch.no_grad():
        found = DetectorGraph(detector, None)(
            torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8), torch.tensor([[64, 64]])
        )
    levels = len(detector.strides)
    assert found["boxes"].shape == (1, 50 * levels, 4)
    count = int(found["count"])
    assert count > detector.postprocess.max_detections / 2
    scores = found["scores"][0, :count]
    assert (scores[:-1] >= scores[1:]).all()
    assert (scores > detector.postprocess.score_threshold).all()


def test_only_the_network_computes_in_half_precision() -> None:
    from gfocal.export.formats import _halved

    detector = stirred(small_square("model.quality.kind=joint_v2"))
    half = _halved(detector)
    assert {p.dtype for part in (half.backbone, half.neck, half.head) for p in part.parameters()} == {torch.float16}
    assert next(half.quality.parameters()).dtype == torch.float32  # type: ignore[attr-defined]
    assert next(detector.backbone.parameters()).dtype == torch.float32
    images, sizes = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8), torch.tensor([[64, 64]])
    found = outputs_of(half, images, sizes, half=True)
    assert {values.dtype for values in found.values()} == {torch.float32, torch.int64}
    assert len(NAMES) > found["labels"].max()


class _QualityAlone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.quality = JointV2(8)

    def forward(self, box: Tensor) -> Tensor:
        return self.quality.quality_logits(box)


@pytest.mark.parametrize(
    ("module", "given"),
    [
        (_QualityAlone(), torch.randn(1, 5, 32)),
        (DeformableConv(nn.Conv2d(4, 4, 3, padding=1)), torch.randn(1, 4, 8, 8)),
    ],
    ids=["gfl v2", "deformable"],
)
def test_no_region_of_autocast_is_written_down(module: nn.Module, given: Tensor) -> None:
    """torch.export makes an operator of such a region, and no reader of .pt2 files takes it."""
    wanted = module(given)
    program = torch.export.export(module, (given,))
    assert "autocast" not in str(program.graph)
    torch.testing.assert_close(program.module()(given), wanted)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # outside of a graph it is in force
        torch.testing.assert_close(module(given), wanted)
