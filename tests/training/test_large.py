"""The published sizes on a CPU: one training step and one prediction of every published row within 24 GiB."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest

# In a process of its own, so that the peak is its peak.
SCRIPT = """
import json, resource, sys, time
import torch
from gfocal.recipe import load_recipe
from gfocal.structures import Targets
from gfocal.zoo import build_detector

torch.manual_seed(0)
recipe = load_recipe(sys.argv[1], ["model.pretrained=false"])
height, width = (512, 512) if recipe.data.resize.kind == "square" else (800, 1344)
detector = build_detector(recipe, [f"class {i}" for i in range(80)]).to(memory_format=torch.channels_last)
generator = torch.Generator().manual_seed(0)
pictures = torch.randint(0, 256, (2, 3, height, width), dtype=torch.uint8, generator=generator)
targets = [Targets(torch.tensor([[100.0, 100, 500, 500], [20, 30, 60, 90]]), torch.tensor([3, 7])), Targets.empty()]
optimizer = torch.optim.SGD(detector.parameters(), lr=recipe.optim.lr / 16)
started = time.perf_counter()
detector.train()
assignment = detector.assign_batch(pictures, targets)
losses = detector.losses(detector(pictures), assignment, (height, width))
sum(losses.values()).backward()
optimizer.step()
step = time.perf_counter() - started

def gradient(part):
    named = detector.named_parameters()
    return sum(p.grad.norm().item() for name, p in named if name.startswith(part) and p.grad is not None)

started = time.perf_counter()
found = detector.predict(torch.randint(0, 256, (3, 600, 1000), dtype=torch.uint8), score_threshold=0.001)
print(json.dumps({
    "target_size": detector.resize.target_size(600, 1000),
    "losses": {name: value.item() for name, value in losses.items()},
    "positives": len(assignment.positive),
    "missed": assignment.missed,
    "gradients": {part: gradient(part) for part in ("backbone", "neck", "head.class_out", "head.box_out")},
    "step_seconds": round(step, 1),
    "predict_seconds": round(time.perf_counter() - started, 1),
    "found": len(found),
    "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
}))
"""
TERMS = {
    "fcos_r50": {"cls", "quality", "box"},
    "atss_r50": {"cls", "quality", "box"},
    "gfl_r50": {"cls", "box", "dfl"},
    "retinanet_r50": {"cls", "box"},
    "foveabox_r50": {"cls", "box"},
    "ssd512_vgg16": {"cls", "box"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TERMS)
def test_a_published_row_trains_and_predicts_on_a_cpu(name: str) -> None:
    ssd = name == "ssd512_vgg16"
    run = subprocess.run([sys.executable, "-c", SCRIPT, name], capture_output=True, text=True, check=True)
    report = json.loads(run.stdout)
    print(name, report)
    assert report["target_size"] == ([512, 512] if ssd else [800, 1333])
    assert report["peak_gib"] < 24
    assert report["found"] == (200 if ssd else 100)
    assert report["missed"] == 0  # both objects have points
    assert all(0 < norm < math.inf for norm in report["gradients"].values())
    losses = report["losses"]
    assert losses.keys() == TERMS[name]
    assert all(math.isfinite(value) and value > 0 for value in losses.values())
    if ssd:
        # Uniform over 81 classes: log 81 for each positive and for three negatives each. The features of the first
        # level have a norm of 20, so it is not quite uniform.
        assert 0.5 < losses["cls"] / (4 * math.log(81)) < 10
    else:
        # At p = 0.01 a positive of focal loss costs .25 (.99)^2 log 100 = 1.13 and more than that of the negatives'
        # thousandths; QFL less. Much more would mean that the start is not at 0.01.
        assert losses["cls"] < 5
    if name == "gfl_r50":
        # Uniform bins cost log 17 each, a quarter counts, and the weights (scores of 0.01) add up to less than 1.
        assert 0.1 < losses["dfl"] <= 0.25 * math.log(17) + 0.01
    if "quality" in losses:
        assert math.log(2) * 0.7 < losses["quality"] < math.log(2) * 1.3  # a branch near 0 says one half
