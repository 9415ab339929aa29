from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gfocal.errors import UsageError
from gfocal.images import drawing
from gfocal.images.drawing import (
    PARTS,
    SMALLEST_SIDE,
    Part,
    Style,
    _caption,
    colour_of,
    contact_sheet,
    draw,
    text_colour,
)
from gfocal.structures import Detections


def detections(boxes: list[list[float]], std: list[list[float]] | None = None, label: int = 0) -> Detections:
    count = len(boxes)
    return Detections(
        torch.tensor(boxes).reshape(-1, 4),
        torch.linspace(0.9, 0.5, count),
        torch.full((count,), label),
        ("cat", "dog"),
        None if std is None else torch.tensor(std),
    )


def grey(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), (128, 128, 128))


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def changed(image: Image.Image) -> np.ndarray:
    return (pixels(image) != 128).any(-1)


def test_outline_lies_on_the_box_in_the_colour_of_the_class() -> None:
    image = draw(grey(600, 600), detections([[100.0, 200, 300, 500]]), enlarge=False)
    assert image.size == (600, 600)
    for x, y in ((100, 400), (300, 400), (250, 200), (200, 500)):
        assert image.getpixel((x, y)) == colour_of(0)
    assert image.getpixel((200, 350)) == (128, 128, 128)
    assert image.getpixel((400, 400)) == (128, 128, 128)


def test_without_detections_nothing_is_drawn() -> None:
    assert not changed(draw(grey(600, 600), detections([]))).any()


def test_the_input_image_is_left_alone() -> None:
    image = np.full((600, 600, 3), 128, np.uint8)
    draw(image, detections([[10.0, 10, 100, 100]], [[5.0, 5, 5, 5]]))
    assert (image == 128).all()


