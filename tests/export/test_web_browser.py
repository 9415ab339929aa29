"""The page in Chromium, opened as a double click opens it: it finds what Python finds, and says what goes wrong."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import gfocal
from gfocal.commands.export.export import export_files
from gfocal.commands.trust.calibrate import calibrate_files
from gfocal.export.web import page as page_module
from gfocal.export.web.runtime import web_runtime
from gfocal.exported.detector import ExportedDetector
from helpers.browser import Browser, browsing
from helpers.file_server import running

pytestmark = pytest.mark.slow
NEXT = "new Promise((go) => document.addEventListener('found', (event) => go(event.detail), { once: true }))"
READY = "document.documentElement?.dataset?.ready"


def opened(browser: Browser, address: str) -> None:
    browser.open(address)
    assert browser.wait(f"location.href === {address!r} && {READY}") == "yes", text(browser, "problem")


def look_at(browser: Browser, file: Path) -> list[dict[str, Any]]:
    """What the page finds on a picture."""
    browser.evaluate(f"window.next = {NEXT}; 0")
    browser.give_files("#file", [file])
    return browser.evaluate("window.next")["found"]  # type: ignore[no-any-return]


def text(browser: Browser, name: str) -> str:
    return str(browser.evaluate(f"document.getElementById({name!r}).textContent"))


def problem(browser: Browser, file: Path) -> str:
    """What the page says of a file that is no picture."""
    browser.evaluate("document.getElementById('problem').hidden = true")
    browser.give_files("#file", [file])
    browser.wait("!document.getElementById('problem').hidden")
    return text(browser, "problem")


@pytest.fixture(scope="module")
def exported(nanodet_page: Path) -> ExportedDetector:
    detector = gfocal.load(nanodet_page / "best.onnx")
    assert isinstance(detector, ExportedDetector)
    return detector


@pytest.fixture(scope="module")
def browser(nanodet_page: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browsing(tmp_path_factory.mktemp("browser")) as browser:
        browser.screen(1280, 900)
        opened(browser, (nanodet_page / "index.html").as_uri())
        yield browser


def check_same(exported: ExportedDetector, file: Path, found: list[dict[str, Any]]) -> None:
    ours = exported.predict(file)
    assert len(found) > 10
    assert [one["label"] for one in found] == ours.labels.tolist()
    np.testing.assert_allclose([one["score"] for one in found], ours.scores, atol=1e-5)
    np.testing.assert_allclose([one["box"] for one in found], ours.boxes, atol=2e-3)
    np.testing.assert_allclose([one["std"] for one in found], ours.edge_std, atol=2e-3)


def kinds(folder: Path, source: Path) -> list[Path]:
    """A picture as files of many kinds."""
    image = Image.open(source)
    turned = image.getexif()
    turned[0x0112] = 6
    image.save(folder / "turned.jpg", exif=turned, quality=95)
    image.save(folder / "progressive.jpg", quality=70, progressive=True, subsampling=2)
    image.convert("L").save(folder / "grey.jpg")
    image.convert("RGB").save(folder / "whole.png")
    image.convert("P").save(folder / "colours.gif")
    image.save(folder / "lossy.webp", quality=80)
    image.resize((91, 63)).save(folder / "small.png")
    return sorted(folder.iterdir())


def test_it_finds_what_python_finds_and_asks_for_nothing(
    browser: Browser, exported: ExportedDetector, shared: Path, tmp_path: Path
) -> None:
    photos = sorted((shared / "data" / "coco_mini" / "images").glob("*.jpg"))
    for file in [*photos[:8], *kinds(tmp_path, photos[1])]:
        check_same(exported, file, look_at(browser, file))
    assert text(browser, "problem") == ""
    assert "by WebAssembly (SIMD, 1 thread)" in text(browser, "status")
    assert {address.partition(":")[0] for address in browser.asked} <= {"file", "blob", "data"}


def test_thresholds_numbers_and_keys(browser: Browser, shared: Path) -> None:
    found = look_at(browser, shared / "data" / "coco_mini" / "images" / "000000000036.jpg")
    at = [sum(one["score"] > least for one in found) for least in (0.30, 0.31)]
    rows = "document.querySelectorAll('#list li').length"
    groups = "document.querySelectorAll('#boxes rect.line').length"
    assert (browser.evaluate(rows), browser.evaluate(groups)) == (at[0], at[0])
    browser.evaluate("document.getElementById('threshold').focus()")
    browser.key("ArrowRight", 39)
    assert text(browser, "threshold-value") == "0.31"
    assert (browser.evaluate(rows), browser.evaluate(groups)) == (at[1], at[1])
    browser.key("ArrowLeft", 37)
    # The list by keys: the first row shows its numbers as soon as it has the focus.
    for _ in range(2):
        browser.key("Tab", 9)
    assert browser.evaluate("document.activeElement.dataset.row") == "0"
    assert text(browser, "numbers-name") == f"person, score {found[0]['score']:.3f}"
    assert text(browser, "edge-right") == f"{found[0]['box'][2]:.1f}"
    assert text(browser, "std-right") == f"± {found[0]['std'][2]:.1f}"
    assert browser.evaluate("document.querySelectorAll('#boxes .band').length") == 4
    browser.key("Escape", 27)
    assert browser.evaluate("document.getElementById('numbers').hidden")
    # And by the mouse: a press on the picture looks at the smallest box there, and stays.
    place = browser.evaluate(
        "(({ x, y, width }) => [x, y, width])(document.getElementById('stage').getBoundingClientRect())"
    )
    scale = place[2] / browser.evaluate("document.getElementById('picture').width")
    x1, y1, x2, y2 = found[0]["box"]
    browser.click(place[0] + scale * (x1 + x2) / 2, place[1] + scale * (0.2 * y1 + 0.8 * y2))
    assert text(browser, "numbers-name").startswith("person")
    none = "Object.assign(document.getElementById('bands'), { value: '0' }).dispatchEvent(new Event('change'))"
    browser.evaluate(none)
    assert browser.evaluate("document.querySelectorAll('#boxes .band').length") == 0


def test_what_is_no_picture_is_said(browser: Browser, tmp_path: Path) -> None:
    for name, content, words in (
        ("notes.txt", b"hello", "“notes.txt” is no picture that this browser can read"),
        ("empty.jpg", b"", "“empty.jpg” is empty"),
        ("cut.jpg", b"\xff\xd8\xff\xe0" + bytes(60), "“cut.jpg” is no picture"),
        ("film.mp4", b"\0\0\0\x20ftypisom", "“film.mp4” is a film: give a picture"),
        ("<b>.png", b"\x89PNG\r\n\x1a\n", "“<b>.png” is no picture"),
    ):
        (tmp_path / name).write_bytes(content)
        assert words in problem(browser, tmp_path / name), name
    drop = """(() => { const data = new DataTransfer(); data.setData("text/plain", "https://example.org/cat.jpg");
        document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true })); })()"""
    browser.evaluate(drop)
    assert "That was no file" in text(browser, "problem")


def test_nothing_found_is_said_and_a_dropped_picture_is_taken(browser: Browser, tmp_path: Path) -> None:
    Image.new("RGB", (200, 100)).save(tmp_path / "black.png")
    assert look_at(browser, tmp_path / "black.png") == []
    assert text(browser, "status").startswith("Nothing is found on this picture · ")
    assert browser.evaluate("document.getElementById('boxes').getAttribute('aria-label')") == "Found: nothing"
    drop = """(async () => {
        const made = new OffscreenCanvas(90, 60), data = new DataTransfer();
        made.getContext("2d").fillRect(0, 0, 90, 60);
        data.items.add(new File([await made.convertToBlob()], "made.png", { type: "image/png" }));
        const found = NEXT;
        document.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
        return (await found).found.length;
    })()"""
    assert browser.evaluate(drop.replace("NEXT", NEXT)) == 0
    assert browser.evaluate("document.getElementById('picture').width") == 90


def test_a_second_picture_takes_the_place_of_one_that_is_looked_at(
    browser: Browser, exported: ExportedDetector, shared: Path
) -> None:
    first, second = (shared / "data" / "coco_mini" / "images" / f"{n:012}.jpg" for n in (36, 25))
    browser.evaluate("window.all = []; document.addEventListener('found', (event) => window.all.push(event.detail))")
    browser.give_files("#file", [first])
    browser.give_files("#file", [second])
    browser.wait("window.all.length")
    check_same(exported, second, browser.evaluate("window.all[0].found"))


def test_a_calibrated_page_shows_the_intervals_that_python_gives(
    nanodet: Path, web_package: Path, shared: Path, tmp_path: Path
) -> None:
    """The scale of each edge is a model's: it looks at the level of the pyramid, too, which the file then gives."""
    weights, page = tmp_path / "weights" / "best.safetensors", tmp_path / "page"
    weights.parent.mkdir()
    coco = shared / "data" / "coco_mini"
    calibrate_files(str(nanodet), coco, out=weights)
    export_files(str(weights), format="web", out=page, runtime=web_package, data=coco, samples=4)
    exported = gfocal.load(page / "best.onnx")
    assert isinstance(exported, ExportedDetector)
    photo = coco / "images" / "000000000036.jpg"
    ours = exported.predict(photo)
    (tmp_path / "profile").mkdir()
    with browsing(tmp_path / "profile") as browser:
        browser.screen(1280, 900)
        opened(browser, (page / "index.html").as_uri())
        found = look_at(browser, photo)
        check_same(exported, photo, found)
        np.testing.assert_allclose([one["interval"] for one in found], ours.edge_interval(), atol=5e-3)
        np.testing.assert_allclose([one["chance"] for one in found], ours.score_calibrated, atol=1e-4)
        assert browser.evaluate("document.getElementById('bands').value") == "interval"
        browser.evaluate("document.querySelector('#list button').click()")
        low, high = found[0]["interval"][0]
        assert text(browser, "interval-left") == f"{low:.1f} – {high:.1f}"
        assert text(browser, "numbers-chance") == f"right in {100 * found[0]['chance']:.0f} % of such cases"
        widths = "[...document.querySelectorAll('#boxes .selected .band')].map((one) => +one.getAttribute('width'))"
        assert len(browser.evaluate(widths)) == 4
        for width in (400, 1280):
            browser.screen(width, 900, phone=width < 500)
            inside = "document.getElementById('numbers').scrollWidth <= document.getElementById('numbers').clientWidth"
            assert browser.wait(inside, 5)
        deviations = (
            "Object.assign(document.getElementById('bands'), { value: '2' }).dispatchEvent(new Event('change'))"
        )
        before = browser.evaluate(widths)
        browser.evaluate(deviations)
        assert browser.evaluate(widths) != before


