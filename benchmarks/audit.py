"""How well suspicions of labels find planted faults, beside ranking by IoU and by score alone, and beside ObjectLab.

    python benchmarks/audit.py --model nanodet_plus=weights/nanodet_plus_m_416 --data coco_mini --out runs/audit

A model looks once at every image of a split; what it finds is kept in --out, and a second call reads it. Then faults
are planted into 10 % of the labels, five times: each kind's AUROC against labels without a fault, and precision among
the 50 most suspect. Prints Markdown; benchmarks/results/audit.json gets the
model by name.

`--objectlab PYTHON` names an interpreter that has cleanlab (AGPL: it is run as a program of its own, on the same
detections and labels; nothing here imports it). Its scores of boxes are taken: of places, of classes, of overlooked
objects. It has none for duplicates and labels of nothing: there its score of places is shown. `objectlab` has its usual
thresholds of scores, 0.95 and 0.5, `objectlab low` 0.5 and 0.3: scores of QFL are expected IoUs, which are lower.

`iou`: 1 less the largest IoU with a detection of the label's class that scores at least 0.3. `score`: 1 less the best
score of a detection of its class with an IoU of at least 0.5; of missing labels, the score of the detection.
"""

from __future__ import annotations

import argparse
import json
import pickle
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from gfocal.evaluation.audit.labels import Labels
from gfocal.evaluation.audit.measure import auroc, precision_at
from gfocal.evaluation.audit.planting import KINDS, NONE
from gfocal.evaluation.audit.trial import Trial, attempt
from gfocal.evaluation.overlaps import box_ious
from trust import look

RESULTS = Path(__file__).parent / "results" / "audit.json"
METHODS = ("gfocal", "iou", "score", "objectlab", "objectlab low")
THRESHOLDS = {"objectlab": (0.95, 0.5), "objectlab low": (0.5, 0.3)}
SEEDS = range(100, 105)
_OBJECTLAB = """
import pickle, sys, warnings
warnings.filterwarnings("ignore")
from cleanlab.object_detection import rank
given = pickle.load(open(sys.argv[1], "rb"))
options = dict(labels=given["labels"], predictions=given["predictions"])
high, low = given["thresholds"]
found = {
    "place": rank.compute_badloc_box_scores(**options, low_probability_threshold=low),
    "class": rank.compute_swap_box_scores(**options, high_probability_threshold=high),
    "overlooked": rank.compute_overlooked_box_scores(**options, high_probability_threshold=high),
}
plain = {name: [[float(value) for value in one] for one in values] for name, values in found.items()}
pickle.dump(plain, open(sys.argv[2], "wb"))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="NAME=PATH")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--out", type=Path, default=Path("runs/audit"))
    parser.add_argument("--objectlab", metavar="PYTHON")
    options = parser.parse_args()
    name, _, path = options.model.partition("=")
    index, found = look(path, options.data, options.split, options.out, name)
    by_id = dict(zip(index.image_ids.tolist(), found, strict=True))
    results: dict[str, dict[str, list[tuple[float | None, float | None]]]] = {
        kind: {method: [] for method in METHODS} for kind in KINDS
    }
    for seed in SEEDS:
        trial = attempt(Labels.of(index), by_id, 0.1, seed)
        others = {
            method: objectlab(trial, options.objectlab, thresholds)
            for method, thresholds in THRESHOLDS.items()
            if options.objectlab
        }
        for kind in KINDS:
            for method in METHODS:
                if method not in THRESHOLDS or method in others:
                    results[kind][method].append(measured(trial, kind, method, others.get(method)))
    table = {
        kind: {method: [means(values, 0), means(values, 1)] for method, values in own.items() if values}
        for kind, own in results.items()
    }
    print(f"{name} on {options.split} of {options.data.name}, {len(index)} pictures, {len(SEEDS)} plantings\n")
    print_table(table)
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps(known | {name: table}, indent=1) + "\n")


def means(values: list[tuple[float | None, float | None]], which: int) -> float | None:
    known = [one[which] for one in values if one[which] is not None]
    return round(float(np.mean(known)), 3) if known else None


def measured(
    trial: Trial, kind: str, method: str, other: dict[str, np.ndarray] | None
) -> tuple[float | None, float | None]:
    if kind == "missing":
        scores, faulty = overlooked(trial, method, other)
    else:
        scores, faulty = labels_of_kind(trial, kind, method, other)
    return auroc(scores, faulty), precision_at(scores, faulty)


def labels_of_kind(
    trial: Trial, kind: str, method: str, other: dict[str, np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Suspicions of labels with a fault of that kind, and of those without any; of twins the planted one alone."""
    own, planted = trial.suspicion, trial.planted
    gfocal = {"edge": own.edge, "class": own.wrong_class, "duplicate": own.duplicate, "spurious": own.spurious}
    if method == "gfocal":
        scores = gfocal[kind]
    elif method in THRESHOLDS:
        assert other is not None
        scores = -other["class" if kind == "class" else "place"]
    else:
        scores = simple(trial)[method]
    use = planted.labels.real & ((planted.kind == NONE) | (planted.kind == KINDS.index(kind)))  # type: ignore[arg-type]
    if kind == "duplicate":
        use[originals(trial)] = False
    return scores[use], planted.kind[use] != NONE


