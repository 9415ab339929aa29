"""Windows: where they lie, what they keep, and that boxes go where the pixels go."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.ops import box_iou
from torchvision.transforms import v2

from gfocal.data.augment.crops import MIN_IOUS, Window, blank, iou_crop, paint, zoom_out
from gfocal.data.augment.draws import CanvasDraws
from gfocal.structures import Targets

GREY = (124, 116, 104)


def boxes_of(*boxes: tuple[float, ...]) -> Targets:
    return Targets(torch.tensor(boxes, dtype=torch.float32), torch.arange(len(boxes)))


def ramp(height: int, width: int) -> torch.Tensor:
    """Red counts columns, green rows, blue is 200 everywhere."""
    columns, rows = torch.arange(width).expand(height, -1), torch.arange(height)[:, None].expand(-1, width)
    return torch.stack([columns, rows, torch.full((height, width), 200)]).to(torch.uint8)


def test_zoom_out_by_hand() -> None:
    # Factor 1 + 3 * 0.5 = 2.5: 25 x 50. Of 15 and 30 free pixels 0.5 and 0.2 lie before the image: 7 and 6.
    assert zoom_out(20, 10, CanvasDraws(0.5, 0.5, 0.2)) == Window(-7, -6, 25, 50)
    assert zoom_out(20, 10, CanvasDraws(0.0, 0.9, 0.9)) == Window(0, 0, 10, 20)
    largest = zoom_out(20, 10, CanvasDraws(0.999999, 0.999999, 0.999999))
    assert largest == Window(-28, -58, 39, 79)


SHARE = st.floats(0, 1, exclude_max=True)


@given(height=st.integers(1, 300), width=st.integers(1, 300), draws=st.tuples(*[SHARE] * 3))
def test_a_zoom_out_holds_the_image(height: int, width: int, draws: tuple[float, float, float]) -> None:
    window = zoom_out(height, width, CanvasDraws(*draws))
    assert window.left <= 0
    assert window.top <= 0
    assert window.left + window.width >= width
    assert window.top + window.height >= height
    assert window.width <= 4 * width
    assert window.height <= 4 * height


def test_painting_whole_pixels_by_hand() -> None:
    # A window from (-2, -1), 6 wide and 4 high, of an image 3 wide and 2 high, in its own size.
    image, boxes = ramp(2, 3), torch.tensor([[1.0, 0.5, 3.0, 2.0]])
    shown, moved = paint(image, boxes, Window(-2, -1, 6, 4), (4, 6), (9, 8, 7))
    expected = blank((4, 6), (9, 8, 7))
    assert expected[:, 3, 5].tolist() == [9, 8, 7]
    expected[:, 1:3, 2:5] = image
    assert torch.equal(shown, expected)
    assert moved.tolist() == [[3.0, 1.5, 5.0, 3.0]]


def test_painting_a_part_by_hand() -> None:
    # Columns 1..4 and rows 2..3 at double size: x -> (x - 1) * 2, y -> (y - 2) * 2.
    image, boxes = ramp(6, 6), torch.tensor([[0.0, 2.0, 3.5, 6.0]])
    shown, moved = paint(image, boxes, Window(1, 2, 4, 2), (4, 8), GREY)
    assert shown.shape == (3, 4, 8)
    assert moved.tolist() == [[-2.0, 0.0, 5.0, 8.0]]
    assert shown[0, 0, 0] == 1
    assert shown[0, 0, -1] == 4
    assert shown[1, -1, 0] == 3


def test_what_is_less_than_a_pixel_stays_in_sight() -> None:
    # The last 1 of 200 columns and rows, 0.15 pixels of the result, becomes its last pixel, and so does the box.
    image, whole = torch.full((3, 9, 9), 50, dtype=torch.uint8), torch.tensor([[0.0, 0, 1, 1]])
    shown, moved = paint(image, whole, Window(-199, -199, 200, 200), (30, 30), GREY)
    assert shown[:, 29, 29].tolist() == [50, 50, 50]
    assert shown[:, 28, 29].tolist() == shown[:, 29, 28].tolist() == list(GREY)
    assert moved.tolist() == [[29.0, 29.0, 30.0, 30.0]]


def test_nothing_of_the_image_in_sight() -> None:
    shown, moved = paint(ramp(5, 5), torch.tensor([[1.0, 1, 3, 3]]), Window(-20, 0, 10, 10), (20, 20), GREY)
    assert torch.equal(shown, blank((20, 20), GREY))
    # x -> (x + 20) * 2: to the right of the 20 pixels.
    assert moved.tolist() == [[42.0, 2.0, 46.0, 6.0]]


@settings(max_examples=150, deadline=None)
@given(
    left=st.integers(-60, 60),
    top=st.integers(-60, 60),
    width=st.integers(40, 200),
    height=st.integers(40, 200),
    size=st.tuples(st.integers(30, 90), st.integers(30, 90)),
)
@example(left=79, top=69, width=200, height=200, size=(30, 30))  # a last column of the image, less than a pixel wide
@example(left=-199, top=-199, width=200, height=200, size=(30, 30))
def test_boxes_follow_the_pixels(left: int, top: int, width: int, height: int, size: tuple[int, int]) -> None:
    image = torch.zeros(3, 70, 80, dtype=torch.uint8)
    image[:, 20:60, 30:70] = 255
    shown, boxes = paint(image, torch.tensor([[30.0, 20, 70, 60]]), Window(left, top, width, height), size, (0, 0, 0))
    assert shown.shape == (3, *size)
    assert shown.stride()[0] == 1, "channels-last strides make the next step fast"
    limit = torch.tensor([size[1], size[0]]).repeat(2)
    box = boxes[0].clamp(min=0).minimum(limit)
    if (box[2:] - box[:2] < 1.5).any():
        return
    rows, columns = (shown[0] >= 128).any(1).nonzero(), (shown[0] >= 128).any(0).nonzero()
    extent = torch.tensor([columns[0, 0], rows[0, 0], columns[-1, 0] + 1, rows[-1, 0] + 1])
    assert (box - extent).abs().max() <= 1


CASES = [
    boxes_of((100, 80, 220, 200)),
    boxes_of((0, 0, 30, 30), (280, 180, 300, 200), (140, 90, 160, 110)),
    boxes_of((10.5, 20.25, 290.5, 180.75), (0, 0, 8, 8)),
]


@pytest.mark.parametrize("targets", CASES, ids=["one", "small", "large"])
def test_crops_keep_the_rules(targets: Targets) -> None:
    whole, seen = Window(0, 0, 300, 200), set[float]()
    for seed in range(300):
        window, kept = iou_crop(targets, whole, seed)
        box = window.box.float()
        assert (box[:2] >= 0).all()
        assert (box[2:] <= torch.tensor([300, 200])).all()
        if window == whole:
            assert torch.equal(kept.boxes, targets.boxes)
            continue
        assert 90 <= window.width <= 300
        assert 60 <= window.height <= 200
        assert 0.5 <= window.width / window.height <= 2
        centres = (targets.boxes[:, :2] + targets.boxes[:, 2:]) / 2
        inside = ((centres > box[:2]) & (centres < box[2:])).all(1)
        assert kept.labels.tolist() == targets.labels[inside].tolist()
        assert len(kept) >= 1
        clipped = torch.cat([targets.boxes[:, :2].maximum(box[:2]), targets.boxes[:, 2:].minimum(box[2:])], 1)
        assert torch.equal(kept.boxes, clipped[inside])
        assert (kept.boxes[:, 2:] > kept.boxes[:, :2]).all()
        seen.add(float(box_iou(box[None], targets.boxes[inside]).max()))
    assert len(seen) > 50, "crops differ"


def test_only_the_centre_decides_however_little_is_left() -> None:
    # A tall box: its centre is inside, of its length less than a fifth stays.
    targets, shares = boxes_of((145, 0, 155, 1000), (0, 0, 300, 1000)), []
    for seed in range(400):
        kept = iou_crop(targets, Window(0, 0, 300, 1000), seed)[1]
        if 0 in kept.labels:
            shares.append(float((kept.boxes[0, 3] - kept.boxes[0, 1]) / 1000))
    assert min(shares) < 0.35


@pytest.mark.parametrize("targets", CASES, ids=["one", "small", "large"])
def test_crops_are_as_large_as_torchvisions(targets: Targets) -> None:
    count, whole = 150, Window(0, 0, 300, 200)
    sample = {
        "image": tv_tensors.Image(torch.zeros(3, 200, 300, dtype=torch.uint8)),
        "boxes": tv_tensors.BoundingBoxes(targets.boxes, format="XYXY", canvas_size=(200, 300)),
    }
    torch.manual_seed(0)
    theirs = [v2.RandomIoUCrop()(sample) for _ in range(count)]
    ours = [iou_crop(targets, whole, seed) for seed in range(count)]
    their_areas = torch.tensor([float(s["image"].shape[-1] * s["image"].shape[-2]) for s in theirs]) / 60000
    our_areas = torch.tensor([float(window.width * window.height) for window, _ in ours]) / 60000
    # Areas have a standard deviation of about 0.3: of the difference of two means over 150 it is 0.035.
    assert abs(their_areas.mean() - our_areas.mean()) < 0.11
    assert abs((their_areas == 1).float().mean() - (our_areas == 1).float().mean()) < 0.14
    their_kept = sum(int((s["boxes"].amax(1) > 0).sum()) for s in theirs) / count
    assert abs(their_kept - sum(len(kept) for _, kept in ours) / count) < 0.35


def test_the_least_iou_is_asked_of_one_box_inside() -> None:
    # Nine pixels in ten thousand: no crop (of a ninth at least) has an IoU of 0.1 with it, so only 0 and None remain.
    tiny = boxes_of((48, 48, 51, 51))
    whole = sum(iou_crop(tiny, Window(0, 0, 100, 100), seed)[0] == Window(0, 0, 100, 100) for seed in range(600))
    assert 0.4 < whole / 600 < 0.6
    # The whole image: crops reach 0.9 too. One draw in seven leaves it whole.
    everything = boxes_of((0, 0, 100, 100))
    areas = [iou_crop(everything, Window(0, 0, 100, 100), seed)[0] for seed in range(600)]
    whole = sum(window == Window(0, 0, 100, 100) for window in areas)
    assert 0.1 < whole / 600 < 0.35
    # IoU here is the share of the area. Below 0.1 needs two sides near 0.3 and the choice of 0.
    shares = torch.tensor([window.width * window.height / 1e4 for window in areas])
    assert (shares < 0.3).float().mean() < 0.35
    assert len(MIN_IOUS) == 7


def test_a_crop_may_stand_anywhere_and_the_last_place_is_one_before_the_border() -> None:
    # As in torchvision: floor(free pixels * a number below 1).
    whole = Window(-3, -2, 12, 12)
    lefts: dict[int, set[int]] = {side: set() for side in range(13)}
    tops: dict[int, set[int]] = {side: set() for side in range(13)}
    for seed in range(1500):
        part = iou_crop(boxes_of((-3, -2, 9, 10)), whole, seed)[0]
        lefts[part.width].add(part.left)
        tops[part.height].add(part.top)
    for side in (7, 8, 9, 10):
        assert lefts[side] == set(range(-3, -3 + 12 - side))
        assert tops[side] == set(range(-2, -2 + 12 - side))


def test_a_crop_of_a_zoom_out_may_show_the_canvas() -> None:
    targets, outside = boxes_of((5, 5, 25, 25)), 0
    for seed in range(100):
        window, kept = iou_crop(targets, Window(-40, -30, 100, 90), seed)
        assert window.left >= -40
        assert window.top >= -30
        assert window.left + window.width <= 60
        assert window.top + window.height <= 60
        assert len(kept) == 1
        outside += window.left < 0
    assert outside > 20


def test_without_boxes_and_tiny_images() -> None:
    assert iou_crop(Targets.empty(), Window(0, 0, 50, 50), 3)[0] == Window(0, 0, 50, 50)
    for side in range(1, 8):
        for seed in range(20):
            window, kept = iou_crop(boxes_of((0, 0, side, side)), Window(0, 0, side, side), seed)
            assert window.width >= 1
            assert window.height >= 1
            assert len(kept) == 1


def test_the_seed_is_all_that_is_random() -> None:
    state = torch.get_rng_state()
    one, other = (iou_crop(CASES[1], Window(0, 0, 300, 200), 5) for _ in range(2))
    assert one[0] == other[0]
    assert torch.equal(torch.get_rng_state(), state)
