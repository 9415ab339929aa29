"""Do calibrated intervals hold what they promise, and are calibrated scores chances? On images that were not used.

    python benchmarks/trust.py --model nanodet_m=weights/nanodet_m --data coco_mini --out runs/trust

Each model looks once at every image of a split; what it finds is kept in --out, and a second call reads it. Then, 20
times: half of the images, drawn at random, calibrate; the other half measures. Tables have the means over the 20
halves, and the smallest and largest coverage of single halves. Prints Markdown; benchmarks/results/trust.json gets
the models by name.

`signed` has two quantiles an edge, for errors to either side, on the scale that was taken: what asymmetric intervals
would gain. `score >= 0.3` counts the boxes that `gfocal predict` shows.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import gfocal
from gfocal.calibration import conformal_quantile, fit_edges, fit_scores
from gfocal.calibration.edges import intervals
from gfocal.calibration.edges_fit import REPORTED
from gfocal.calibration.measures import inside, interval_score
from gfocal.data.index.data_index import DataIndex
from gfocal.detections import Detections
from gfocal.evaluation import CocoEvaluator
from gfocal.evaluation.trust.samples import MatchedSamples, matched_samples, score_samples
from gfocal.evaluation.trust.tables import IntervalTable, ScoreRow, interval_table, score_row
from gfocal.utils.progress import ProgressBar

RESULTS = Path(__file__).parent / "results" / "trust.json"
LEVEL = 0.9
FIELDS = ("boxes", "scores", "labels", "edge_std", "edge_probs", "levels")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, metavar="NAME=PATH")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--out", type=Path, default=Path("runs/trust"))
    parser.add_argument("--halves", type=int, default=20)
    options = parser.parse_args()
    results = {}
    for given in options.model:
        name, _, path = given.partition("=")
        index, found = look(path, options.data, options.split, options.out, name)
        results[name] = measure(index, found, options.halves)
    print_tables(results)
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps(known | results, indent=1) + "\n")


def look(path: str, data: Path, split: str, out: Path, name: str) -> tuple[DataIndex, list[Detections]]:
    """What a model finds on each image, from the cache in ``out`` where it is there."""
    cache = out / f"{name}-{data.name}-{split}.npz"
    detector = gfocal.load(path)
    index = gfocal.open_dataset(data, split).with_classes(detector.names)
    if not cache.exists():
        found = []
        with ProgressBar(len(index), cache.stem) as bar:
            for i in range(len(index)):
                found.append(detector.predict(str(index.path(i))).numpy())
                bar.callback(i + 1, len(index))
        columns = {name: [getattr(one, name) for one in found] for name in FIELDS}
        known = {name: np.concatenate(values) for name, values in columns.items() if values[0] is not None}
        cache.parent.mkdir(parents=True, exist_ok=True)
        np.savez(cache, **known, ends=np.cumsum([len(one) for one in found]), ids=index.image_ids)
    stored = np.load(cache)
    if not np.array_equal(stored["ids"], index.image_ids):
        raise SystemExit(f"{cache} is of other images: remove it")
    parts = np.split(np.arange(stored["ends"][-1]), stored["ends"][:-1])
    columns = {name: stored[name] for name in FIELDS if name in stored}
    return index, [
        Detections(
            names=detector.names,
            image_size=(int(index.heights[i]), int(index.widths[i])),
            **{name: values[rows] for name, values in columns.items()},
        )
        for i, rows in enumerate(parts)
    ]


def measure(index: DataIndex, found: list[Detections], halves: int) -> dict[str, Any]:
    matched = matched_samples(index, index.image_ids.tolist(), found)
    assert matched is not None
    evaluator = CocoEvaluator(index)
    evaluator.update(index.image_ids.tolist(), found)
    scores = score_samples(evaluator.findings())
    random, rows = np.random.default_rng(0), []
    for _ in range(halves):
        first = np.zeros(len(index), bool)
        first[random.permutation(len(index))[: len(index) // 2]] = True
        chances = fit_scores(scores.of_images(first), resamples=0)
        unseen = scores.of_images(~first)
        rows.append(
            {
                **edge_rows(matched, first),
                "scores_before": score_numbers(score_row(unseen, unseen.scores)),
                "scores_after": score_numbers(score_row(unseen, chances.of(unseen.scores))),
            }
        )
    every = fit_scores(scores, resamples=0)
    mapped = CocoEvaluator(index)
    changed = [replace(one, scores=every.of(one.scores)) for one in found]  # type: ignore[arg-type]
    mapped.update(index.image_ids.tolist(), changed)
    ap = [one.compute().stats["AP"] for one in (evaluator, mapped)]
    kinds = [row.pop("scale") for row in rows]
    return {
        "pictures": len(index),
        "objects": int(scores.objects.sum()),
        "matches": len(matched.sizes),
        "scales": {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        "ap": ap,
        **averaged(rows),
    }


def edge_rows(matched: MatchedSamples, first: np.ndarray) -> dict[str, Any]:
    """Fitted on the first half, measured on the other."""
    learnt, held = (matched.only(mask[matched.edges.images]) for mask in (first, ~first))
    rows: dict[str, Any] = {}
    for name, kinds in (("calibrated", None), ("constant", ("constant",)), ("size", ("size",)), ("std", ("edge_std",))):
        if name == "std" and matched.edges.features.edge_std is None:
            continue
        fitted = fit_edges(learnt.edges, kinds=kinds)  # type: ignore[arg-type]
        own = held.edges

        def widths(level: float, whole: bool, fitted: Any = fitted, own: Any = own) -> np.ndarray:
            found: np.ndarray = fitted.half_widths(own.features, own.labels, own.names, level, whole_box=whole)
            return found

        rows[name] = table_numbers(interval_table(held, widths, REPORTED, LEVEL))
        if kinds is None:
            rows["scale"] = fitted.scale.kind
            rows["signed"] = signed(learnt, held, fitted)
            assert own.features.scores is not None
            shown = held.only(own.features.scores >= 0.3)
            hits = inside_of(shown, widths(LEVEL, False)[own.features.scores >= 0.3])
            rows["score >= 0.3"] = {"edges": float(hits.mean()), "matches": len(hits)}
    return rows


def inside_of(samples: MatchedSamples, half_widths: np.ndarray) -> np.ndarray:
    own = samples.edges
    assert own.features.boxes is not None
    return inside(intervals(own.features.boxes, half_widths, own.features.limits), own.features.boxes + own.errors)


def signed(learnt: MatchedSamples, held: MatchedSamples, fitted: Any) -> dict[str, float]:
    """Quantiles of errors to either side, half of what may be outside on each."""
    scaled = learnt.edges.errors / fitted.scale.of(learnt.edges.features, len(learnt.sizes))
    share = (1 + LEVEL) / 2
    low = np.array([conformal_quantile(-scaled[:, k], share) for k in range(4)])
    high = np.array([conformal_quantile(scaled[:, k], share) for k in range(4)])
    own = held.edges
    boxes, scale = own.features.boxes, fitted.scale.of(own.features, len(held.sizes))
    assert boxes is not None
    found = np.clip(np.stack([boxes - low * scale, boxes + high * scale], -1), 0, own.features.limits[..., None])  # type: ignore[index]
    truth = boxes + own.errors
    return {"edges": float(inside(found, truth).mean()), "score": float(interval_score(found, truth, LEVEL).mean())}


def table_numbers(table: IntervalTable) -> dict[str, Any]:
    levels = {
        f"{row.level:g}": {
            "edges": row.edges.share,
            "box": row.box.share,
            **{name: share.share for name, share in zip(("left", "top", "right", "bottom"), row.each, strict=True)},
            "width": row.width,
            "score": row.score,
            "box_width": row.box_width,
        }
        for row in table.levels
    }
    groups = {
        group.name: {"edges": group.edges.share, "box": group.box.share, "width": group.width, "score": group.score}
        for group in (*table.sizes, *table.classes)
    }
    return {"levels": levels, "groups": groups}


def score_numbers(row: ScoreRow) -> dict[str, float]:
    return {"d_ece": row.d_ece, "la_ece": row.la_ece, "brier": row.brier, "lrp": row.lrp}


def averaged(rows: list[Any]) -> Any:
    """The mean of numbers at the same place; of coverages the range, too. A class may lack in some halves."""
    found: dict[str, Any] = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [row[key] for row in rows if key in row]
        if isinstance(values[0], dict):
            found[key] = averaged(values)
        else:
            found[key] = round(float(np.mean(values)), 5)
            if key in ("edges", "box"):
                found[f"{key}_range"] = [round(float(end(values)), 4) for end in (np.min, np.max)]
    return found


def print_tables(results: dict[str, Any]) -> None:
    for name, own in results.items():
        scales = ", ".join(f"{kind} {count} times" for kind, count in own["scales"].items())
        print(f"\n### {name}: {own['pictures']} pictures, {own['matches']:,} of {own['objects']:,} objects found\n")
        print(f"Scale taken: {scales}.\n")
        print("| level | edges | left / top / right / bottom | width | interval score | below constant | below size |")
        print("|---|---|---|---|---|---|---|")
        for level, row in own["calibrated"]["levels"].items():
            each = " / ".join(percent(row[edge]) for edge in ("left", "top", "right", "bottom"))
            gains = (1 - row["score"] / own[other]["levels"][level]["score"] for other in ("constant", "size"))
            shown = f"{row['width']:.1f} | {row['score']:.1f} | {' | '.join(f'{100 * gain:.0f} %' for gain in gains)}"
            print(f"| {float(level):.0%} | {percent(row['edges'])} | {each} | {shown} |")
        print("\n| level | whole boxes | width | constant: boxes, width | size: boxes, width |\n|---|---|---|---|---|")
        for level, row in own["calibrated"]["levels"].items():
            others = (own[other]["levels"][level] for other in ("constant", "size"))
            shown = " | ".join(f"{percent(other['box'])}, {other['box_width']:.1f}" for other in others)
            print(f"| {float(level):.0%} | {percent(row['box'])} | {row['box_width']:.1f} | {shown} |")
        print(
            f"\n| at {LEVEL:.0%} | edges | lowest and highest half | whole boxes | lowest and highest half |\n"
            + "|---" * 5
            + "|"
        )
        groups = {"all": own["calibrated"]["levels"][f"{LEVEL:g}"], **own["calibrated"]["groups"]}
        for group, row in groups.items():
            ends = [" to ".join(percent(end) for end in row[f"{what}_range"]) for what in ("edges", "box")]
            print(f"| {group} | {percent(row['edges'])} | {ends[0]} | {percent(row['box'])} | {ends[1]} |")
        shown_ = own["score >= 0.3"]
        print(f"| score >= 0.3 | {percent(shown_['edges'])} | {' to '.join(map(percent, shown_['edges_range']))} | | |")
        score = {
            kind: own[kind]["levels"]["0.9"]["score"]
            for kind in ("constant", "size", "std", "calibrated")
            if kind in own
        }
        print("\nInterval score at 90 %: " + ", ".join(f"{kind} {value:.1f}" for kind, value in score.items()), end="")
        print(f"; signed quantiles {own['signed']['score']:.1f}.\n")
        print("| scores | before | after |\n|---|---|---|")
        for title, key in (("D-ECE", "d_ece"), ("LaECE", "la_ece"), ("Brier", "brier"), ("LRP", "lrp")):
            print(f"| {title} | {own['scores_before'][key]:.4f} | {own['scores_after'][key]:.4f} |")
        print(f"| AP | {own['ap'][0]:.4f} | {own['ap'][1]:.4f} |")


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


if __name__ == "__main__":
    main()
