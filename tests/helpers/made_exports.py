"""What an exported file may say about itself."""

from __future__ import annotations

from gfocal.exported.contract import ExportInfo, ResizeRule, Thresholds

INFO = ExportInfo(
    names=("cat", "dog"),
    resize=ResizeRule("short_long", 320, 40, 60, (1, 2, 3)),
    thresholds=Thresholds(0.05, 1000, 0.5, 100, 0.0, False),
    tiling=None,
    nms="in",
    precision="fp32",
    outputs=("boxes", "scores", "labels", "edge_std", "count"),
    batch=None,
    height=None,
    width=None,
    value_range="type",
    category_ids=None,
    recipe={},
    versions={"gfocal": "0"},
    opset=20,
)
