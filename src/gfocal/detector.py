"""A detector: backbone, neck, head, points, assigner, box representation and quality, held together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Protocol, Self, TypedDict, Unpack, overload

import torch
from torch import Tensor, nn

from gfocal.assigners import Assigner, DynamicAssigner
from gfocal.criterion import CountRule, assign_batch, detection_losses, step_sums
from gfocal.detections import Calibrated
from gfocal.errors import UsageError, require_number
from gfocal.images.depth import ValueRange, check_range
from gfocal.images.io import Resize, pad_batch, to_image
from gfocal.images.tiling import Tiling
from gfocal.models import Assistant, Head, PixelNorm, PostProcess
from gfocal.models.assistant import keep_out_of_state
from gfocal.models.freezing import frozen_norms_in_eval
from gfocal.models.postprocess import to_original
from gfocal.models.tiled_prediction import find_in_tiles
from gfocal.points import Points, grid_sizes
from gfocal.representation import BoxRepresentation, BoxWeight, Quality
from gfocal.structures import BatchAssignment, Detections, HeadOutput, Targets

_SIZES_KEPT = 64  # image sizes whose points are kept; those of 800 x 1333 take 0.8 MB


class MakePoints(Protocol):
    """The points of a pyramid with maps of these sizes."""

    def __call__(self, grids: Sequence[tuple[int, int]], *, device: torch.device | str) -> Points: ...


class PredictOptions(TypedDict, total=False):
    """What :meth:`DenseDetector.predict` takes beside its source."""

    score_threshold: float | None
    tile: int | None
    overlap: float | None
    batch_size: int
    class_agnostic: bool | None


class DenseDetector(nn.Module):
    """Images in, losses or detections out; images are uint8 RGB everywhere.

    Attributes:
        assistant: a second head that is there in training alone, None elsewhere, see
            :func:`gfocal.zoo.add_assistant`. In training mode its outputs come with those of the head. It is no part
            of the ``state_dict``, which is what predicts.
        calibration: of its edges and scores, see :class:`gfocal.calibration.Calibration`; None where it has none.

    Args:
        pixels: preprocessing.
        backbone, neck, head: the network; the head gives a :class:`HeadOutput`.
        strides: of the levels.
        make_points: places and anchors of a pyramid, see :func:`gfocal.points.make_anchors`.
        assigner: which point learns which ground truth.
        assign_in_padding: whether points in the padding of a batch are assigned and learn, too.
        static_assigner: what assigns instead in the first ``static_epochs`` epochs; None: nothing else does.
        box_coder: box representation.
        quality: quality form.
        names: class names, C of them.
        resize: how an image is brought to the input size.
        postprocess: thresholds.
        box_weight: weight of each positive's box terms; None: all count the same.
        loss_weights: factor of each loss term that there is.
        count_rule: how positives are counted, see :func:`gfocal.criterion.count_positives`.
        tiling: how :meth:`predict` cuts images into tiles; None looks at whole images alone.
        value_range: how values of more than 8 bits become 8, see :mod:`gfocal.images.depth`.
    """

    def __init__(
        self,
        *,
        pixels: PixelNorm,
        backbone: nn.Module,
        neck: nn.Module,
        head: Head,
        strides: Sequence[int],
        make_points: MakePoints,
        assigner: Assigner | DynamicAssigner,
        box_coder: BoxRepresentation,
        quality: Quality,
        names: Sequence[str],
        resize: Resize,
        postprocess: PostProcess,
        box_weight: BoxWeight | None,
        loss_weights: Mapping[str, float],
        count_rule: CountRule = "step",
        tiling: Tiling | None = None,
        static_assigner: Assigner | None = None,
        static_epochs: int = 0,
        assign_in_padding: bool = False,
        value_range: ValueRange = "type",
    ) -> None:
        super().__init__()
        check_range(value_range)
        self.pixels, self.backbone, self.neck, self.head = pixels, backbone, neck, head
        self.strides, self.make_points = tuple(strides), make_points
        self.assigner, self.box_coder, self.quality = assigner, box_coder, quality
        self.static_assigner, self.static_epochs = static_assigner, static_epochs
        self.assign_in_padding = assign_in_padding
        self.names = tuple(names)
        self.resize, self.postprocess = resize, postprocess
        self.box_weight = box_weight
        self.loss_weights = dict(loss_weights)
        self.count_rule: CountRule = count_rule
        self.tiling = tiling
        self.value_range: ValueRange = value_range
        self.assistant: Assistant | None = None
        self.calibration: Calibrated | None = None
        keep_out_of_state(self, "assistant")
        self._points: dict[tuple[Any, ...], Points] = {}

    def train(self, mode: bool = True) -> Self:
        """As of any module, but for batch normalisation that is frozen: it keeps its running statistics."""
        super().train(mode)
        frozen_norms_in_eval(self)
        return self

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def channels_last(self) -> bool:
        """Whether the backbone's weights lie in memory with channels last."""
        first = next((weight for weight in self.backbone.parameters() if weight.ndim == 4), None)
        return first is not None and not first.is_contiguous()

    def points(self, height: int, width: int, device: torch.device | None = None) -> Points:
        """The points of a padded image of that size, by default where the detector is; made once for each size."""
        key = (height, width, device or self.device)
        if key not in self._points:
            if len(self._points) >= _SIZES_KEPT:
                self._points.clear()
            self._points[key] = self.make_points(grid_sizes(height, width, self.strides), device=key[2])
        return self._points[key]

    def raw(self, images: Tensor, epoch: int | None = None) -> HeadOutput:
        """(B, 3, H, W) uint8 RGB -> raw outputs (B, P, ...).

        ``epoch`` counts from 0; what an assistant does in training may depend on it. None: as in the first one.
        """
        if not self.channels_last:  # images come with channels last, and a convolution does as its input is
            images = images.contiguous()
        maps = self.backbone(self.pixels(images))
        levels = self.neck(maps)
        out = self.head(levels)
        if self.assistant is None or not self.training:
            return out
        return replace(out, assistant=self.assistant(maps, levels, epoch or 0))

    forward = raw

    def assigner_in(self, epoch: int) -> Assigner | DynamicAssigner:
        """The assigner of an epoch, counted from 0."""
        if self.static_assigner is not None and epoch < self.static_epochs:
            return self.static_assigner
        return self.assigner

    def assign_batch(
        self,
        images: Tensor,
        targets: Sequence[Targets],
        out: HeadOutput | None = None,
        *,
        sizes: Tensor | None = None,
        epoch: int | None = None,
    ) -> BatchAssignment:
        """What every point learns.

        Static assigners work on the CPU: quicker than as many tiny kernels, and the GPU is busy with the forward pass.

        Args:
            images: (B, 3, H, W), of which only the size counts.
            targets: of the B images.
            out: what the forward pass gave for the batch. Assigners that look at predictions need it; they look at
                those of the assistant, if there is one.
            sizes: (B, 2) height and width inside the padding, where no point learns; None: there is no padding.
            epoch: from 0, see :meth:`assigner_in`; by default after those in which another assigner is used.

        Raises:
            UsageError: the assigner looks at predictions, and ``out`` is missing.
        """
        assigner = self.assigner if epoch is None else self.assigner_in(epoch)
        dynamic = isinstance(assigner, DynamicAssigner)
        if out is None and dynamic:
            raise UsageError(
                "this detector's assigner looks at predictions: call assign_batch(images, targets, detector(images))"
            )
        where, seen = (self.device, out) if dynamic else (torch.device("cpu"), None)
        height, width = images.shape[-2:]
        points, own = self.points(height, width, where), [target.to(where) for target in targets]
        inside = None if sizes is None or self.assign_in_padding else [(int(h), int(w)) for h, w in sizes.tolist()]
        found = assign_batch(points, own, assigner, self.box_coder, out=seen, quality=self.quality, sizes=inside)
        return found.to(self.device)

    def losses(
        self,
        out: HeadOutput,
        assignment: BatchAssignment,
        size: tuple[int, int],
        *,
        cls_norm: Tensor | float | None = None,
        box_norm: Tensor | float | None = None,
        quality_sums: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Weighted scalar losses by name; their sum is the loss.

        An assistant learns the same as the head. Its terms have names of their own, ``assistant_cls`` and so on.

        Args:
            out: what the forward pass gave for the batch.
            assignment: what :meth:`assign_batch` gave for it.
            size: (height, width) of the padded images.
            cls_norm: see :func:`gfocal.criterion.detection_losses`.
            box_norm, quality_sums: the same; tensors have a row for each head, as :meth:`step_sums` has.
        """
        found: dict[str, Tensor] = {}
        for i, head in enumerate(out.heads):
            terms = detection_losses(
                head,
                self.points(*size),
                assignment,
                self.box_coder,
                self.quality,
                box_weight=self.box_weight,
                loss_weights=self.loss_weights,
                count_rule=self.count_rule,
                cls_norm=cls_norm,
                box_norm=box_norm[i] if isinstance(box_norm, Tensor) else box_norm,
                quality_sums=None if quality_sums is None else quality_sums[i],
                judge=None if head is out.judge else out.judge,
            )
            found |= {f"{'assistant_' * i}{name}": value for name, value in terms.items()}
        return found

    @property
    def sums_need_outputs(self) -> bool:
        """Whether :meth:`step_sums` takes a forward pass."""
        return self.quality.sums is not None or (self.box_weight is not None and self.box_weight.reads_outputs)

    def step_sums(self, out: HeadOutput | None, assignment: BatchAssignment, size: tuple[int, int]) -> Tensor:
        """(H, 1 + S) what a step adds up over its batches: the positives' weights, and the quality's own sums.

        A row is the head's; a second one is that of the assistant, if there is one.
        """
        heads = [None] if out is None else out.heads
        judge = None if out is None or out.assistant is None else out.judge
        rest = self.points(*size), assignment, self.box_coder, self.quality, self.box_weight
        return torch.stack([step_sums(head, *rest, None if head is judge else judge) for head in heads])

    @torch.no_grad()
    def detect(
        self, images: Tensor, sizes: Tensor | None = None, *, postprocess: PostProcess | None = None
    ) -> list[Detections]:
        """Detections of a padded batch in input pixels.

        Args:
            images: (B, 3, H, W) uint8 RGB.
            sizes: (B, 2) height and width inside the padding; boxes are clipped to them.
            postprocess: other thresholds than the detector's own.
        """
        out = self(images)
        height, width = images.shape[-2:]
        points = self.points(height, width)
        post = self.postprocess if postprocess is None else postprocess
        all_sizes = [(height, width)] * len(images) if sizes is None else sizes.tolist()
        with torch.autocast(out.box.device.type, enabled=False):
            found = [
                post(out[i], points, self.box_coder, self.quality, height=int(h), width=int(w), names=self.names)
                for i, (h, w) in enumerate(all_sizes)
            ]
        own = None if self.calibration is None else self.calibration.resized_by(asdict(self.resize))  # as it is now
        return found if own is None else [replace(one, calibration=own) for one in found]

    @overload
    def predict(self, source: list[Any] | tuple[Any, ...], **options: Unpack[PredictOptions]) -> list[Detections]: ...
    @overload
    def predict(self, source: Any, **options: Unpack[PredictOptions]) -> Detections: ...
    def predict(
        self,
        source: Any,
        *,
        score_threshold: float | None = None,
        tile: int | None = None,
        overlap: float | None = None,
        batch_size: int = 8,
        class_agnostic: bool | None = None,
    ) -> Detections | list[Detections]:
        """Detections in pixels of the images given, on the CPU.

        Args:
            source: a path, a PIL image, a (3, H, W) uint8 RGB tensor or a (H, W, 3) uint8 RGB array; or a
                list or tuple of them. Other numbers than uint8 become 8 bits as :attr:`value_range` says.
            score_threshold: in [0, 1), instead of the detector's own. Final scores lie above it, not only those of
                the classes (which a quality branch lowers afterwards).
            tile: side in pixels of the image of overlapping tiles that are looked at one by one, see
                :mod:`gfocal.models.tiled_prediction`; 0 for none. By default the detector's own :attr:`tiling`.
            overlap: share of their side that tiles have in common, in [0, 0.9]; by default the detector's, or 0.2.
            batch_size: tiles a forward pass.
            class_agnostic: whether boxes of different classes suppress each other; by default as the detector's own
                :attr:`postprocess` has it.

        Returns:
            Detections; a list of them for a list or tuple.

        Raises:
            BrokenInputError: an image cannot be read.
            UsageError: a threshold, tile, overlap or batch size out of range, or a source of another kind.
        """
        tiling = Tiling.chosen(self.tiling, tile, overlap)
        post = self.postprocess
        if score_threshold is not None:
            post = replace(post, score_threshold=score_threshold)
        if class_agnostic is not None:
            post = replace(post, class_agnostic=class_agnostic)
        require_number("batch_size", batch_size, least=1, whole=True)
        find, agnostic = partial(self.find, post=post, above=score_threshold), post.class_agnostic
        in_tiles = partial(find_in_tiles, nms_iou=post.nms_iou, class_agnostic=agnostic, batch_size=batch_size)
        found: list[Detections] = []
        training = self.training
        self.eval()
        try:
            for item in source if isinstance(source, list | tuple) else [source]:
                image = to_image(item, value_range=self.value_range)
                if tiling is None:
                    found += find([image])
                else:
                    found.append(in_tiles(image, tiling, find))
        finally:
            self.train(training)
        return found if isinstance(source, list | tuple) else found[0]

    def find(
        self, images: Sequence[Tensor], *, post: PostProcess | None = None, above: float | None = None
    ) -> list[Detections]:
        """What one batch of uint8 RGB (3, H, W) images shows, in their pixels, on the CPU; ``above``: least score."""
        resized = [self.resize(image) for image in images]
        sizes = [tuple(one.shape[-2:]) for one in resized]
        batch = pad_batch(resized, fill=self.resize.fill).to(self.device)
        found = self.detect(batch, torch.tensor(sizes), postprocess=post)
        own = [to_original(f.cpu(), s, p.shape[-2:]) for f, s, p in zip(found, sizes, images, strict=True)]
        return own if above is None else [f[f.scores > above] for f in own]