def difference(box: list[float], std: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels that uncertainty changes."""
    sure = draw(grey(600, 600), detections([box], [[0.0, 0, 0, 0]]), enlarge=False)
    unsure = draw(grey(600, 600), detections([box], [std]), enlarge=False)
    rows, columns = np.nonzero((pixels(sure) != pixels(unsure)).any(-1))
    return rows, columns


def test_an_error_bar_reaches_one_std_to_either_side_of_its_edge() -> None:
    # The right edge lies at x = 400, its middle at y = 300: a thin line from 360 to 440 with caps at its ends.
    rows, columns = difference([200.0, 200, 400, 400], [0.0, 0, 40, 0])
    assert 357 <= columns.min() <= 360
    assert 440 <= columns.max() <= 443
    between = rows[(columns > 370) & (columns < 430)]
    assert 298 <= between.min() < 300 < between.max() <= 302
    assert rows.min() < 295 < 305 < rows.max()  # the caps
    # The bottom edge, y = 400: the same, turned.
    rows, columns = difference([200.0, 200, 400, 400], [0.0, 0, 0, 40])
    assert 357 <= rows.min() <= 360
    assert 440 <= rows.max() <= 443
    between = columns[(rows > 370) & (rows < 390)]
    assert 298 <= between.min() < 300 < between.max() <= 302


def test_an_error_bar_has_the_colour_of_its_box_and_lies_over_the_line() -> None:
    image = draw(grey(600, 600), detections([[200.0, 200, 400, 400]], [[40.0, 0, 0, 0]], label=1), enlarge=False)
    assert {image.getpixel((x, 300)) for x in range(165, 236)} == {colour_of(1)}


def test_sure_edges_and_bars_that_the_line_hides_are_not_marked() -> None:
    # 2 % of 400 pixels are 8.
    assert len(difference([100.0, 100, 500, 500], [7.9, 7.9, 7.9, 7.9])[0]) == 0
    assert len(difference([100.0, 100, 500, 500], [8.1, 0, 0, 0])[0]) > 0
    # Of 50 pixels, 1: no more than the line is wide.
    assert len(difference([100.0, 100, 150, 150], [2.0, 2.0, 2.0, 2.0])[0]) == 0


def test_dirac_boxes_have_no_bars_and_infinite_uncertainty_is_not_drawn() -> None:
    box = [[200.0, 200, 400, 400]]
    plain = draw(grey(600, 600), detections(box))
    infinite = draw(grey(600, 600), detections(box, [[float("inf"), float("nan"), 0.0, 0.0]]))
    assert (pixels(plain) == pixels(infinite)).all()


@pytest.mark.parametrize(("size", "factor"), [((64, 32), 9), ((320, 200), 2), ((560, 10), 1), ((1000, 900), 1)])
def test_small_images_are_enlarged_by_a_whole_number(size: tuple[int, int], factor: int) -> None:
    image = draw(grey(*size), detections([[0.0, 0, 8, 8]]))
    assert image.size == (size[0] * factor, size[1] * factor)
    assert max(image.size) >= SMALLEST_SIDE


def test_boxes_grow_with_an_enlarged_image() -> None:
    image = draw(grey(56, 56), detections([[10.0, 20, 30, 50]]))  # ten times larger
    assert image.getpixel((100, 400)) == colour_of(0)
    assert image.getpixel((300, 400)) == colour_of(0)
    assert image.getpixel((200, 500)) == colour_of(0)


def test_text_and_lines_grow_with_the_image() -> None:
    small = draw(grey(800, 800), detections([[200.0, 200, 600, 600]]))
    large = draw(grey(3200, 3200), detections([[800.0, 800, 2400, 2400]]))
    # Same share of the pixels: the drawing looks the same on the screen.
    assert changed(large).mean() == pytest.approx(changed(small).mean(), rel=0.25)


def test_labels_of_equal_boxes_do_not_cover_each_other() -> None:
    box = [200.0, 200, 400, 400]
    one = draw(grey(600, 600), detections([box]))
    three = draw(grey(600, 600), detections([box] * 3))
    area = changed(one).sum() - _outline_area(one)
    assert changed(three).sum() - _outline_area(three) == pytest.approx(3 * area, rel=0.15)


def _outline_area(image: Image.Image) -> int:
    """Pixels of a band of the outline's width around the box of that test."""
    mask = np.zeros((600, 600), bool)
    mask[196:405, 196:405] = True
    mask[206:395, 206:395] = False
    return int((changed(image) & mask).sum())


@pytest.mark.parametrize(
    "box", [[0.0, 0, 600, 600], [-50.0, -50, 20, 20], [590.0, 590, 600, 600], [300.0, 300, 300, 300]]
)
def test_labels_stay_inside_the_image(monkeypatch: pytest.MonkeyPatch, box: list[float]) -> None:
    places = []
    monkeypatch.setattr(drawing, "_draw_label", lambda canvas, text, place, *_: places.append(place))
    draw(grey(600, 600), detections([box]))
    ((left, top, right, bottom),) = places
    assert 0 <= left < right <= 600
    assert 0 <= top < bottom <= 600
    assert 40 < right - left < 150  # "cat 0.90"


def test_names_that_are_missing_or_long_are_drawn_somehow() -> None:
    found = dataclasses.replace(detections([[10.0, 10, 50, 50]], label=7), names=())
    assert changed(draw(grey(600, 600), found)).any()
    long = dataclasses.replace(detections([[10.0, 10, 50, 50]]), names=("x" * 500,))
    assert not changed(draw(grey(600, 600), long))[:, 400:].any()


def test_colours_of_the_first_classes_differ() -> None:
    colours = [colour_of(i) for i in range(80)]
    assert len(set(colours)) == 80
    first = np.array(colours[:12])
    distance = np.abs(first[:, None] - first[None]).sum(-1) + 1000 * np.eye(12)
    assert distance.min() > 80


def test_contact_sheet_fits_images_into_cells() -> None:
    red, blue = Image.new("RGB", (100, 50), (255, 0, 0)), Image.new("RGB", (50, 100), (0, 0, 255))
    sheet = contact_sheet([red, blue, red], columns=2, cell=60)
    # Two cells of 60 and three gaps of 2 pixels each way.
    assert sheet.size == (126, 126)
    assert sheet.getpixel((2 + 30, 2 + 30)) == (255, 0, 0)
    assert sheet.getpixel((2 + 30, 2 + 5)) == (245, 245, 245)  # above the wide image
    assert sheet.getpixel((64 + 30, 2 + 5)) == (0, 0, 255)
    assert sheet.getpixel((64 + 30, 64 + 30)) == (245, 245, 245)  # the fourth cell is empty


def test_a_box_without_a_score_has_only_its_name() -> None:
    assert _caption(["cell"], 0, math.nan) == "cell"
    assert _caption(["cell"], 0, 0.5) == "cell 0.50"


BOXES = [[100.0, 200, 300, 500], [320.0, 40, 560, 300]]
STD = [[30.0, 0, 0, 0], [0.0, 0, 30, 0]]


def drawn(*parts: Part, **options: Any) -> np.ndarray:
    return changed(draw(grey(600, 600), detections(BOXES, STD), parts=parts, enlarge=False, **options))


def test_each_part_is_drawn_where_it_is_asked_for_and_nowhere_else() -> None:
    outline = np.zeros((600, 600), bool)
    for x1, y1, x2, y2 in np.array(BOXES, int).tolist():
        outline[y1 - 4 : y2 + 5, x1 - 4 : x2 + 5] = True
        outline[y1 + 4 : y2 - 3, x1 + 4 : x2 - 3] = False
    assert not drawn().any()
    only_boxes = drawn("boxes")
    assert only_boxes.any()
    assert not (only_boxes & ~outline).any()
    bars = drawn("edges")
    assert bars[350, 75] and bars[350, 125] and not bars[350, 200]  # noqa: PT018
    assert not drawn("edges")[201:340, 100].any(), "no outline"
    names, scores, both = drawn("names"), drawn("scores"), drawn("names", "scores")
    assert 0 < names.sum() < both.sum()
    assert 0 < scores.sum() < both.sum()
    assert drawn(*PARTS).sum() > max(part.sum() for part in (only_boxes, bars, both))


def test_line_width_and_font_size_are_those_asked_for() -> None:
    # One row across both sides of the first box: a line of w pixels and a hairline on either side of it.
    for width in (1, 4, 9):
        image = draw(grey(600, 600), detections(BOXES[:1]), parts=["boxes"], line_width=width, enlarge=False)
        row = changed(image)[350]
        assert width + 1 <= row[:200].sum() <= width + 3
    small, large = (drawn("names", font_size=size).sum() for size in (12, 36))
    assert large > 4 * small


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": ["boxes", "masks"]}, r"parts must be a list of boxes, names, scores, edges; got 'masks'"),
        ({"parts": "boxes"}, r"got 'boxes'"),
        ({"line_width": 0}, "line_width must be at least 1 pixel, got 0"),
        ({"font_size": -3}, "font_size must be at least 1 pixel, got -3"),
    ],
)
def test_what_cannot_be_drawn_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        draw(grey(60, 60), detections(BOXES), **options)


