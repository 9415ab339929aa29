"""What a neck and a head must offer. Both are ``nn.Module``s behind one line each in the recipe's tables of names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self

from torch import Tensor, nn

from gfocal.structures import HeadOutput

OutputKind = Literal["class", "box", "quality"]
KINDS: tuple[OutputKind, ...] = ("class", "box", "quality")
"""The order of ``Head.outputs``."""


@dataclass(frozen=True)
class HeadShape:
    """What goes into a head and what comes out: the same for every form.

    Attributes:
        in_channels: of each level, or one number for all.
        levels: number of levels.
        class_outputs, box_outputs, quality_outputs: numbers an anchor (0: no quality branch).
        box_bias: ``box_outputs`` numbers that the box outputs start at; None: 0.
        anchors: of each location, for each level or one number for all; a location's outputs are anchor by anchor.
    """

    in_channels: Sequence[int] | int
    levels: int
    class_outputs: int
    box_outputs: int
    quality_outputs: int = 0
    box_bias: Sequence[float] | None = None
    anchors: Sequence[int] | int = 1

    @property
    def outputs(self) -> tuple[int, int, int]:
        """Numbers an anchor, in the order of :data:`KINDS`."""
        return self.class_outputs, self.box_outputs, self.quality_outputs

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level.

        Raises:
            ValueError: they are those of another number of levels.
        """
        return self._each(self.in_channels, "channels")

    @property
    def counts(self) -> tuple[int, ...]:
        """Anchors of a location, for each level.

        Raises:
            ValueError: they are those of another number of levels.
        """
        return self._each(self.anchors, "anchors")

    @property
    def width(self) -> int:
        """The channels that all levels have.

        Raises:
            ValueError: they differ.
        """
        return self._same(self.widths, "channels")

    @property
    def count(self) -> int:
        """The anchors of a location that all levels have.

        Raises:
            ValueError: they differ.
        """
        return self._same(self.counts, "anchors")

    def _each(self, value: Sequence[int] | int, what: str) -> tuple[int, ...]:
        each = (value,) * self.levels if isinstance(value, int) else tuple(value)
        if len(each) != self.levels:
            raise ValueError(f"{what} of {self.levels} levels are needed, got {len(each)}")
        return each

    def _same(self, each: tuple[int, ...], what: str) -> int:
        if len(set(each)) != 1:
            raise ValueError(
                f"this head takes the same number of {what} on all levels, got {', '.join(map(str, each))}"
            )
        return each[0]


@dataclass(frozen=True)
class OutputLayer:
    """The rows of a layer that give one kind of output, as views: writing to them changes the layer.

    Attributes:
        weight: (A, outputs, ...) of the A anchors of a location.
        bias: (A, outputs).
        factors: what the outputs are multiplied with, a learnt number for each level; () where nothing is.
    """

    weight: Tensor
    bias: Tensor
    factors: tuple[Tensor, ...] = ()

    @classmethod
    def of(
        cls,
        layer: nn.Module,
        outputs: int,
        start: int = 0,
        together: int | None = None,
        factors: tuple[Tensor, ...] = (),
    ) -> Self:
        """The rows of ``layer``, whose outputs stand anchor by anchor.

        Args:
            layer: a convolution with a bias, or a norm: what has a weight and a bias for each output.
            outputs: numbers of this kind an anchor.
            start: first of them among the numbers of an anchor.
            together: numbers of all kinds that the layer gives an anchor; by default ``outputs``.
            factors: see above.
        """
        rows = slice(start, start + outputs)
        weight, bias = (
            layer.get_parameter(name).data.unflatten(0, (-1, together or outputs))[:, rows]
            for name in ("weight", "bias")
        )
        return cls(weight, bias, factors)


class Neck(Protocol):
    """Makes the levels of the pyramid.

    The builder calls ``Kind(in_channels=, levels=, ...)`` with the channels of the backbone's maps, finest first, the
    number of levels, and the keys that the form's line names.
    """

    channels: int | tuple[int, ...]
    """Of every level; or of each, where they differ."""

    def __call__(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """The levels of the backbone's maps, finest first."""
        ...


class Assistant(Protocol):
    """Makes a second set of raw outputs in training, by which assigners that look at predictions decide.

    It learns what the head learns. The builder calls ``Kind(neck, shape, ...)`` with the detector's own neck, the
    :class:`HeadShape` of its head, and the keys that the form's line names.
    """

    def __call__(self, maps: Sequence[Tensor], levels: Sequence[Tensor], epoch: int) -> HeadOutput:
        """Raw outputs of the maps of the backbone and the levels of the neck, in an epoch that counts from 0."""
        ...


class Head(Protocol):
    """Makes the raw outputs of every point from the levels.

    The builder calls ``Kind(shape, ...)`` with the :class:`HeadShape` and the keys that the form's line names.

    ``--init`` finds outputs through :meth:`output_layers`, and everything else by name. Lists of layers that have one
    for each level may be named in ``level_lists``, each with the number of its first level: these go by strides.
    """

    outputs: tuple[int, int, int]
    """Numbers an anchor: class, box, quality."""

    def __call__(self, levels: Sequence[Tensor]) -> HeadOutput:
        """Raw outputs (B, P, ...) in the order of the points: by level, row by row, anchor by anchor."""
        ...

    def output_layers(self, kind: OutputKind) -> list[OutputLayer]:
        """What gives the outputs of a kind: a layer for each level, or the one that all share; none without outputs."""
        ...
