"""NanoDet-Plus and PicoDet of our parts are as large as the published ones; their outputs: ``tests/interop``."""

from __future__ import annotations

import pytest

from gfocal.recipe import load_recipe
from gfocal.zoo import build_detector


@pytest.mark.parametrize(
    ("recipe", "numbers"),
    [
        ("nanodet_plus_m", 1_197_924),
        ("nanodet_plus_m_1.5x", 2_477_792),
        ("picodet_s", 992_715),  # published as 0.99, 2.15 and 3.30 million
        ("picodet_m", 2_152_554),
        ("picodet_l", 3_305_009),
        ("picodet_xs_lcnet", 704_254),  # published as 0.70, 1.18, 3.46 and 5.80 million
        ("picodet_s_lcnet", 1_186_492),
        ("picodet_m_lcnet", 3_465_316),
        ("picodet_l_lcnet", 5_804_500),
    ],
)
def test_as_many_numbers_as_published(recipe: str, numbers: int) -> None:
    names = [str(i) for i in range(80)]
    detector = build_detector(load_recipe(recipe), names, pretrained=False)
    assert sum(p.numel() for p in detector.parameters()) == numbers
