"""COCO -> YOLO -> VOC -> COCO: the 12 numbers of one set of detections on the ground truth after each step.

python benchmarks/format_round_trip.py DATA      # DATA: a COCO data set with a val split
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from gfocal.data.formats.convert import write_dataset
from gfocal.data.formats.open import open_dataset
from gfocal.data.formats.sidecar import NAME
from gfocal.data.index.data_index import DataIndex
from gfocal.evaluation.coco import CocoEvaluator
from gfocal.structures import Detections

Found = dict[str, tuple[np.ndarray, np.ndarray, list[str]]]  # file name: boxes, scores, class names


def make_detections(index: DataIndex, seed: int = 0) -> Found:
    """Five of six objects with an error of 5 % of their sides, three false boxes an image, four inside each crowd."""
    rng = np.random.default_rng(seed)
    found: Found = {}
    for i in range(len(index)):
        own = slice(int(index.box_start[i]), int(index.box_start[i + 1]))
        boxes, labels = np.asarray(index.boxes[own], np.float64), np.asarray(index.labels[own])
        crowd = np.asarray(index.crowd[own])
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        kept = ~crowd & (rng.random(len(boxes)) < 5 / 6)
        near = (boxes + rng.normal(0, 0.05, boxes.shape) * sides)[kept]
        inside = np.repeat(boxes[crowd], 4, axis=0)
        low, length = rng.random((len(inside), 2)) * 0.6, np.tile(inside[:, 2:] - inside[:, :2], 2)
        inside = np.tile(inside[:, :2], 2) + length * np.concatenate([low, low + 0.3], 1)
        size = np.array([index.widths[i], index.heights[i]] * 2, np.float64)
        false = rng.random((3, 4)) * size / 2
        false[:, 2:] += false[:, :2] + 2
        classes = np.concatenate([labels[kept], np.repeat(labels[crowd], 4), rng.integers(0, len(index.names), 3)])
        scores = np.concatenate([rng.uniform(0.2, 1, len(near)), rng.uniform(0.5, 1, len(inside)), rng.random(3) * 0.7])
        order = np.argsort(-scores)
        names = [index.names[label] for label in classes[order].tolist()]
        found[index.file_name(i)] = np.concatenate([near, inside, false])[order], scores[order], names
    return found


def measure(index: DataIndex, found: Found) -> dict[str, float]:
    """The 12 numbers; images and classes are matched by name, since ids may be lost."""
    label = {name: number for number, name in reversed(list(enumerate(index.names)))}
    # A class that VOC lost has no objects: its false boxes count nowhere.
    evaluator = CocoEvaluator(index)
    for i in range(len(index)):
        boxes, scores, names = found[index.file_name(i)]
        known = np.array([name in label for name in names], bool)
        labels = torch.tensor([label[name] for name in names if name in label], dtype=torch.int64)
        kept = Detections(torch.from_numpy(boxes[known]), torch.from_numpy(scores[known]), labels)
        evaluator.update([int(index.image_ids[i])], [kept])
    return evaluator.compute().stats


def steps(first: DataIndex, folder: Path, *, sidecar: bool) -> dict[str, tuple[DataIndex, list[str]]]:
    """The ground truth after each step, and what was said to be lost there."""
    result: dict[str, tuple[DataIndex, list[str]]] = {"COCO": (first, [])}
    index = first
    for fmt, title in (("yolo", "YOLO"), ("voc", "VOC"), ("coco", "COCO again")):
        lost = write_dataset({"val": index}, folder / fmt, fmt, copy=False)  # type: ignore[arg-type]
        if not sidecar:
            (folder / fmt / NAME).unlink(missing_ok=True)
        index = open_dataset(folder / fmt, "val")
        result[title] = (index, lost)
    return result


def direct(first: DataIndex, folder: Path, fmt: str) -> DataIndex:
    """COCO -> one format, without the sidecar."""
    write_dataset({"val": first}, folder / f"direct-{fmt}", fmt, copy=False)  # type: ignore[arg-type]
    (folder / f"direct-{fmt}" / NAME).unlink()
    return open_dataset(folder / f"direct-{fmt}", "val")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    first = open_dataset(parser.parse_args().data, "val")
    found = make_detections(first)
    wanted = measure(first, found)
    names = list(wanted)
    print(f"| ground truth | {' | '.join(names)} | equal |\n|---|{'---|' * (len(names) + 1)}")

    def row(title: str, index: DataIndex) -> None:
        stats = measure(index, found)
        equal = sum(stats[name] == wanted[name] for name in names)
        print(f"| {title} | {' | '.join(f'{stats[name]:.4f}' for name in names)} | {equal} of {len(names)} |")

    lines: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        row("COCO", first)
        for sidecar in (True, False):
            word = "with" if sidecar else "without"
            for title, (index, lost) in list(steps(first, Path(place, word), sidecar=sidecar).items())[1:]:
                row(f"{title}, {word} sidecar", index)
                lines += [f"{title}: {line}" for line in lost] if sidecar else []
        row("COCO -> VOC, without sidecar", direct(first, Path(place), "voc"))
    print("\nlost without the sidecar:\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
