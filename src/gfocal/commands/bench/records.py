"""What `gfocal bench` asks of the processes that it measures, what they say, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gfocal.data.formats.common import Split
from gfocal.images.resizing import Resize
from gfocal.utils.records import IF_ANY
from gfocal.utils.timing import Ratio


@dataclass(frozen=True, kw_only=True)
class How:
    """How models are measured.

    Attributes:
        overrides: recipe keys, of models of torch.
        device: of those; None: CUDA where there is one.
        provider: of exported files; None: the CPU.
        threads: >= 1.
        batch: images at a time, >= 1.
        resize: in place of the model's own; None: that.
        images: files; without any, generated ones.
        generated: (height, width) of those.
        data, split, samples: what AP is measured on; None: it is not, or on all images.
        skip_broken: leave out what is broken of it.
    """

    overrides: tuple[str, ...]
    device: str | None
    provider: str | None
    threads: int
    batch: int
    resize: Resize | None
    images: tuple[Path, ...]
    generated: tuple[int, int]
    data: Path | None
    split: Split
    samples: int | None
    skip_broken: bool = False


@dataclass(frozen=True)
class Job:
    """What a process does: measure a run folder, checkpoint or exported file; or a recipe, ``untrained``."""

    model: str
    untrained: bool
    how: How


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What a process says when its model is ready.

    Attributes:
        runtime: "torch", or the kind of exported file.
        device: "cpu", "cuda", or the provider.
        precision: "fp32", "fp16", "bf16", ...
        bytes: of its files; None: a recipe has none.
        tiles: it cuts images into tiles.
        fixed_batch: that the file takes; None: any.
    """

    runtime: str
    device: str
    precision: str
    bytes: int | None
    tiles: bool
    fixed_batch: int | None


@dataclass(frozen=True)
class Call:
    """One batch.

    Attributes:
        ms: from decoded images to detections.
        network_ms: of it in the network; of an exported file in its graph.
        size: (height, width) of the largest padded batch that entered.
        detections: found.
    """

    ms: float
    network_ms: float
    size: tuple[int, int]
    detections: int


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak: of the process, and of what torch allocated on a CUDA device; None: nobody tells."""

    process: int | None
    device: int | None


@dataclass(frozen=True)
class Cost:
    """Of one image; None where the network's code or its recipe is not there."""

    flops: int | None
    parameters: int | None


@dataclass(frozen=True)
class Accuracy:
    """COCO's AP of the very model that was timed; NaN where there is nothing to find."""

    ap: float
    ap50: float
    images: int


@dataclass(frozen=True)
class Latency:
    """Percentiles of milliseconds for an image: those of a batch, divided by its images."""

    p50_ms: float
    p90_ms: float
    p99_ms: float


@dataclass(frozen=True, kw_only=True)
class BenchRow:
    """A model, measured.

    Attributes:
        model: as it was given.
        opened: what runs it.
        latency: from decoded image to detections.
        network: of it in the network; of an exported file in its graph, decoding and suppression included.
        images_per_second: from the median.
        ratio: of the time to the first model's, within the rounds.
        size: (height, width) of the largest input.
        detections: per image, mean.
        memory, cost, accuracy: None where they were not measured.
    """

    model: str
    opened: Opened
    latency: Latency
    network: Latency
    images_per_second: float
    ratio: Ratio
    size: tuple[int, int]
    detections: float
    memory: Memory | None
    cost: Cost | None
    accuracy: Accuracy | None = field(default=None, metadata=IF_ANY)


@dataclass(frozen=True, kw_only=True)
class BenchReport:
    """Models beside each other.

    Attributes:
        rows: in the order in which they were given.
        processor, threads: of the machine, of each model.
        batch: images at a time.
        rounds: that count; each model ran one batch in each.
        shown: what the images are.
        notes: what should be known about the numbers, a sentence for each thing.
        signal: that ended it early; None: it was not.
    """

    rows: tuple[BenchRow, ...]
    processor: str
    threads: int
    batch: int
    rounds: int
    shown: str
    notes: tuple[str, ...]
    signal: int | None = field(default=None, metadata=IF_ANY)
