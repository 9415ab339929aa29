"""A backbone of stages in a row."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from gfocal.models.freezing import freeze, norms_in_eval


class StagedBackbone(nn.Module):
    """A stem and stages one after the other, each of which gives a map.

    Args:
        stem: what comes before the first map.
        stages: of the maps.
        channels: of each map.
        norm_eval: batch normalisation keeps its running statistics while training.
        frozen_stages: of the stem and the stages so many keep their parameters.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[nn.Module],
        channels: Sequence[int],
        *,
        norm_eval: bool,
        frozen_stages: int,
    ) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.stem, self.stages = stem, nn.ModuleList(stages)
        self.norm_eval = norm_eval
        freeze((self.stem, *self.stages)[:frozen_stages])

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.stem(images)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def train(self, mode: bool = True) -> StagedBackbone:
        super().train(mode)
        if self.norm_eval:
            norms_in_eval(self)
        return self