def originals(trial: Trial) -> np.ndarray:
    """Labels that a planted duplicate is a copy of: they are part of the fault."""
    labels, found = trial.planted.labels, []
    for row in np.flatnonzero(trial.planted.kind == KINDS.index("duplicate")).tolist():
        others = np.flatnonzero((labels.rows == labels.rows[row]) & (trial.planted.kind == NONE))
        if len(others):
            found.append(others[box_ious(labels.clipped[row][None], labels.clipped[others])[0].argmax()])
    return np.array(found, np.int64)


def simple(trial: Trial) -> dict[str, np.ndarray]:
    evidence, labels = trial.evidence, trial.planted.labels
    starts, ends = labels.box_start, np.searchsorted(evidence.rows, np.arange(len(labels.image_ids) + 1))
    iou, score = np.zeros(len(labels)), np.zeros(len(labels))
    for row in range(len(labels.image_ids)):
        mine, theirs = slice(starts[row], starts[row + 1]), slice(ends[row], ends[row + 1])
        ious = box_ious(labels.clipped[mine], evidence.boxes[theirs])
        ious = ious * (labels.labels[mine][:, None] == evidence.classes[theirs])
        iou[mine] = (ious * (evidence.scores[theirs] >= 0.3)).max(1, initial=0)
        score[mine] = ((ious >= 0.5) * evidence.scores[theirs]).max(1, initial=0)
    return {"iou": 1 - iou, "score": 1 - score}


def overlooked(trial: Trial, method: str, other: dict[str, np.ndarray] | None) -> tuple[np.ndarray, np.ndarray]:
    """Of every removed object its most suspect detection, none ranking last; the other detections are no faults."""
    evidence, planted = trial.evidence, trial.planted
    if method == "gfocal":
        scores = trial.suspicion.missing
    elif method in THRESHOLDS:
        assert other is not None
        scores = -other["overlooked"]
    elif method == "score":
        scores = evidence.scores
    else:
        labels, covered = planted.labels, np.zeros(len(evidence.rows))
        for row in np.unique(evidence.rows).tolist():
            mine = evidence.rows == row
            covered[mine] = box_ious(evidence.boxes[mine], labels.clipped[labels.rows == row]).max(1, initial=0)
        scores = 1 - covered
    use, found = np.ones(len(scores), bool), []
    for box, row in zip(planted.removed_boxes, planted.removed_rows, strict=True):
        mine = np.flatnonzero(evidence.rows == row)
        near = mine[box_ious(box[None], evidence.boxes[mine])[0] >= 0.5]
        use[near] = False
        found.append(scores[near].max(initial=scores.min() - 1))
    return np.concatenate([scores[use], found]), np.arange(use.sum() + len(found)) >= use.sum()


def objectlab(trial: Trial, python: str, thresholds: tuple[float, float]) -> dict[str, np.ndarray]:
    """Scores of boxes, the smaller the worse: of labels and, of overlooked objects, of detections."""
    evidence, labels = trial.evidence, trial.planted.labels
    given: dict[str, Any] = {"labels": [], "predictions": [], "thresholds": thresholds}
    order = []
    for row in range(len(labels.image_ids)):
        mine = labels.rows == row
        given["labels"].append({"bboxes": labels.clipped[mine], "labels": labels.labels[mine]})
        theirs = np.flatnonzero(evidence.rows == row)
        classes = [theirs[evidence.classes[theirs] == label] for label in range(len(labels.names))]
        boxes = [np.concatenate([evidence.boxes[own], evidence.scores[own, None]], 1) for own in classes]
        prediction = np.empty(len(boxes), object)
        prediction[:] = boxes
        given["predictions"].append(prediction)
        order.append(np.concatenate(classes))
    with tempfile.TemporaryDirectory() as folder:
        one, two = Path(folder) / "given", Path(folder) / "found"
        one.write_bytes(pickle.dumps(given))
        subprocess.run([python, "-W", "ignore", "-c", _OBJECTLAB, str(one), str(two)], check=True)
        found = pickle.loads(two.read_bytes())  # written by the line above
    missing = np.ones(len(evidence.rows))
    for rows, values in zip(order, found["overlooked"], strict=True):
        missing[rows] = np.nan_to_num(np.array(values, float), nan=1.0) if len(values) == len(rows) else 1.0
    flat = {name: np.concatenate([np.array(one, float) for one in found[name]]) for name in ("place", "class")}
    return {**{name: np.nan_to_num(values, nan=1.0) for name, values in flat.items()}, "overlooked": missing}


def print_table(table: dict[str, dict[str, list[float | None]]]) -> None:
    methods = list(next(iter(table.values())))
    print("| fault | " + " | ".join(f"{method}" for method in methods) + " |")
    print("|" + "---|" * (len(methods) + 1))
    for kind, own in table.items():
        cells = ["-" if auc is None else f"{auc:.3f} / {first:.2f}" for auc, first in own.values()]
        print(f"| {kind} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
