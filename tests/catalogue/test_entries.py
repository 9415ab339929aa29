"""The list of published weights: whole, unambiguous, and true about what the importer reads."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from gfocal.catalogue.addresses import Address, addresses, file_name
from gfocal.catalogue.entries import Published, Source, find, matching, near, published, read_entries
from gfocal.errors import UsageError
from gfocal.interop.load import SIZED
from gfocal.interop.mmdetection_config import check_fixed
from gfocal.interop.mmdetection_recipe import _BACKBONES, find_row
from gfocal.interop.nanodet import _KINDS
from gfocal.interop.picodet import RECIPES
from gfocal.models.backbones import lcnet
from gfocal.recipe import load_recipe, recipe_names
from helpers.known_answers import RECORDED
from helpers.mmdetection_files import empty_weights
from helpers.paths import PACKAGE
from helpers.published_files import entry

FILE = PACKAGE / "catalogue" / "checkpoints.toml"
ALL = published()
READABLE = [each for each in ALL if each.is_readable]
KEYS = {
    "gfl_r50": "gfl_r50",
    "atss_r50": "atss_r50",
    "fcos_r50": "fcos_r50_giou",
    "retinanet_r50": "retinanet_r50",
    "foveabox_r50": "foveabox_r50",
    "ssd512_vgg16": "ssd512_vgg16",
}
"""Recipe that mmdetection's files are taken for -> the names and shapes of one."""
SMALL = ("gfl_nano", "nanodet_plus_m", "nanodet_plus_m_1.5x", *RECIPES.values())
"""Recipes that files of NanoDet and PicoDet are taken for."""


# --- the file


def test_every_key_is_one_that_is_read() -> None:
    known, own = {field.name for field in fields(Published)} - {"source"}, {field.name for field in fields(Source)}
    for source in tomllib.loads(FILE.read_text(encoding="utf-8"))["source"]:
        assert set(source) - {"checkpoint"} <= own, source["title"]
        for each in source["checkpoint"]:
            assert set(each) <= known, each["name"]


def test_names_are_unique_whoever_uses_them() -> None:
    names = [name.casefold() for each in ALL for name in (each.name, *each.aliases)]
    assert len(set(names)) == len(names)
    assert not set(names) & set(recipe_names())
    files = [file_name(each) for each in ALL]
    assert len(set(files)) == len(files), "two would overwrite each other on their way"


@pytest.mark.parametrize("each", ALL, ids=lambda each: each.name)
def test_an_entry_is_whole(each: Published) -> None:
    assert re.fullmatch(r"[a-z0-9]+(_[a-z0-9.]+)*_(coco|voc)", each.name)
    assert each.name.endswith(f"_{each.data.casefold()}")
    assert each.detector
    assert each.backbone
    assert each.reason
    assert each.source.page.startswith("https://github.com/")
    assert each.ap is None or 5 < each.ap < 90
    assert each.ap is None or each.measure.startswith("VOC" if each.data == "VOC" else "COCO val2017")
    assert all(urlsplit(address).scheme == "https" for address in each.addresses)
    assert re.fullmatch(r"([0-9a-f]{8})?", each.sha256)
    assert bool(each.code) == ("pan.baidu.com" in each.addresses[0])
    assert each.is_readable == bool(each.row)
    if each.sha256:  # as mmdetection and torchvision name their files
        assert file_name(each).endswith(f"-{each.sha256}.pth")
    assert (each.source.licence in ("Apache-2.0", "BSD-3-Clause")) != each.source.noncommercial


def test_of_those_that_were_tried_it_is_said_when_and_what_came_out() -> None:
    tried = {each.name: each.reason for each in ALL if each.state == "tried"}
    sizes = ("nanodet_m_320", "nanodet_m_416", "nanodet_plus_m_416", "picodet_s_320")
    assert set(tried) == {f"{size}_coco" for size in sizes}
    for reason in tried.values():
        assert re.match(r"20\d\d-\d\d-\d\d, from a copy of the file: AP 0\.\d+", reason)