def test_it_fits_phones_and_screens(browser: Browser, shared: Path, tmp_path: Path) -> None:
    look_at(browser, shared / "data" / "coco_mini" / "images" / "000000000025.jpg")
    pictures = []
    for width, height in ((400, 860), (1280, 900)):
        for dark in (False, True):
            browser.screen(width, height, dark=dark, phone=width < 500)
            wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert browser.wait(f"({wide}) === 0 && 'fits'", 5) == "fits"
            browser.picture(tmp_path / "shot.png")
            pictures.append(np.asarray(Image.open(tmp_path / "shot.png").convert("L"), float))
    corners = [picture[2, 2] for picture in pictures]
    assert [corner > 200 for corner in corners] == [True, False, True, False]


def test_the_camera(nanodet_page: Path, tmp_path: Path) -> None:
    flags = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with browsing(tmp_path, *flags) as browser:
        opened(browser, (nanodet_page / "index.html").as_uri())
        browser.evaluate("window.count = 0; document.addEventListener('found', () => window.count++)")
        browser.evaluate("document.getElementById('camera').click()")
        browser.wait("window.count > 3")
        assert text(browser, "camera") == "Stop the camera"
        assert browser.evaluate("document.getElementById('picture').width") > 100
        browser.evaluate("document.getElementById('camera').click()")
        assert text(browser, "camera") == "Open the camera"
        assert text(browser, "problem") == ""


