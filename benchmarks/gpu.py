"""Training and inference on a GPU, beside torchvision's detectors: images a second, memory, share of the card's peak.

    python benchmarks/gpu.py --minutes 2 --out /tmp/gpu.json     # the card must have nothing else to do
    python benchmarks/gpu.py --tiny --out /tmp/gpu.json          # tries all of it on a CPU

Synthetic images and boxes lie on the device already: the question is what the network, its losses and its
post-processing cost. Networks of random values find nothing, so post-processing costs its least. All that compete run
in one process, and every entry is written as soon as it is measured.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

import harness
from gfocal.recipe import load_recipe
from gfocal.structures import Targets
from gfocal.zoo import build_detector

PEAK = {"NVIDIA H100": 989e12, "NVIDIA H200": 989e12}
"""Dense bf16 FLOP/s by the start of the device's name, as the maker gives them."""
OBJECTS, CLASSES = 7, 80  # of an image, as in COCO
LARGE, SMALL = (800, 1333), (320, 320)
FROM_TORCHVISION = ("fcos_resnet50_fpn", "retinanet_resnet50_fpn_v2")
SECTIONS = ("forward", "loss", "backward", "optimizer")


@dataclass(frozen=True)
class Case:
    """What is timed.

    Attributes:
        model: a recipe, or a detector of torchvision.
        mode: "train" or "infer".
        batch: images of a step.
        size: (height, width) in pixels.
        precision: "bf16" or "fp32" (with TF32 in convolutions, as torch has it).
        channels_last: memory layout.
        compiled: whether the network goes through torch.compile.
    """

    model: str
    mode: str
    batch: int
    size: tuple[int, int]
    precision: str = "bf16"
    channels_last: bool = True
    compiled: bool = False

    @property
    def name(self) -> str:
        layout = "channels-last" if self.channels_last else "contiguous"
        return f"{self.model} {self.mode} {self.batch} {self.precision} {layout}{' compiled' * self.compiled}"


@dataclass
class Entry:
    """What was measured of a case.

    Attributes:
        case: its fields.
        ms: median milliseconds of a step; None where it failed.
        spread: half the distance of the quartiles over the median, in percent.
        images_per_second: of the median step.
        gflop: of a step, multiplications and additions; counted by torch.
        peak_share: of the card's bf16 peak; None for an unknown card.
        memory_gib: at the step's peak.
        sections: milliseconds of a step, on the device's clock, by part.
        kernels: the longest, with their share of the time on the device.
        failed: why there is no time.
    """

    case: dict[str, Any]
    ms: float | None = None
    spread: float | None = None
    images_per_second: float | None = None
    gflop: float | None = None
    peak_share: float | None = None
    memory_gib: float | None = None
    sections: dict[str, float] = field(default_factory=dict)
    kernels: list[tuple[str, float]] = field(default_factory=list)
    failed: str | None = None


Step = Callable[[], object]


def cases(tiny: bool) -> list[Case]:
    """What is most worth knowing first."""
    large, small = ((64, 64), (64, 64)) if tiny else (LARGE, SMALL)
    two, many = (1, (2,)) if tiny else (8, (16, 64))
    found = [Case(model, "train", two, large) for model in ("gfl_r50", *FROM_TORCHVISION)]
    found += [Case("gfl_nano", "train", batch, small) for batch in many]
    found += [Case(model, "infer", two, large) for model in ("gfl_r50", *FROM_TORCHVISION)]
    found += [Case("gfl_nano", "infer", batch, small) for batch in many]
    found += [Case("gfl_r50", mode, two, large, channels_last=False) for mode in ("train", "infer")]
    found += [Case("gfl_nano", "train", many[-1], small, channels_last=False)]
    found += [Case("gfl_r50", "train", two, large, "fp32"), Case("gfl_nano", "train", many[0], small, "fp32")]
    found += [Case("gfl_r50", "infer", 1, large), Case("gfl_nano", "infer", 1, small)]
    compiled = (("gfl_nano", many[-1], small), ("gfl_r50", two, large))
    return found + [Case(m, mode, n, size, compiled=True) for mode in ("infer", "train") for m, n, size in compiled]


def ground_truth(case: Case, device: torch.device) -> list[Targets]:
    """Objects of the sizes that COCO has; the same for every model."""
    generator = torch.Generator().manual_seed(0)
    height, width = case.size
    found = []
    for _ in range(case.batch):
        centre = torch.rand(OBJECTS, 2, generator=generator) * torch.tensor([width, height])
        side = 0.02 * 25 ** torch.rand(OBJECTS, 2, generator=generator) * min(case.size)
        low, high = (centre - side / 2).clamp(min=0), centre + side / 2
        boxes = torch.cat((low, high.minimum(torch.tensor([float(width), float(height)]))), 1)
        boxes[:, 2:] = boxes[:, 2:].maximum(boxes[:, :2] + 2)
        found.append(Targets(boxes, torch.randint(0, CLASSES, (OBJECTS,), generator=generator)).to(device))
    return found


