"""What variance voting brings: AP, AP50, AP75 and AP90 with and without, the same raw outputs for all.

    python benchmarks/voting.py --data path/to/coco_mini runs/nanodet_m runs/nanodet_plus_m_416 runs/picodet_s_320

Each image goes through a network once; its raw outputs become detections with each scale of `predict.voting`. AP is
hotcoco's, as `gfocal eval` has it. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import hotcoco
import torch
from torch import Tensor

import gfocal
from gfocal.structures import HeadOutput

SCALES = (None, 0.005, 0.01, 0.02, 0.05)
COLUMNS = ("AP", "AP50", "AP75", "AP90")


def detections(model: str, annotations: Path, images: Path, most: int) -> dict[float | None, list[dict[str, Any]]]:
    """COCO result entries by scale."""
    detector = gfocal.load(model)
    content = json.loads(annotations.read_text())
    ids = {category["name"]: category["id"] for category in content["categories"]}
    forward, last = detector.forward, dict[str, Any]()

    def once(batch: Tensor) -> HeadOutput:
        if "out" not in last:
            last["out"] = forward(batch)
        return last["out"]  # type: ignore[no-any-return]

    detector.forward = once
    found: dict[float | None, list[dict[str, Any]]] = {scale: [] for scale in SCALES}
    for image in content["images"][:most]:
        last.clear()
        for scale in SCALES:
            detector.postprocess = replace(detector.postprocess, voting=scale)
            one = detector.predict(images / image["file_name"])
            found[scale] += one.to_coco(image["id"], [ids[name] for name in one.names])
    return found


def measured(annotations: Path, results: list[dict[str, Any]], most: int) -> dict[str, float]:
    truth = hotcoco.COCO(str(annotations))
    evaluation = hotcoco.COCOeval(truth, truth.load_res(results), "bbox")
    evaluation.params.img_ids = [image["id"] for image in json.loads(annotations.read_text())["images"][:most]]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # IoU x recall x class

    def mean(thresholds: slice) -> float:
        part = precision[thresholds]
        return float(part[part > -1].mean())

    return dict(zip(COLUMNS, map(mean, (slice(None), slice(0, 1), slice(5, 6), slice(8, 9))), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--data", type=Path, required=True, help="has annotations/val.json and images/")
    parser.add_argument("--images", type=int, default=10**9, help="of the split, at most")
    options = parser.parse_args()
    torch.set_grad_enabled(False)
    annotations = options.data / "annotations" / "val.json"
    print(f"| model | `predict.voting` | {' | '.join(COLUMNS)} |\n|---|---|{'---|' * len(COLUMNS)}")
    for model in options.models:
        for scale, results in detections(model, annotations, options.data / "images", options.images).items():
            numbers = measured(annotations, results, options.images)
            cells = " | ".join(f"{numbers[column]:.4f}" for column in COLUMNS)
            print(f"| {Path(model).name} | {'null' if scale is None else scale} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
