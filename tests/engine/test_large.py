"""The published size on a CPU: one training step and one prediction of gfl_r50 within 24 GiB."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest

# In a process of its own, so that the peak is its peak.
SCRIPT = """
import json, resource, time
import torch
from gfocal.recipe import load_recipe
from gfocal.structures import Targets
from gfocal.zoo import build_detector

recipe = load_recipe("gfl_r50", ["model.pretrained=false"])
detector = build_detector(recipe, [f"class {i}" for i in range(80)]).to(memory_format=torch.channels_last)
pictures = torch.randint(0, 256, (2, 3, 800, 1344), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
targets = [Targets(torch.tensor([[100.0, 100, 500, 700], [20, 30, 60, 90]]), torch.tensor([3, 7])), Targets.empty()]
optimizer = torch.optim.SGD(detector.parameters(), lr=0.01)
started = time.perf_counter()
detector.train()
matched = detector.match(pictures, targets)
losses = detector.losses(detector(pictures), matched, (800, 1344))
sum(losses.values()).backward()
optimizer.step()
step = time.perf_counter() - started
assert detector.resize.target_size(600, 1000) == (800, 1333)
started = time.perf_counter()
found = detector.predict(torch.randint(0, 256, (3, 600, 1000), dtype=torch.uint8), score_threshold=0.001)
print(json.dumps({
    "losses": {name: value.item() for name, value in losses.items()},
    "step_seconds": round(step, 1),
    "predict_seconds": round(time.perf_counter() - started, 1),
    "found": len(found),
    "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
}))
"""


@pytest.mark.slow
def test_r50_at_800x1333_trains_and_predicts_on_a_cpu() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    report = json.loads(run.stdout)
    print(report)
    assert report["peak_gib"] < 24
    assert report["found"] == 100
    # QFL of 44,800 x 80 outputs at p = 0.01, over the positives, is small.
    assert 0 < report["losses"]["cls"] < 5
    assert 0 < report["losses"]["box"] <= 4
    # Uniform bins cost log 17 each, a quarter counts, and the weights (scores of 0.01) add up to less than 1.
    assert 0.1 < report["losses"]["dfl"] <= 0.25 * math.log(17) + 0.01
