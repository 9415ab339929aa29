"""A page: what is in it, what it may do, and the package that runs the network in it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gfocal.commands.export.export import export_files
from gfocal.errors import GfocalError, UsageError
from gfocal.export.web import runtime as module
from gfocal.export.web.page import GENERATOR, page_text, write_page
from gfocal.export.web.runtime import NAME, SCRIPT, VERSION, WASM, WebRuntime, address, web_runtime
from gfocal.exported.contract import TileRule
from helpers.calibrated import calibration
from helpers.exporting import checkpoint
from helpers.file_server import FileServer, Served, running
from helpers.made_exports import INFO

RUNTIME = WebRuntime(VERSION, b"export const made = 1;", b"\0asm made")


def page(**changes: object) -> str:
    return page_text({"model": b"net"}, replace(INFO, **changes), "street & <co>", "licences")  # type: ignore[arg-type]


def element(text: str, name: str) -> str:
    found = re.search(rf'<script type="[^"]+" id="{name}">(.*?)</script>', text, re.DOTALL)
    assert found is not None, name
    return found[1]


def test_a_page_has_all_that_it_needs_and_may_ask_for_nothing(tmp_path: Path) -> None:
    model = tmp_path / "best.onnx"
    model.write_bytes(b"network" * 999)
    made = write_page(model, replace(INFO, nms="out"), RUNTIME, "street")
    text = made.read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["LICENSES.txt", "best.onnx", "detector.mjs", "index.html"]
    for name, content in (("model", model.read_bytes()), ("ort-script", RUNTIME.script), ("ort-wasm", RUNTIME.wasm)):
        assert gzip.decompress(base64.b64decode(element(text, name))) == content
    about = json.loads(element(text, "about-data"))
    assert about["info"]["names"] == ["cat", "dog"]
    assert about["info"]["thresholds"]["nms_iou"] == 0.5
    assert len(about["colours"]) == 2
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:)|@import|url\(""", text), "something is asked for"
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy is not None
    assert "default-src &#39;none&#39;" in policy[1]
    script = re.search(r'<script type="module">(.*?)</script>', text, re.DOTALL)
    assert script is not None
    assert base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode() in policy[1]
    assert GENERATOR.encode() in made.read_bytes()[:4096]
    assert "Microsoft" in (tmp_path / "LICENSES.txt").read_text()


def test_names_are_shown_as_they_are() -> None:
    bad = "</script><script>alert(1)</script>"
    text = page(names=(bad, "", "\udcff 猫", "a" * 300))
    text.encode()
    assert bad not in text
    assert json.loads(element(text, "about-data"))["info"]["names"] == [bad, "class 1", "? 猫", "a" * 300]
    assert f"class 1, ? 猫, {'a' * 27}…. Everything" in text
    assert "street &amp; &lt;co&gt;" in text


def test_a_page_says_what_it_shows() -> None:
    with_edges, without = page(), page(outputs=("boxes", "scores", "labels", "count"))
    assert 'id="bands"' in with_edges
    assert 'id="bands"' not in without
    assert "standard deviation" not in without.partition("<script")[0]
    assert "pixels; this page does not" in page(tiling=TileRule(640, 0.2, True))
    assert 'min="0.6"' in page(thresholds=replace(INFO.thresholds, score_threshold=0.6))
    many = page(names=tuple(f"kind {i}" for i in range(300)))
    assert "300 kinds of objects" in many


def test_a_calibrated_page_shows_intervals_at_the_stored_level() -> None:
    own = calibration("edge_std", level=0.8, image_hashes=("aa", "bb"))
    groups = (replace(own.edges.groups[-1], name="\udcff"), *own.edges.groups)
    own = replace(own, edges=replace(own.edges, groups=groups))
    text = page(names=("\udcff", "dog"), calibration=own.to_dict())
    assert '<option value="interval" selected>80 % interval</option>' in text
    assert 'id="interval-left"' in text
    assert 'id="std-left"' not in text
    assert '<option value="1">' in text
    assert f"100 pictures with {own.edges.matches} found objects" in text
    kept = json.loads(element(text, "about-data"))["info"]
    assert kept["names"] == ["?", "dog"]
    assert kept["calibration"]["names"] == ["\udcff", "dog"]  # what groups go by
    assert kept["calibration"].keys() == {"level", "tile", "names", "edges", "scores"}
    without = page(calibration=own.to_dict(), outputs=("boxes", "scores", "labels", "count"))
    assert 'value="interval"' in without
    assert 'value="1"' not in without


