"""Recorded answers of an independent implementation, small enough for the repository.

Inputs and weights of the heads were drawn from seeds: they are drawn again here, by numpy alone. Of large answers only
every n-th number is kept; the others are NaN, and ``assert_known`` passes over them.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gfocal.detector import DenseDetector

RECORDED = Path(__file__).resolve().parents[1] / "recorded" / "mmdetection"
HEADS = tuple(json.loads((RECORDED / "inputs.json").read_text()))
WHOLE = ("gfl_r50", "atss_r50", "fcos_r50_giou", "retinanet_r50", "foveabox_r50", "ssd512_vgg16")
KEPT = 60
"""Larger answers are thinned to fewer than twice as many numbers."""
COMPLETE = ("gt_", "det_", "rescaled_")


def draw(recipe: dict[str, Any]) -> np.ndarray:
    """A tensor from what ``inputs.json`` says of it: the seed, how many numbers were drawn before, the scale.

    The numbers are those of torch's generator on a CPU: 24 bits of each word of the Mersenne twister, and for a normal
    distribution Box and Muller's formula on blocks of 16 of them.
    """
    shape = tuple(recipe["shape"])
    if recipe["kind"] == "constant":
        return np.full(shape, recipe["value"], np.float32)
    if recipe["kind"] == "range":
        return np.arange(*shape, dtype=np.float32)
    size, before, scale = int(np.prod(shape)), recipe["before"], recipe["scale"]
    words = np.random.RandomState(recipe["seed"]).randint(0, 2**32, before + size, np.uint32)
    uniform = (words[before:] & 0xFFFFFF) / 2.0**24
    if recipe["kind"] == "uniform":
        return ((2 * uniform - 1) * scale).astype(np.float32).reshape(shape)
    assert recipe["kind"] == "normal"
    assert size % 16 == 0, "the end would be drawn again"
    first, second = uniform.reshape(-1, 2, 8).swapaxes(0, 1)
    radius, angle = np.sqrt(-2 * np.log(1 - first)), 2 * np.pi * second
    x = np.stack((radius * np.cos(angle), radius * np.sin(angle)), 1)
    return (x * scale).astype(np.float32).reshape(shape)


def head_inputs(name: str) -> dict[str, np.ndarray]:
    """Features and weights of a head."""
    return {key: draw(recipe) for key, recipe in json.loads((RECORDED / "inputs.json").read_text())[name].items()}


def known_head(name: str) -> dict[str, np.ndarray]:
    """Inputs, weights and answers of a head of ``HEADS``."""
    return head_inputs(name) | read_answers(RECORDED / f"head_{name}.npz")


def known_whole(model: str) -> dict[str, np.ndarray]:
    """Answers of a whole detector of ``WHOLE``."""
    return read_answers(RECORDED / f"whole_{model}.npz")


def keys_of(model: str) -> Path:
    """The list of the names and shapes of a whole detector's tensors."""
    return RECORDED / f"{model}.txt"


def names_of(network: str) -> Path:
    """The list of the names and shapes of a small network's tensors, those of training alone among them."""
    return RECORDED.parent / "names" / f"{network}.txt"


def assert_published(detector: DenseDetector, answers: Path, *, sigmoid: bool) -> None:
    """The raw outputs on three recorded images are what another runner gave, to 1e-3 of their scale.

    ``sigmoid``: that one's class outputs are probabilities.
    """
    known = np.load(answers)
    images = torch.from_numpy(known["pictures"]).permute(0, 3, 1, 2).flip(1).contiguous()  # the detector takes RGB
    with torch.no_grad():
        out = detector.eval()(images)
    classes = out.class_logits.shape[-1]
    for i in range(len(images)):
        scores = out.class_logits[i].sigmoid() if sigmoid else out.class_logits[i]
        rows, wanted = torch.cat((scores, out.box[i]), 1)[:: int(known["step"])].numpy(), known[f"raw_{i}"]
        for part in (slice(0, classes), slice(classes, None)):
            assert np.abs(rows[:, part] - wanted[:, part]).max() < 1e-3 * np.abs(wanted[:, part]).max()


def thin(answers: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The form in which answers are kept: ``NAME`` if small, or else every n-th number and the shape."""
    kept = {}
    for name, value in answers.items():
        step = (
            value.size // KEPT | 1 if value.dtype.kind == "f" and "det_" not in name and "rescaled_" not in name else 1
        )
        if step < 2:
            kept[name] = value
        else:
            kept[f"{name}|{step}|{'x'.join(map(str, value.shape))}"] = value.reshape(-1)[::step]
    return kept


def read_answers(path: Path) -> dict[str, np.ndarray]:
    """What :func:`write` has kept; the numbers that it has not are NaN."""
    answers = {}
    with np.load(path) as kept:
        for key in kept:
            name, *thinned = key.split("|")
            answers[name] = kept[key]
            if thinned:
                answers[name] = np.full([int(n) for n in thinned[1].split("x")], np.nan, np.float32)
                answers[name].reshape(-1)[:: int(thinned[0])] = kept[key]
    return answers


def write(path: Path, answers: dict[str, np.ndarray]) -> None:
    """A file that is the same byte for byte whenever it is made."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in thin(answers).items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as file:
                np.lib.format.write_array(file, np.ascontiguousarray(value) if value.ndim else value)


def assert_known(value: Tensor | None, expected: np.ndarray | Tensor, tolerance: float) -> None:
    """The largest difference against the largest expected value, over the numbers that are known."""
    assert value is not None
    expected = torch.as_tensor(expected)
    assert value.shape == expected.shape
    known = ~expected.isnan()
    assert known.any()
    ours, theirs = value.detach()[known], expected[known]
    assert float((ours - theirs).abs().max()) <= tolerance * float(theirs.abs().max())
