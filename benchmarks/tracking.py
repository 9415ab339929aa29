"""Does a Kalman tracker gain by knowing how far off each edge may be? On generated tracks, where that is known.

    python benchmarks/tracking.py --model nanodet_m=DIR --data coco_mini    # beside made errors those of a detector
    python benchmarks/tracking.py --bytetrack       # in Roboflow's ByteTrack, too: pip install trackers

Objects move at a constant velocity that changes a little in each frame, and are measured once a frame. The same filter
follows them twice: with a covariance that knows nothing of single edges, either the same for all or proportional to the
sides of the box, chosen from twenty for the smallest error on these very tracks; and with that of each edge, as
gfocal.calibration.box_covariance makes it of deviations, which nobody chose anything for. Error: root mean square over
edges of the position less the true one, pixels, from the tenth frame on.

With --model, a measurement errs as a box of that detector does, drawn at random for each frame from those with a score
of 0.3 and more that find an object on half of the pictures, in shares of the sides; the other half calibrates. Errors
of real films repeat from frame to frame, and these do not. Prints Markdown; writes benchmarks/results/tracking.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from gfocal.calibration import box_covariance

RESULTS = Path(__file__).parent / "results" / "tracking.json"
TRACKS, FRAMES, SETTLED = 500, 60, 10
ACCELERATION = 0.3  # pixels a frame, each frame: of each edge by itself a tenth of it
FACTORS = 2.0 ** np.arange(-6, 4)  # of the mean variance: what is chosen from
LEVELS = (0.68, 0.9)  # of the intervals that deviations are read from
Make = Callable[[np.random.Generator, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(random, (frames, tracks, 4) true boxes) -> errors, and what is said of their deviations."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/trust"), help="where benchmarks/trust.py keeps boxes")
    parser.add_argument("--bytetrack", action="store_true", help="needs the package trackers")
    options = parser.parse_args()
    cases = dict(CASES)
    for given in options.model:
        name, _, path = given.partition("=")
        cases |= {f"{name}: {kind}": make for kind, make in of_a_detector(path, options.data, options.out, name)}
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    columns = ["measured", "nothing known of edges", "each edge", "gain"]
    columns += ["ByteTrack", "ByteTrack, each edge", "gain"] if options.bytetrack else []
    print(f"| errors of edges | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 1)}")
    for name, make in cases.items():
        random = np.random.default_rng(0)
        truth = moving(random)
        errors, std = make(random, truth)
        own = compare(truth, truth + errors, std)
        if options.bytetrack:
            own |= by_bytetrack(truth, truth + errors, std)
        results[name] = results.get(name, {}) | own
        print(f"| {name} | {' | '.join(cells(own))} |", flush=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


# --- the tracks -----------------------------------------------------------------------------------------------------


def moving(random: np.random.Generator) -> np.ndarray:
    """(frames, tracks, 4) true boxes."""
    corner, sides = random.uniform(200, 1000, (TRACKS, 2)), random.uniform(60, 200, (TRACKS, 2))
    boxes = np.concatenate([corner, corner + sides], 1)
    velocity = np.tile(random.normal(size=(TRACKS, 2)) * 4, 2)
    found = []
    for _ in range(FRAMES):
        found.append(boxes)
        together = np.tile(random.normal(size=(TRACKS, 2)), 2)
        velocity = velocity + ACCELERATION * (together + 0.1 * random.normal(size=(TRACKS, 4)))
        boxes = boxes + velocity
    return np.stack(found)


def normal(
    deviations: Callable[[np.random.Generator], np.ndarray], said: Callable[..., np.ndarray] | None = None
) -> Make:
    """Normal errors of these deviations; what is said of them is right, or ``said`` of it."""

    def make(random: np.random.Generator, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        std = deviations(random)
        return std * random.normal(size=truth.shape), std if said is None else said(random, std)

    return make


def differing(random: np.random.Generator) -> np.ndarray:
    """Around 4 pixels, of each edge in each frame by itself: two of three within a factor of 2."""
    return 4 * 2.0 ** random.normal(size=(FRAMES, TRACKS, 4))


def covered(random: np.random.Generator) -> np.ndarray:
    """2 pixels, but 20 for ten frames at an edge that something covers: at any time a sixth of the edges."""
    std = np.full((FRAMES, TRACKS, 4), 2.0)
    for start in range(0, FRAMES, 10):
        std[start : start + 10][:, random.random((TRACKS, 4)) < 1 / 6] = 20.0
    return std


def alike(_: np.random.Generator) -> np.ndarray:
    return np.full((FRAMES, TRACKS, 4), 4.0)


def roughly(random: np.random.Generator, std: np.ndarray) -> np.ndarray:
    """Off by a factor of its own at each edge, two of three within a factor of 2; and by 1.5 as a whole."""
    return 1.5 * std * 2.0 ** random.normal(size=std.shape)


CASES: dict[str, Make] = {
    "differ by a factor of 2, known": normal(differing),
    "differ by a factor of 2, known to a factor of 2": normal(differing, roughly),
    "one of six covered, known": normal(covered),
    "one of six covered, known to a factor of 2": normal(covered, roughly),
    "all alike, known": normal(alike),
    "all alike, said to differ by a factor of 2": normal(alike, roughly),
}


def of_a_detector(path: str, data: Path, out: Path, name: str) -> Iterator[tuple[str, Make]]:
    """Errors of a detector's boxes, with the deviations that it and its calibration say."""
    from gfocal.calibration import fit_edges
    from gfocal.evaluation.trust.samples import matched_samples
    from trust import look  # benchmarks/trust.py; not above: it needs torch

    index, found = look(path, data, "val", out, name)
    matched = matched_samples(index, index.image_ids.tolist(), found)
    assert matched is not None
    first = np.random.default_rng(0).random(len(index)) < 0.5
    learnt, held = (matched.only(mask[matched.edges.images]).edges for mask in (first, ~first))
    assert held.features.scores is not None
    held = held.only(held.features.scores >= 0.3)
    boxes, fitted = held.features.boxes, fit_edges(learnt)
    assert boxes is not None
    assert held.features.edge_std is not None
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    said = {"edge_std": held.features.edge_std}
    for level in LEVELS:
        half = fitted.half_widths(held.features, held.labels, held.names, level)
        said[f"calibrated, from {100 * level:g} %"] = half / NormalDist().inv_cdf((1 + level) / 2)

    def drawn(std: np.ndarray, random: np.random.Generator, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows, own = random.integers(0, len(sides), truth.shape[:2]), np.tile(truth[..., 2:] - truth[..., :2], 2)
        return -(held.errors / sides)[rows] * own, (std / sides)[rows] * own

    return ((kind, partial(drawn, std)) for kind, std in said.items())


# --- the filter -----------------------------------------------------------------------------------------------------


def follow(measured: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """(frames, tracks, 4) where a constant-velocity filter sees the boxes, by covariances (..., 4, 4) of xyxy."""
    step = np.kron([[1.0, 1.0], [0.0, 1.0]], np.eye(4))
    shared = ACCELERATION**2 * (np.kron(np.ones((2, 2)), np.eye(2)) + 0.01 * np.eye(4))
    process = np.kron([[0.0, 0.0], [0.0, 1.0]], shared)
    looks = np.eye(4, 8)
    noise = np.broadcast_to(noise, (*measured.shape, 4))
    state = np.concatenate([measured[0], np.zeros_like(measured[0])], -1)
    spread = np.zeros((len(state), 8, 8))
    spread[:, :4, :4], spread[:, 4:, 4:] = noise[0], 100 * np.eye(4)
    found = [state[:, :4]]
    for position, own in zip(measured[1:], noise[1:], strict=True):
        state, spread = state @ step.T, step @ spread @ step.T + process
        gain = spread @ looks.T @ np.linalg.inv(looks @ spread @ looks.T + own)
        state = state + (gain @ (position - state[:, :4])[..., None])[..., 0]
        spread = spread - gain @ looks @ spread
        found.append(state[:, :4])
    return np.stack(found)


def compare(truth: np.ndarray, measured: np.ndarray, std: np.ndarray) -> dict[str, float]:
    sides = np.tile(measured[..., 2:] - measured[..., :2], 2)
    errors, each = measured - truth, np.eye(4)
    blind = [np.mean(errors**2) * each, np.mean((errors / sides) ** 2) * sides[..., None] ** 2 * each]
    noise = box_covariance(measured.reshape(-1, 4), std.reshape(-1, 4)).reshape(*measured.shape, 4)
    return {
        "measured": error(measured, truth),
        "blind": min(error(follow(measured, factor * own), truth) for own in blind for factor in FACTORS),
        "own": error(follow(measured, noise), truth),
    }


def error(found: np.ndarray, truth: np.ndarray) -> float:
    return round(float(np.sqrt(np.mean((found[SETTLED:] - truth[SETTLED:]) ** 2))), 3)


# --- ByteTrack ------------------------------------------------------------------------------------------------------


def by_bytetrack(truth: np.ndarray, measured: np.ndarray, std: np.ndarray) -> dict[str, float]:
    """Roboflow's ByteTrack on one object at a time, with its own noise and with that of each edge, as large on average.

    Its process noise stays as it is: so only how the noise of measurements is spread over edges is compared.
    """
    import supervision as sv
    from trackers import ByteTrackTracker
    from trackers.utils.state_representations import XYXYStateEstimator

    usual = 0.1  # pixels², of every edge: ByteTrack's own

    class EdgeNoise(XYXYStateEstimator):
        noise: dict[bytes, np.ndarray] = {}  # noqa: RUF012 - shared by all tracks

        def update(self, bbox: np.ndarray | None) -> None:
            if bbox is not None:
                self.set_kf_covariances(measurement_noise=self.noise[bbox.tobytes()])
            super().update(bbox)

    typical, found = float(np.mean(std**2)), {}
    for name, kind in (("bytetrack", XYXYStateEstimator), ("bytetrack_own", EdgeNoise)):
        tracks = []
        for k in range(100):
            tracker, boxes = ByteTrackTracker(state_estimator_class=kind), []
            for position, own in zip(measured[:, k : k + 1], std[:, k : k + 1], strict=True):
                noise = box_covariance(position, own) * usual / typical
                EdgeNoise.noise = {box.tobytes(): each for box, each in zip(position, noise, strict=True)}
                tracker.update(sv.Detections(xyxy=position, confidence=np.ones(1)))
                boxes.append(min(tracker.tracks, key=lambda track: track.time_since_update).get_state_bbox())
            tracks.append(np.stack(boxes))
        found[name] = error(np.stack(tracks, 1), truth[:, :100])
    return found


def cells(own: dict[str, float]) -> list[str]:
    shown = [f"{own[key]:.2f}" for key in ("measured", "blind", "own")] + [gain(own["blind"], own["own"])]
    if "bytetrack" in own:
        shown += [f"{own[key]:.2f}" for key in ("bytetrack", "bytetrack_own")]
        shown.append(gain(own["bytetrack"], own["bytetrack_own"]))
    return shown


def gain(before: float, after: float) -> str:
    return f"{100 * (1 - after / before):.0f} %"


if __name__ == "__main__":
    main()