@pytest.mark.parametrize("own", [None, calibration("edge_std", tile=640).to_dict()])
def test_a_page_without_intervals_is_as_before_and_says_why(own: dict[str, object] | None) -> None:
    text = page(calibration=own)
    assert 'value="interval"' not in text
    assert 'id="interval-left"' not in text
    assert 'id="std-left"' in text
    assert '<option value="1" selected>' in text
    assert json.loads(element(text, "about-data"))["info"]["calibration"] is None
    words = "not shown: it was calibrated on tiles of 640 pixels and looks at whole pictures"
    assert (words in text) == (own is not None)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"nms": "in"}, "suppresses by itself"),
        ({"nms": "none"}, "suppresses by itself"),
        ({"edge_probs": True}, "leave --edge-probs away"),
        ({"out": Path("page.html")}, "writes a folder"),
        ({"runtime": Path("nowhere.tgz")}, "there is no nowhere.tgz"),
        ({"format": "onnx", "runtime": Path("x")}, "for format web alone"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, options: dict[str, object], words: str) -> None:
    model = checkpoint(tmp_path)
    with pytest.raises(UsageError, match=words):
        export_files(str(model), **{"format": "web", **options})  # type: ignore[arg-type]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["tiny.safetensors"]


def packed(folder: Path, files: dict[str, bytes], name: str = NAME, version: str = VERSION) -> Path:
    about = json.dumps({"name": name, "version": version}).encode()
    file = folder / "made.tgz"
    with tarfile.open(file, "w:gz") as archive:
        for path, content in {"package/package.json": about, **files}.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file


WHOLE = {f"package/dist/{SCRIPT}": RUNTIME.script, f"package/dist/{WASM}": RUNTIME.wasm}


def test_a_page_of_a_model(tmp_path: Path) -> None:
    model, out = checkpoint(tmp_path), tmp_path / "pages" / "mine"
    report = export_files(str(model), format="web", out=out, runtime=packed(tmp_path, WHOLE), samples=2)
    assert report.kept
    assert report.page == out / "index.html"
    assert report.path == out / "tiny.onnx"
    info = report.proof.info
    assert (info.nms, info.batch, info.height, info.width) == ("out", 1, 64, 64)
    names = ["LICENSES.txt", "detector.mjs", "index.html", "tiny.onnx", "tiny.onnx.parity.json"]
    assert sorted(p.name for p in out.iterdir()) == names
    assert json.loads(report.parity.read_text())["info"]["nms"] == "out"  # what the Node example reads
    text = (out / "index.html").read_text()
    assert gzip.decompress(base64.b64decode(element(text, "model"))) == report.path.read_bytes()
    # A page of somebody else is not written over.
    (out / "index.html").write_text("my own page")
    with pytest.raises(UsageError, match="gfocal did not write it"):
        export_files(str(model), format="web", out=out, runtime=packed(tmp_path, WHOLE), samples=2)
    assert (out / "index.html").read_text() == "my own page"


# ---- the package -------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """A registry with a made package, and a home that is empty."""
    for name in (
        "GFOCAL_OFFLINE",
        "HF_HUB_OFFLINE",
        "GFOCAL_MIRROR",
        "npm_config_registry",
        "http_proxy",
        "HTTP_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("gfocal.catalogue.download._PAUSE", 0.0)
    monkeypatch.setenv("GFOCAL_HOME", str(tmp_path / "home"))
    content = packed(tmp_path, WHOLE).read_bytes()
    monkeypatch.setattr(module, "SHA256", hashlib.sha256(content).hexdigest())
    with running(FileServer()) as server:
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"{server.url}/npm/")
        server.files[f"/npm/{NAME}/-/{NAME}-{VERSION}.tgz"] = Served(content)
        yield server


def test_the_package_is_fetched_once_and_said_before(server: FileServer, tmp_path: Path) -> None:
    said: list[str] = []
    assert web_runtime(say=said.append) == RUNTIME
    assert re.search(rf"{NAME} {VERSION} of npm: {server.url}/npm/.*33.1 MB, licence MIT", said[0])
    assert web_runtime(say=said.append) == RUNTIME
    assert len(server.asked) == 1
    kept = sorted(p.name for p in (tmp_path / "home").rglob("*") if p.is_file())
    assert kept == sorted([SCRIPT, WASM, "package.json"])


