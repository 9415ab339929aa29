"""``hub:owner/name``: weights from a repository, and what stands against it."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

import gfocal
from gfocal.catalogue.resolve import model_path, planned_path
from gfocal.commands.export.export import export_files
from gfocal.errors import GfocalError, UsageError
from gfocal.hub.download import hub_file
from gfocal.hub.names import HubName, parse_hub_name
from helpers.fake_hub import Hub, Repository

NAME = parse_hub_name("hub:me/street")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hub:me/street", HubName("me/street", None)),
        ("hub:me/street.v2_x-1@main", HubName("me/street.v2_x-1", "main")),
        ("hub:M-e/s@refs/pr/3", HubName("M-e/s", "refs/pr/3")),
        ("hub:me/s@0123abc", HubName("me/s", "0123abc")),
    ],
)
def test_names(text: str, expected: HubName) -> None:
    assert parse_hub_name(text) == expected
    assert str(expected) == text


WRONG = ["hub:", "hub:street", "hub:me/", "hub:/street", "hub:me/a/b", "hub:me/str eet", "hub:me/..", "hub:me/a@"]
WRONG += ["hub:me/a--b", "hub:../etc/passwd", "hub:me/s@../../x", "hub:-me/s"]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(UsageError, match="names no repository: write hub:owner/name"):
        parse_hub_name(text)


def test_weights_are_fetched_once_and_said_before(hub: Hub, weights: bytes, tmp_path: Path) -> None:
    hub.repositories["me/street"] = Repository({"best.safetensors": weights, "README.md": b"x"}, licence="mit")
    said: list[str] = []
    file = hub_file(NAME, say=said.append)
    assert file.read_bytes() == weights
    assert said == [f"hub:me/street: best.safetensors, {len(weights) / 1e6:,.1f} MB, from {hub.url}, licence: mit"]
    asked = len(hub.asked)
    assert hub_file(NAME, say=said.append) == file
    assert [line.lower() for line in hub.asked[asked:]] == ["get /api/models/me/street?blobs=true"], "only the news"
    assert len(said) == 1


def test_new_weights_there_are_fetched(hub: Hub, weights: bytes) -> None:
    repository = hub.repositories["me/street"] = Repository({"best.safetensors": weights})
    first = hub_file(NAME)
    old = repository.commit
    repository.files["best.safetensors"] = weights + b" "
    assert hub_file(NAME).read_bytes() == weights + b" "
    with pytest.raises(UsageError, match=r"hub:me/street@v9 has no such revision"):
        hub_file(parse_hub_name("hub:me/street@v9"))
    assert hub_file(parse_hub_name(f"hub:me/street@{old}"), offline=True) == first


@pytest.mark.parametrize(
    ("files", "taken"),
    [
        (("model.safetensors", "last.safetensors", "best.safetensors"), "best.safetensors"),
        (("model.safetensors", "last.safetensors"), "last.safetensors"),
        (("other.safetensors", "recipe.yaml"), "other.safetensors"),
    ],
)
def test_which_file_is_taken(hub: Hub, weights: bytes, files: tuple[str, ...], taken: str) -> None:
    hub.repositories["me/street"] = Repository(dict.fromkeys(files, weights))
    assert hub_file(NAME).name == taken


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (("a.safetensors", "b.safetensors"), r"has a\.safetensors, b\.safetensors; gfocal takes best\.safetensors"),
        (("weights.pth",), r"has no \.safetensors file"),
        ((), r"has no \.safetensors file"),
    ],
)
def test_a_repository_without_weights(hub: Hub, files: tuple[str, ...], words: str) -> None:
    hub.repositories["me/street"] = Repository(dict.fromkeys(files, b"x"))
    with pytest.raises(UsageError, match=words):
        hub_file(NAME)


def test_what_is_not_there_or_private(hub: Hub, weights: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no repository hub:me/street, or it is private"):
        hub_file(NAME)
    hub.repositories["me/street"] = Repository({"best.safetensors": weights}, private=True)
    assert hub_file(NAME).is_file()
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(UsageError, match=r"hf auth login"):
        hub_file(NAME)


def test_a_model_by_its_name(hub: Hub, weights: bytes) -> None:
    hub.repositories["me/street"] = Repository({"best.safetensors": weights})
    assert gfocal.load("hub:me/street").names == ("cat", "dog")
    assert planned_path("hub:me/street") == model_path("hub:me/street")


@pytest.mark.slow
def test_an_export_goes_into_the_current_folder(
    hub: Hub, weights: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["me/street.v2"] = Repository({"best.safetensors": weights})
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    report = export_files("hub:me/street.v2", format="pt2", samples=1, allow_drift=True)
    assert report.path == tmp_path / "here" / "street.v2.pt2"
    assert sorted(path.name for path in Path().iterdir()) == ["street.v2.pt2", "street.v2.pt2.parity.json"]


def test_offline_what_is_here_works(hub: Hub, weights: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories["me/street"] = Repository({"best.safetensors": weights})
    monkeypatch.setenv("GFOCAL_OFFLINE", "1")
    with pytest.raises(UsageError, match="hub:me/street is not here, and nothing may be fetched"):
        model_path("hub:me/street")
    assert planned_path("hub:me/street") == Path("hub:me/street")
    monkeypatch.delenv("GFOCAL_OFFLINE")
    file = model_path("hub:me/street")
    monkeypatch.setenv("GFOCAL_OFFLINE", "1")
    asked = len(hub.asked)
    assert model_path("hub:me/street") == file
    assert len(hub.asked) == asked


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> None:
    from huggingface_hub import constants

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(GfocalError, match="the hub cannot be reached for hub:me/street") as error:
            hub_file(NAME)
    assert not isinstance(error.value, UsageError)


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError, match=r"pip install 'gfocal\[hub\]'"):
        model_path("hub:me/street")


def test_weights_of_another_tool_are_refused(hub: Hub) -> None:
    hub.repositories["me/street"] = Repository({"model.safetensors": b"no safetensors"})
    with pytest.raises(UsageError, match="not a gfocal checkpoint"):
        gfocal.load("hub:me/street")