def test_a_camera_that_is_refused_or_missing(nanodet_page: Path, tmp_path: Path) -> None:
    for folder, flags, words in (
        ("a", ("--use-fake-device-for-media-stream", "--deny-permission-prompts"), "The camera was refused: allow it"),
        ("b", ("--use-fake-ui-for-media-stream",), "There is no camera on this device"),
    ):
        (tmp_path / folder).mkdir()
        with browsing(tmp_path / folder, *flags) as browser:
            opened(browser, (nanodet_page / "index.html").as_uri())
            browser.evaluate("document.getElementById('camera').click()")
            browser.wait("!document.getElementById('problem').hidden")
            assert words in text(browser, "problem")
            assert text(browser, "camera") == "Open the camera"


class Isolated(SimpleHTTPRequestHandler):
    """Serves a folder with the headers that give a page shared memory."""

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_page_that_is_isolated_has_threads(
    nanodet_page: Path, exported: ExportedDetector, shared: Path, tmp_path: Path
) -> None:
    photo = shared / "data" / "coco_mini" / "images" / "000000000025.jpg"
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Isolated, directory=str(nanodet_page)))
    with running(server), browsing(tmp_path) as browser:
        opened(browser, f"http://127.0.0.1:{server.server_port}/index.html")
        cores = browser.evaluate("navigator.hardwareConcurrency")
        check_same(exported, photo, look_at(browser, photo))
        if cores > 1:
            assert f"{min(4, cores)} threads" in text(browser, "status")