def test_a_broken_line_is_gone_on_with(server: FileServer) -> None:
    (served,) = server.files.values()
    served.cuts = [100]
    assert web_runtime(say=lambda _: None) == RUNTIME
    assert server.ranges == [None, "bytes=100-"]


def test_another_file_is_refused(server: FileServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "SHA256", "0" * 64)
    with pytest.raises(GfocalError, match=r"another file than the one that was published.*--runtime FILE"):
        web_runtime(say=lambda _: None)
    assert not [p for p in (tmp_path / "home").rglob("*") if p.is_file()]


def test_what_is_gone_and_what_may_not_be_asked(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files.clear()
    with pytest.raises(GfocalError, match=r"nothing any more.*npm pack"):
        web_runtime(say=lambda _: None)
    monkeypatch.setenv("GFOCAL_OFFLINE", "1")
    with pytest.raises(UsageError, match="GFOCAL_OFFLINE forbids"):
        web_runtime(say=lambda _: None)
    assert len(server.asked) == 1


def test_a_package_that_was_put_there_is_taken(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GFOCAL_OFFLINE", "1")
    place = tmp_path / "home" / "downloads" / f"{NAME}-{VERSION}.tgz"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"something else")
    with pytest.raises(UsageError, match="delete it"):
        web_runtime(say=lambda _: None)
    place.write_bytes((tmp_path / "made.tgz").read_bytes())
    assert web_runtime(say=lambda _: None) == RUNTIME
    assert server.asked == []
    assert place.is_file(), "what a person put there"


def test_a_package_whose_keeping_was_interrupted_goes_once_it_is_kept(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_atomically", stopped)
        with pytest.raises(KeyboardInterrupt):
            web_runtime(say=lambda _: None)
    said: list[str] = []
    assert web_runtime(say=said.append) == RUNTIME
    assert "an earlier call has left it" in said[0]
    assert len(server.asked) == 1
    assert not list((tmp_path / "home" / "downloads").iterdir()), "it was fetched, not put there"


def test_addresses(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NPM_CONFIG_REGISTRY")
    assert address() == f"https://registry.npmjs.org/{NAME}/-/{NAME}-{VERSION}.tgz"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "file:///etc")
    with pytest.raises(UsageError, match="NPM_CONFIG_REGISTRY is the address"):
        address()
    monkeypatch.setenv("GFOCAL_MIRROR", "https://example.org/files/")
    assert address() == f"https://example.org/files/{NAME}-{VERSION}.tgz"


def test_a_package_at_hand(tmp_path: Path) -> None:
    said: list[str] = []
    assert web_runtime(packed(tmp_path, WHOLE, version="1.2.3"), said.append) == replace(RUNTIME, version="1.2.3")
    assert "pages are tested with" in said[0]
    folder = tmp_path / "node_modules" / NAME
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text(json.dumps({"name": NAME, "version": VERSION}))
    (folder / "dist" / SCRIPT).write_bytes(RUNTIME.script)
    with pytest.raises(UsageError, match=f"has no {WASM}"):
        web_runtime(folder)
    (folder / "dist" / WASM).write_bytes(RUNTIME.wasm)
    assert web_runtime(folder) == RUNTIME


def test_packages_that_are_none(tmp_path: Path) -> None:
    for files, name, words in (
        (WHOLE, "left-pad", "is the package left-pad"),
        ({}, NAME, f"has no {SCRIPT}"),
        ({"../../etc/passwd": b"x"}, NAME, f"has no {SCRIPT}"),
    ):
        with pytest.raises(UsageError, match=re.escape(words)):
            web_runtime(packed(tmp_path, files, name))
    whole = packed(tmp_path, {f"package/dist/{SCRIPT}": bytes(range(256)) * 999, **WHOLE}).read_bytes()
    for broken in (b"", b"PK\3\4", whole[: len(whole) // 2], b"\x1f\x8b" + bytes(90)):
        (tmp_path / "broken.tgz").write_bytes(broken)
        with pytest.raises(UsageError, match="not onnxruntime-web as npm packs it, or is damaged"):
            web_runtime(tmp_path / "broken.tgz")
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "package.json").write_text("[1]")
    for name in (SCRIPT, WASM):
        (tmp_path / "list" / name).write_text("")
    with pytest.raises(UsageError, match="or is damaged"):
        web_runtime(tmp_path / "list")