def test_lines_and_text_are_finer_in_crowds() -> None:
    few, many = Style.of((1000, 1000), [[0, 0, 500, 500]]), Style.of((1000, 1000), [[0, 0, 20, 20]] * 200)
    assert few.line == 4
    assert many.line == 2
    assert few.font.size > many.font.size >= 11
    # Larger images, larger lines; those of 64 pixels have some that leave room.
    assert Style.of((4000, 3000), [[0, 0, 900, 900]]).line == 14
    assert Style.of((64, 48)).line == 1
    assert Style.of((64, 48)).font.size == 6


def test_labels_leave_most_of_an_image_to_be_seen() -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 550, (300, 2))
    crowd = np.concatenate([corner, corner + 40], 1).tolist()
    covered = changed(draw(grey(600, 600), detections(crowd), parts=["names", "scores"], enlarge=False)).mean()
    assert 0.1 < covered < 0.37, "a third, and what rounding to pixels adds"
    # A tiny image that must keep its size: at least the best one has a label.
    tiny = changed(draw(grey(64, 48), detections(BOXES[:1] * 9), parts=["names", "scores"], enlarge=False)).mean()
    assert 0 < tiny < 0.6


@pytest.mark.parametrize("shade", [0, 255])
@pytest.mark.parametrize("label", range(24))
def test_outlines_and_text_can_be_told_from_black_and_from_white(label: int, shade: int) -> None:
    image = draw(Image.new("RGB", (600, 600), (shade,) * 3), detections([[100.0, 100, 500, 500]], label=label))
    outline = pixels(image)[300, 90:110].astype(float)
    contrast = [contrast_of(colour, np.array([shade] * 3)) for colour in outline]
    assert max(contrast) > 3, "W3C's least for graphics"
    ink, ground = (np.array(colour, float) for colour in (text_colour(colour_of(label)), colour_of(label)))
    assert contrast_of(ink, ground) > 3


def contrast_of(first: np.ndarray, second: np.ndarray) -> float:
    """Of two sRGB colours, as W3C's WCAG 2 defines it: 1 for equal ones, 21 for black and white."""

    def luminance(colour: np.ndarray) -> float:
        share = colour / 255
        linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)