@pytest.mark.parametrize(
    ("change", "where", "note"),
    [
        (None, "WebAssembly", "WebGPU takes"),
        (("second.ms >= usual.ms", "false"), "WebGPU", ""),
        (("= difference(", "= 'made up' || difference("), "WebAssembly", "WebGPU finds something else"),
        (('await timed("webgpu", image)', "await gone()"), "WebAssembly", "WebGPU fails (gone is not defined)"),
        (('await create("webgpu")', "await gone()"), "WebAssembly", "WebGPU is here but does not run this network"),
    ],
)
def test_webgpu_is_tried_and_compared(
    change: tuple[str, str] | None,
    where: str,
    note: str,
    nanodet_page: Path,
    web_package: Path,
    exported: ExportedDetector,
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By SwiftShader, which computes on the processor: slower, so that a page goes on without unless it is changed."""
    photo = shared / "data" / "coco_mini" / "images" / "000000000025.jpg"
    if change is not None:
        read = page_module._text
        assert change[0] in read("worker.js")
        monkeypatch.setattr(page_module, "_text", lambda name: read(name).replace(*change))
    shutil.copy(nanodet_page / "best.onnx", tmp_path)
    made = page_module.write_page(tmp_path / "best.onnx", exported.info, web_runtime(web_package), "changed")
    flags = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")
    with browsing(tmp_path, *flags, "--use-angle=swiftshader") as browser:
        opened(browser, made.as_uri())
        if browser.evaluate("navigator.gpu?.requestAdapter().then((it) => it === null) ?? true"):
            pytest.skip("this Chromium has no adapter of WebGPU")
        for _ in range(2):
            check_same(exported, photo, look_at(browser, photo))
            browser.wait(f"document.getElementById('where').textContent.startsWith({where!r})", 5)
            assert f"ms by {where}" in text(browser, "status")
            assert note in text(browser, "where-note")


def test_a_damaged_page_says_that_it_does_not_start(nanodet_page: Path, tmp_path: Path) -> None:
    whole = (nanodet_page / "index.html").read_text()
    at = whole.index('id="model">') + len('id="model">')
    end = whole.index("<", at)
    (tmp_path / "profile").mkdir()
    (tmp_path / "damaged.html").write_text(whole[: at + 400_000] + whole[end:])
    with browsing(tmp_path / "profile") as browser:
        browser.open((tmp_path / "damaged.html").as_uri())
        assert browser.wait(READY) == "no"
        assert text(browser, "problem").startswith("The detector does not start: ")
    shutil.rmtree(tmp_path)
