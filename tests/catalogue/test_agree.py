"""Whether a converted file is what the catalogue says, for every entry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gfocal.catalogue.agree import contradictions, size_note
from gfocal.catalogue.entries import Published, find, published
from gfocal.interop.mmdetection_recipe import _BACKBONES
from gfocal.interop.report import ImportReport

READABLE = [each for each in published() if each.is_readable]


def report(recipe: str, *changed: str, classes: int = 80) -> ImportReport:
    return ImportReport(Path("best.safetensors"), "any", recipe, changed, 1, (), classes)


def right(each: Published) -> ImportReport:
    """What the importer says of the file that is meant."""
    keys = []
    name = each.backbone.removesuffix(" caffe").removesuffix(" DCNv2").lower().replace("-", "").replace(" ", "_")
    own = [known for known in _BACKBONES.values() if known.split(".")[0] == name]
    own += {"shufflenetv21.5x": ["shufflenet_v2_x1_5"], "lcnet1.5x": ["lcnet_x1_5"]}.get(name, [])
    keys += [f"model.backbone={own[0]}"] if own else []
    keys += ["model.deformable=[2,3,4]"] if "DCN" in each.backbone else []
    keys += ["model.quality.kind=joint_v2"] if each.detector == "GFL v2" else []
    return report(each.row, *keys, classes=80 if each.data == "COCO" else 20)


@pytest.mark.parametrize("each", READABLE, ids=lambda each: each.name)
def test_an_entry_takes_the_file_that_is_meant(each: Published) -> None:
    assert contradictions(each, right(each)) == []


def network(each: Published) -> tuple[str, ...]:
    return each.row, each.backbone.removesuffix(" caffe"), each.detector, each.data


NETWORKS = {network(each): each for each in READABLE}


@pytest.mark.parametrize("each", NETWORKS.values(), ids=lambda each: each.name)
def test_and_no_other(each: Published) -> None:
    for other in NETWORKS.values():
        assert other is each or contradictions(each, right(other)), other.name


def test_another_input_is_said_and_not_refused() -> None:
    """Any network of a kind takes any."""
    voc = find("gfl_r18_ld_voc")
    assert voc is not None
    own = right(voc)
    assert size_note(voc, own) is None
    smaller = replace(own, changed=(*own.changed, "data.resize.short_side=600", "data.resize.long_side=1000"))
    assert contradictions(voc, smaller) == []
    assert size_note(voc, smaller) == (
        "the file asks for 600 and 1000 pixels, and gfl_r18_ld_voc was measured at 800 x 1333"
    )
