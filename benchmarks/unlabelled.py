"""How far labels that are missing hold AP down: what a detector finds where no label is.

    python benchmarks/unlabelled.py MODEL --data path/to/bccd --sheet sheet.png

AP of a model on a split, and AP without its detections that lie on no label (IoU below --apart with each of them): what
it would be at most if all of them were right. Whether they are, people see: the sheet shows 40 of them that score at
least --score, drawn by chance, in red, with the labels around them in green.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torchvision.ops import box_iou

import gfocal
from gfocal.data.index.data_index import DataIndex
from gfocal.evaluation import CocoEvaluator

COLUMNS, ROWS, SIDE = 8, 5, 148  # pixels a crop
AROUND = 1.2  # of the longer side of a box, to either side


def labels_of(index: DataIndex, row: int) -> np.ndarray:
    return np.asarray(index.boxes[index.box_start[row] : index.box_start[row + 1]], np.float32)


def crop(path: Path, box: list[float], labels: np.ndarray, words: str) -> Image.Image:
    image = Image.open(path).convert("RGB")
    draw = ImageDraw.Draw(image)
    for label in labels.tolist():
        draw.rectangle(label, outline=(0, 160, 0), width=2)
    draw.rectangle(box, outline=(255, 0, 0), width=2)
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    reach = AROUND * max(box[2] - box[0], box[3] - box[1], 40)
    part = image.crop((round(x - reach), round(y - reach), round(x + reach), round(y + reach))).resize((SIDE, SIDE))
    ImageDraw.Draw(part).text((2, 2), words, fill=(255, 0, 0))
    return part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", choices=("train", "val", "test"), default="val")
    parser.add_argument("--apart", type=float, default=0.1, help="IoU below which a detection lies on no label")
    parser.add_argument("--score", type=float, default=0.4, help="of detections that are counted and shown")
    parser.add_argument("--sheet", type=Path, help="a picture of some of them")
    asked = parser.parse_args()
    detector, index = gfocal.load(asked.model), gfocal.open_dataset(asked.data, asked.split)
    every, placed = CocoEvaluator(index), CocoEvaluator(index)
    on_label, on_none = 0, list[tuple[int, list[float], str]]()
    for row, image_id in enumerate(index.image_ids.tolist()):
        found, labels = detector.predict(index.path(row)), torch.from_numpy(labels_of(index, row))
        boxes = torch.as_tensor(found.boxes).float()
        best = box_iou(boxes, labels).amax(1) if len(labels) else torch.zeros(len(boxes))
        kept = best >= asked.apart
        every.update([image_id], [found])
        placed.update([image_id], [gfocal.Detections(found.boxes[kept], found.scores[kept], found.labels[kept])])
        clear = found.scores >= asked.score
        on_label += int((clear & (best >= 0.5)).sum())
        for i in (clear & ~kept).nonzero().flatten().tolist():
            words = f"{index.names[int(found.labels[i])][:12]} {float(found.scores[i]):.2f}"
            on_none.append((row, boxes[i].tolist(), words))
    print(f"{len(on_none)} detections that score {asked.score} or more lie on no label, {on_label} on one (IoU 0.5)")
    print("| | AP | AP50 | AP75 | " + " | ".join(index.names) + " |\n" + "|---" * (4 + len(index.names)) + "|")
    for title, evaluator in (("all detections", every), ("without those on no label", placed)):
        result = evaluator.compute().to_dict()
        values = [*(result[key] for key in ("AP", "AP50", "AP75")), *result["per_class"].values()]
        print(f"| {title} | " + " | ".join("-" if value is None else f"{value:.3f}" for value in values) + " |")
    if asked.sheet is not None:
        sheet = Image.new("RGB", (COLUMNS * (SIDE + 2), ROWS * (SIDE + 2)))
        shown = random.Random(0).sample(on_none, min(COLUMNS * ROWS, len(on_none)))
        for place, (row, box, words) in enumerate(shown):
            at = (place % COLUMNS * (SIDE + 2), place // COLUMNS * (SIDE + 2))
            sheet.paste(crop(index.path(row), box, labels_of(index, row), words), at)
        sheet.save(asked.sheet)
        print(asked.sheet)


if __name__ == "__main__":
    main()