def test_every_published_address_on_record_is_listed(shared: Path) -> None:
    """And no other one: none is made up."""
    text = (shared / "checkpoints.md").read_text(encoding="utf-8")
    cells = [line.split(" | ") for line in text.splitlines() if line.startswith("| ") and line.count(" | ") == 7]
    rows = [cell for cell in cells if "https://" in cell[-1]]
    recorded = {re.sub(r" \(code \w+\)", "", cell[-1].strip(" |")) for cell in rows}
    listed = [address for each in ALL for address in each.addresses]
    assert len(rows) == 163
    assert set(listed) == recorded
    assert len(set(listed)) == len(listed)
    hashes = {cell[-2] for cell in rows} - {"–"}
    assert {each.sha256 for each in ALL} - {""} == hashes


@pytest.mark.parametrize(
    ("change", "words"),
    [('state = "perhaps"', "state.*perhaps"), ("ap = true", "ap.*number"), ('addresses = "x"', "addresses.*list")],
)
def test_a_wrong_value_is_found(change: str, words: str) -> None:
    key = change.split(" = ")[0]
    lines = ['name = "a_coco"', 'detector = "A"', 'backbone = "B"', 'addresses = ["x"]', 'state = "no"', 'reason = "r"']
    text = "\n".join(['[[source]]\ntitle = "t"\npage = "p"\nlicence = "l"\n[[source.checkpoint]]', *lines])
    assert read_entries(text)[0].name == "a_coco"
    kept = "\n".join(line for line in text.splitlines() if not line.startswith(f"{key} = "))
    with pytest.raises(ValueError, match=words):
        read_entries(f"{kept}\n{change}")


# --- what is said to be readable, is


def rows() -> list[tuple[str, str]]:
    return sorted({(each.row, each.backbone.removesuffix(" caffe").removesuffix(" DCNv2")) for each in READABLE})


@pytest.mark.parametrize(("row", "backbone"), rows())
def test_the_importer_knows_each_row_and_backbone(row: str, backbone: str) -> None:
    assert row in recipe_names()
    if row in SMALL:
        found = [one for each in _KINDS for one, recipe in each.recipes.items() if recipe == row]
        found += [one for (_, one), recipe in RECIPES.items() if recipe == row]
        found += lcnet.SIZES if row == "picodet_s" else []  # with the head of 2021
        width = {
            "ShuffleNetV2-1.0x": "shufflenet_v2_x1_0",
            "ShuffleNetV2-1.5x": "shufflenet_v2_x1_5",
            "LCNet-1.5x": "lcnet_x1_5",
        }
        assert width.get(backbone, load_recipe(row).model.backbone) in found
        return
    assert find_row(empty_weights(RECORDED / f"{KEYS[row]}.txt"), "file") == row
    if row != "ssd512_vgg16":
        name = backbone.lower().replace("-", "").replace(" ", "_")
        assert any(known.split(".")[0] == name for known in _BACKBONES.values())


@pytest.mark.parametrize("each", READABLE, ids=lambda each: each.name)
def test_the_rule_names_a_head_that_the_importer_takes(each: Published) -> None:
    if each.row in SMALL:
        return
    kind = re.match(r"head type (\w+)", each.reason)
    assert kind is not None
    check_fixed(each.row, {"model": {"bbox_head": {"type": kind[1]}}}, "file")


def test_inputs_of_files_that_do_not_say_them_are_known() -> None:
    assert {each.row for each in READABLE} & SIZED == set(SMALL)
    assert all(re.fullmatch(r"(\d+) x \1", each.input) for each in READABLE if each.row in SIZED)


def test_styles_are_for_resnets_alone() -> None:
    assert {each.row for each in ALL if each.style} == {"gfl_r50", "retinanet_r50", "foveabox_r50"}
    assert {load_recipe(each.row).model.backbone.split(".")[0] for each in ALL if each.style} == {"resnet50"}


# --- looking for one


def test_names_are_found_however_their_publisher_writes_them() -> None:
    gfl = find("gfl_r50_coco")
    assert gfl is not None
    assert find("GFL_R50_FPN_1x_COCO") is gfl
    assert find("gfl_r50_fpn_1x_coco_20200629_121244-25944287") is gfl
    assert find("nanodet_m") is find("nanodet_m_320_coco")
    assert find("gfl_r50") is None
    assert find("") is None