def step_of(case: Case, device: torch.device) -> tuple[Step, nn.Module]:
    """A function that does one step, and the module that it does it with."""
    make = _torchvision if case.model in FROM_TORCHVISION else _gfocal
    return make(case, device)


def _gfocal(case: Case, device: torch.device) -> tuple[Step, nn.Module]:
    torch.manual_seed(0)
    # All of it learns, as torchvision's do without weights of their backbone.
    recipe = load_recipe(case.model, ["model.pretrained=false", "model.frozen_stages=0", "model.norm_eval=false"])
    detector = build_detector(recipe, [f"class {i}" for i in range(CLASSES)], pretrained=False).to(device)
    detector = detector.to(memory_format=_layout(case)).train(case.mode == "train")
    images = _images(case, device)
    # The host has the boxes: a loader hands them over.
    targets = [target.to("cpu") for target in ground_truth(case, device)]
    size = (images.shape[-2], images.shape[-1])
    if case.compiled:
        detector.forward = torch.compile(detector.forward, dynamic=False)  # type: ignore[method-assign]
    if case.mode == "infer":
        return partial(_detect, case, device, lambda: detector.detect(images)), detector
    optimizer = _optimizer(detector)

    def step() -> None:
        with record_function("## forward"), _autocast(case, device):
            out = detector(images)
        with record_function("## loss"):
            losses = detector.losses(out, detector.assign_batch(images, targets, out), size)
            total = torch.stack(list(losses.values())).sum()
        _learn(total, optimizer)

    return step, detector


def _torchvision(case: Case, device: torch.device) -> tuple[Step, nn.Module]:
    import torchvision

    torch.manual_seed(0)
    # Its own resizing would change the size; random weights: nothing is fetched.
    short, long = min(case.size), max(case.size)
    build = getattr(torchvision.models.detection, case.model)
    options = {"weights": None, "weights_backbone": None, "num_classes": CLASSES + 1, "trainable_backbone_layers": 5}
    model = build(**options, min_size=short, max_size=long).to(device)
    model = model.to(memory_format=_layout(case)).train(case.mode == "train")
    images = list(_images(case, device).float() / 255)
    if case.mode == "infer":
        return partial(_detect, case, device, lambda: model(images)), model
    targets = [{"boxes": target.boxes, "labels": target.labels + 1} for target in ground_truth(case, device)]
    optimizer = _optimizer(model)

    def step() -> None:
        # Its forward pass has the losses in it.
        with record_function("## forward"), _autocast(case, device):
            total = torch.stack(list(model(images, targets).values())).sum()
        _learn(total, optimizer)

    return step, model


def _images(case: Case, device: torch.device) -> Tensor:
    """uint8; padded to multiples of 32, as both toolkits do."""
    generator = torch.Generator().manual_seed(1)
    height, width = (-(-side // 32) * 32 for side in case.size)
    images = torch.randint(0, 256, (case.batch, 3, height, width), dtype=torch.uint8, generator=generator)
    return images.to(device, memory_format=torch.channels_last)


def _layout(case: Case) -> torch.memory_format:
    return torch.channels_last if case.channels_last else torch.contiguous_format


@contextmanager
def _autocast(case: Case, device: torch.device) -> Iterator[None]:
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=case.precision == "bf16"):
        yield


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4, momentum=0.9)


def _learn(total: Tensor, optimizer: torch.optim.Optimizer) -> None:
    with record_function("## backward"):
        total.backward()
    with record_function("## optimizer"):
        optimizer.step()
        optimizer.zero_grad()


@torch.no_grad()
def _detect(case: Case, device: torch.device, find: Step) -> None:
    with _autocast(case, device):
        find()


def measure(case: Case, device: torch.device, seconds: float) -> Entry:
    """Time one case for about so long; what fails is an entry too."""
    entry = Entry({**asdict(case), "name": case.name})
    try:
        _measure(entry, case, device, seconds)
    except Exception as error:  # the next one may work
        entry.failed = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if case.compiled:
        torch.compiler.reset()
    return entry


