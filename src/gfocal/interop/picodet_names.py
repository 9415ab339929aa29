"""PaddleDetection's names of PicoDet's tensors, part by part: a backbone, a neck and a head of 2021 or of 2022."""

from __future__ import annotations

import re
from functools import cache, partial
from re import Match

from gfocal.interop.names import NameMap, Rule, layers, rename, rules

# Learnt factors of levels that no head applies, the constants 0, 1, ..., n, and what the outputs are called as well.
_UNUSED = re.compile(
    r"head\.(p\d_feat\.scale_reg|distribution_project\.project|head_(cls|reg)_list\.\d\.(weight|bias))"
)
_BLOCKS = {
    "short.0": "_conv_dw_1",
    "short.1": "_conv_linear_1",
    "main.0": "_conv_pw_2",
    "main.1": "_conv_dw_2",
    "main.2": "_se",
    "main.3": "_conv_linear_2",
    "join.0": "_conv_dw_mv1",
    "join.1": "_conv_pw_mv1",
    "first": "_conv_pw",
    "depthwise": "_conv_dw",
    "attention": "_se",
    "last": "_conv_linear",
}
"""The parts of ESNet's blocks, of which the first of a stage has others than the rest."""


def _block(match: Match[str]) -> str:
    # Their stages are numbered from 2, by the stride's exponent less one, and blocks from 1.
    return f"backbone.{int(match[1]) + 2}_{int(match[2]) + 1}.{_BLOCKS[match[3]]}."


_SEPARABLE = {0: "dwconv", 1: "bn1", 3: "pwconv", 4: "bn2"}
_LCNET = {0: "dw_conv.conv", 1: "dw_conv.bn", 3: "pw_conv.conv", 4: "pw_conv.bn"}
_LCNET_SE = {0: "dw_conv.conv", 1: "dw_conv.bn", 3: "se", 4: "pw_conv.conv", 5: "pw_conv.bn"}
_ESNETS = rules(
    (r"^backbone\.stem\.0\.", "backbone._conv1."),
    (r"^backbone\.stages\.(\d+)\.(\d+)\.((?:short|main|join)\.\d|[a-z]+)\.", _block),
    (r"^(backbone\..*_se)\.fc([12])\.", r"\1.conv\2."),
    (r"^(backbone\..*)\.0\.(\w+)$", r"\1._conv.\2"),
    (r"^(backbone\..*)\.1\.(\w+)$", r"\1._batch_norm.\2"),
)
_LCNETS = rules(
    (r"^backbone\.stem\.0\.0\.", "backbone.conv1.conv."),
    (r"^backbone\.stem\.0\.1\.", "backbone.conv1.bn."),
    (r"^backbone\.stem\.1\.", "backbone.blocks2.0."),
    (r"^backbone\.stem\.2\.", "backbone.blocks3."),
    (r"^backbone\.stages\.(\d+)\.", lambda match: f"backbone.blocks{int(match[1]) + 4}."),
    *layers(r"backbone\.blocks[2-5]\.\d+", _LCNET),
    *layers(r"backbone\.blocks6\.\d+", _LCNET_SE),
    (r"^(backbone\..*\.se)\.fc([12])\.", r"\1.conv\2."),
)
_PANS = rules(
    (r"^neck\.lateral\.(\d+)\.0\.", r"neck.conv_t.convs.\1.conv."),
    (r"^neck\.lateral\.(\d+)\.1\.", r"neck.conv_t.convs.\1.bn."),
    (r"^neck\.down_blocks\.", "neck.top_down_blocks."),
    (r"^neck\.up_blocks\.", "neck.bottom_up_blocks."),
    (r"^neck\.halvings\.", "neck.downsamples."),
    (r"^neck\.extra\.lateral\.", "neck.first_top_conv."),
    (r"^neck\.extra\.level\.", "neck.second_top_conv."),
    *layers(r"neck\.(?:downsamples\.\d+|\w+_top_conv)", _SEPARABLE),
)
_DOWN = r"^neck\.(?:top_down|bottom_up)_blocks\.\d+\."
_CSP_PAN = rules(
    (rf"({_DOWN})main\.0\.", r"\1main_conv."),
    (rf"({_DOWN})main\.1\.", r"\1blocks.0.conv1."),
    (rf"({_DOWN})main\.2\.", r"\1blocks.0.conv2."),
    (rf"({_DOWN})short\.", r"\1short_conv."),
    (rf"({_DOWN})join\.", r"\1final_conv."),
    (rf"({_DOWN}(?:main_conv|short_conv|final_conv|blocks\.0\.conv1))\.0\.", r"\1.conv."),
    (rf"({_DOWN}(?:main_conv|short_conv|final_conv|blocks\.0\.conv1))\.1\.", r"\1.bn."),
    *layers(r"neck\.\w+_blocks\.\d+\.blocks\.0\.conv2", _SEPARABLE),
)
_LC_PAN = rules(*layers(r"neck\.\w+_blocks\.\d+\.\d+", _LCNET))
_TOWERS = rules(
    *(
        (rf"^head\.blocks\.(\d+)\.(\d+)\.{i}\.", rf"head.conv_feat.cls_conv_{layer}\1.\2.{part}.")
        for i, (layer, part) in {0: ("dw", "conv"), 1: ("dw", "norm"), 3: ("pw", "conv"), 4: ("pw", "norm")}.items()
    )
)
_HEADS: dict[str, tuple[Rule, ...]] = {
    "pico": rules((r"^head\.out\.", "head.head_cls")),
    "pico_se": rules(
        (r"^head\.attention\.(\d+)\.gate\.", r"head.conv_feat.se.\1.fc."),
        (r"^head\.attention\.(\d+)\.mix\.0\.", r"head.conv_feat.se.\1.conv.conv."),
        (r"^head\.attention\.(\d+)\.mix\.1\.", r"head.conv_feat.se.\1.conv.norm."),
        (r"^head\.class_out\.", "head.head_cls"),
        (r"^head\.box_out\.", "head.head_reg"),
        (r"^head\.quality_out\.", "head.cls_align."),
        *layers(r"head\.cls_align\.\d+", _SEPARABLE),
    ),
}
_STATISTICS = rules((r"\.running_mean$", "._mean"), (r"\.running_var$", "._variance"))


@cache
def names_of(backbone: str, neck: str, head: str) -> NameMap:
    """How PaddleDetection names the tensors of a PicoDet.

    Args:
        backbone: an ``esnet_*`` or ``lcnet_*``.
        neck: ``csp_pan`` or ``lc_pan``.
        head: ``pico`` or ``pico_se``.
    """
    by = (
        *(_ESNETS if backbone.startswith("esnet") else _LCNETS),
        *(*_PANS, *(_CSP_PAN if neck == "csp_pan" else _LC_PAN)),
        *(*_TOWERS, *_HEADS[head]),
        *_STATISTICS,
    )
    return NameMap("picodet", "PicoDet", partial(rename, by=by), _UNUSED)