def test_near_misses() -> None:
    assert near("gfl_r50_coc")[0] == "gfl_r50_coco"
    assert near("nanodet-plus_m_416")[0] == "nanodet_plus_m_416_coco"
    assert near("runs/street") == []
    assert len(near("retinanet_r50")) <= 3


def test_words_narrow_the_list() -> None:
    assert {each.detector for each in matching(["GFL", "ResNet-50"])} == {"GFL", "GFL v2"}
    assert {each.name for each in matching(["ssd512", "voc"])} == {"ssd512_voc"}
    assert {each.source.noncommercial for each in matching(["by-nc"])} == {True}
    assert matching(["gfl", "nonsense"]) == []
    assert len(matching([])) == len(ALL)


# --- what a server is asked


def test_what_is_asked_for_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GFOCAL_MIRROR", raising=False)
    plain = "https://example.org/a/b-0123abcd.pth"
    assert addresses(entry(plain)) == [Address(plain, plain)]
    assert file_name(entry(plain)) == "b-0123abcd.pth"
    page = "https://drive.google.com/file/d/1Zk_Y-u/view?usp=sharing"
    file = "https://drive.usercontent.google.com/download?id=1Zk_Y-u&export=download&confirm=t"
    assert addresses(entry(page)) == [Address(page, file)]
    assert file_name(entry(page)) == "small_r1_coco.pth"
    assert addresses(entry("https://drive.google.com/open?id=1Zk_Y-u"))[0].url == file
    assert addresses(entry("https://pan.baidu.com/s/1C34", code="hj8d")) == []
    several = entry(plain, addresses=(plain, page))
    assert [each.url for each in addresses(several)] == [plain, file]


@pytest.mark.parametrize("each", READABLE, ids=lambda each: each.name)
def test_each_readable_one_can_be_asked_for_or_says_who_can(each: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GFOCAL_MIRROR", raising=False)
    asked = addresses(each)
    assert bool(asked) != bool(each.code)
    assert all("/view" not in address.url for address in asked), "a page, not a file"


def test_a_mirror_stands_in_for_every_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GFOCAL_MIRROR", "https://mirror.example/weights/")
    found = addresses(entry("https://pan.baidu.com/s/1C34", code="hj8d"))
    assert [each.url for each in found] == ["https://mirror.example/weights/small_r1_coco.pth"]


WRONG = ["mirror.example/weights", "ftp://mirror.example", "/srv/weights", "https://", "https:///weights"]
WRONG += [
    "http://mirror example/w",
    "http://a..b/w",
    "http://[::1/w",
    "http://mirror:port/w",
    "http://m/w?key=1",
    "http://m/#w",
]


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_mirror(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("GFOCAL_MIRROR", wrong)
    with pytest.raises(UsageError, match="GFOCAL_MIRROR is the address of a folder, such as https://example"):
        addresses(entry("https://example.org/a.pth"))


@pytest.mark.parametrize(
    ("given", "folder"),
    [
        (" https://mirror.example:8080/a b/c%20d// ", "https://mirror.example:8080/a%20b/c%20d"),
        ("http://[::1]:80/w", "http://[::1]:80/w"),
        ("https://mirror.example/gewöhnlich", "https://mirror.example/gew%C3%B6hnlich"),
        ("https://mirror.example", "https://mirror.example"),
    ],
)
def test_a_mirror_is_written_as_servers_want_it(monkeypatch: pytest.MonkeyPatch, given: str, folder: str) -> None:
    monkeypatch.setenv("GFOCAL_MIRROR", given)
    assert addresses(entry("https://example.org/a.pth"))[0].url == f"{folder}/a.pth"


@pytest.mark.parametrize("login", ["me:secret@", "secret@", ":secret@"])
def test_a_password_in_a_mirror_is_refused_and_not_printed(monkeypatch: pytest.MonkeyPatch, login: str) -> None:
    for address in (f"https://{login}mirror.example/w", f"https://{login}mirror.example:port/w"):
        monkeypatch.setenv("GFOCAL_MIRROR", address)
        with pytest.raises(UsageError, match="GFOCAL_MIRROR") as error:
            addresses(entry("https://example.org/a.pth"))
        assert "secret" not in str(error.value)
        assert "mirror.example" in str(error.value)