def _measure(entry: Entry, case: Case, device: torch.device, seconds: float) -> None:
    step, model = step_of(case, device)
    if not case.compiled:  # a compiled network hides its operations
        with FlopCounterMode(display=False) as counter:
            step()
        entry.gflop = counter.get_total_flops() / 1e9
    for _ in range(3 if seconds else 1):
        step()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < (5 if seconds else 2) or (time.perf_counter() < end and len(times) < 200):
        _wait(device)
        begin = time.perf_counter()
        step()
        _wait(device)
        times.append(time.perf_counter() - begin)
    median = statistics.median(times)
    low, _, high = statistics.quantiles(times, n=4, method="inclusive")
    entry.ms, entry.spread = 1e3 * median, 50 * (high - low) / median
    entry.images_per_second = case.batch / median
    if device.type == "cuda":
        entry.memory_gib = torch.cuda.max_memory_allocated(device) / 2**30
        name = torch.cuda.get_device_name(device)
        peak = next((value for start, value in PEAK.items() if name.startswith(start)), None)
        if peak is not None and entry.gflop is not None:
            entry.peak_share = 1e9 * entry.gflop / median / peak
    if not case.compiled:
        entry.sections, entry.kernels = _where(step, device)
    del model


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _where(step: Step, device: torch.device) -> tuple[dict[str, float], list[tuple[str, float]]]:
    """Milliseconds of each section of a step, waiting after each; and the longest kernels' shares."""
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    rounds = 3
    with profile(activities=kinds) as found:
        for _ in range(rounds):
            step()
        _wait(device)
    own = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    events = [event for event in found.key_averages() if not event.key.startswith("## ")]
    if device.type == "cuda":
        events = [event for event in events if event.device_type != torch.autograd.DeviceType.CPU]
    total = sum(getattr(event, own) for event in events) or 1
    longest = sorted(events, key=lambda event: -getattr(event, own))[:12]
    kernels = [(event.key[:90], round(getattr(event, own) / total, 4)) for event in longest]
    sections = {"all kernels": total / 1e3 / rounds, "kernels": float(sum(event.count for event in events)) / rounds}
    for event in found.key_averages():
        # The host's clock: with kernels in a queue this is what it takes to start them, not what they take.
        if event.key.startswith("## ") and event.device_type == torch.autograd.DeviceType.CPU:
            sections[f"host, {event.key[3:]}"] = event.cpu_time_total / 1e3 / rounds
        elif event.key.startswith("## "):
            sections[f"device, {event.key[3:]}"] = event.device_time_total / 1e3 / rounds
    return {name: round(value, 3) for name, value in sections.items()}, kernels


def ratio(entry: Entry, entries: list[Entry]) -> float | None:
    """Images a second over those of the first of torchvision's that did the same; None where none did."""
    alike = ("mode", "batch", "size")
    for other in entries:
        same = all(other.case[key] == entry.case[key] for key in alike)
        if same and other.case["model"] in FROM_TORCHVISION and other.images_per_second and entry.images_per_second:
            return entry.images_per_second / other.images_per_second
    return None


def table(entries: list[Entry]) -> str:
    head = ["case", "images/s", "ms", "±", f"x {FROM_TORCHVISION[0]}", "GFLOP", "of peak", "GiB"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for entry in entries:
        cells: list[object] = [entry.case["name"]]
        if entry.ms is None:
            cells += [f"failed: {entry.failed}", *[""] * 6]
        else:
            beside, share = ratio(entry, entries), entry.peak_share
            cells += [f"{entry.images_per_second:.1f}", f"{entry.ms:.1f}", f"{entry.spread or 0:.0f} %"]
            cells += ["" if beside is None else f"{beside:.2f}", "" if entry.gflop is None else f"{entry.gflop:.0f}"]
            cells += ["" if share is None else f"{100 * share:.1f} %"]
            cells += ["" if entry.memory_gib is None else f"{entry.memory_gib:.1f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0, help="no case begins after so many")
    parser.add_argument("--seconds", type=float, default=2.0, help="of timing a case")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true", help="small images, on whatever there is")
    options = parser.parse_args()
    begin = time.perf_counter()
    cuda = torch.cuda.is_available()
    if not cuda and not options.tiny:
        parser.error("there is no CUDA device; --tiny tries this on a CPU")
    device = torch.device("cuda" if cuda else "cpu")
    about = {**harness.machine(), "device": torch.cuda.get_device_name() if cuda else "cpu"}
    warnings.filterwarnings("ignore")  # of torchvision and the compiler
    entries: list[Entry] = []
    chosen = cases(options.tiny)
    if not cuda:  # many a CPU only imitates bf16
        chosen = [replace(case, precision="fp32", compiled=False) for case in chosen]
    for case in chosen:
        if time.perf_counter() - begin > 60 * options.minutes:
            print(f"no time left for {case.name}", flush=True)
            continue
        entries.append(measure(case, device, 0.0 if options.tiny else options.seconds))
        print(table(entries[-1:]).splitlines()[-1], flush=True)
        content = {"machine": about, "entries": [asdict(entry) for entry in entries]}
        with suppress(OSError):
            options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(harness.dumps(content))
    print(table(entries))


if __name__ == "__main__":
    main()
