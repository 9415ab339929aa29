from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

import gfocal
from gfocal.detector import DenseDetector
from gfocal.errors import BrokenInputError, UsageError
from gfocal.prediction.load import load_trained
from gfocal.prediction.open import load
from gfocal.prediction.predict import predict
from gfocal.prediction.search import find_images
from gfocal.recipe import load_recipe
from gfocal.runs.checkpoint import save_detector
from gfocal.structures import Detections
from helpers.image_files import tiff

NAMES = ("cat", "dog")


def image(path: Path, size: tuple[int, int] = (40, 30), colour: tuple[int, int, int] = (90, 90, 90)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def finds_one_dog(source: np.ndarray, score_threshold: float | None = None, batch_size: int = 1) -> Detections:
    """Stands in for a detector: a dog with score 0.6 in the left half of every image."""
    height, width = source.shape[:2]
    count = 1 if score_threshold is None or score_threshold < 0.6 else 0
    return Detections(
        torch.tensor([[0.0, 0.0, width / 2, height]])[:count],
        torch.tensor([0.6])[:count],
        torch.tensor([1])[:count],
        NAMES,
        torch.tensor([[1.0, 2.0, 3.0, 4.0]])[:count],
    )


def stub(found: Any) -> DenseDetector:
    """What has all that prediction needs of a detector."""
    return cast(
        DenseDetector,
        SimpleNamespace(names=NAMES, predict=found, device=torch.device("cpu"), value_range="type"),
    )


@pytest.fixture
def detector() -> DenseDetector:
    return cast(DenseDetector, stub(finds_one_dog))


def read(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "predictions.json").read_text())
    return content


# --- predicting


def test_the_json_is_coco_with_scores_and_edge_std(tmp_path: Path, detector: DenseDetector) -> None:
    first, second = image(tmp_path / "a.png", (40, 30)), image(tmp_path / "b.jpg", (20, 10))
    result = predict(detector, [first, second], tmp_path / "out", category_ids=[3, 18])
    content = read(tmp_path / "out")
    assert content["images"] == [
        {"id": 1, "file_name": first.as_posix(), "width": 40, "height": 30, "drawing": "a.png"},
        {"id": 2, "file_name": second.as_posix(), "width": 20, "height": 10, "drawing": "b.jpg"},
    ]
    assert content["categories"] == [{"id": 3, "name": "cat"}, {"id": 18, "name": "dog"}]
    assert content["annotations"][1] == {
        "id": 2,
        "image_id": 2,
        "category_id": 18,
        "bbox": [0.0, 0.0, 10.0, 10.0],
        "area": 100.0,
        "iscrowd": 0,
        "score": pytest.approx(0.6),
        "edge_std": [1.0, 2.0, 3.0, 4.0],
    }
    assert result.num_detections == 2
    assert result.drawings == (tmp_path / "out/a.png", tmp_path / "out/b.jpg")
    assert result.drawings[0].read_bytes().startswith(b"\x89PNG")
    assert result.drawings[1].read_bytes().startswith(b"\xff\xd8\xff")


def test_category_ids_count_from_one_by_default(tmp_path: Path, detector: DenseDetector) -> None:
    predict(detector, [image(tmp_path / "a.png")], tmp_path / "out")
    content = read(tmp_path / "out")
    assert [c["id"] for c in content["categories"]] == [1, 2]
    assert content["annotations"][0]["category_id"] == 2


def test_the_score_threshold_reaches_the_detector(tmp_path: Path, detector: DenseDetector) -> None:
    result = predict(detector, [image(tmp_path / "a.png")], tmp_path / "out", score_threshold=0.7)
    assert result.num_detections == 0
    assert read(tmp_path / "out")["annotations"] == []


def test_equal_names_get_distinct_drawings(tmp_path: Path, detector: DenseDetector) -> None:
    inputs = [image(tmp_path / name) for name in ("1/x.png", "2/x.png", "3/X.png", "4/x.bmp", "5/x.tif")]
    result = predict(detector, inputs, tmp_path / "out")
    assert [p.name for p in result.drawings] == ["x.png", "x-2.png", "X-3.png", "x-4.png", "x-5.png"]
    assert all(p.is_file() for p in result.drawings)


def test_inputs_and_foreign_files_are_never_written_over(tmp_path: Path, detector: DenseDetector) -> None:
    source = image(tmp_path / "x.png")
    other = image(tmp_path / "sub/y.png")
    foreign = image(tmp_path / "y.png", colour=(1, 2, 3))
    before = source.read_bytes(), foreign.read_bytes()
    for _ in range(2):  # a second call writes over its own drawings
        result = predict(detector, [source, other], tmp_path)
        assert [p.name for p in result.drawings] == ["x-2.png", "y-2.png"]
        assert (source.read_bytes(), foreign.read_bytes()) == before


def test_drawings_of_earlier_calls_may_be_replaced(tmp_path: Path, detector: DenseDetector) -> None:
    a, b = image(tmp_path / "a.png"), image(tmp_path / "b.png")
    for source in (a, b, a):
        result = predict(detector, [source], tmp_path / "out")
        assert result.drawings == (tmp_path / "out" / source.name,)


def test_a_second_call_does_not_draw_on_drawings(tmp_path: Path, detector: DenseDetector) -> None:
    source = image(tmp_path / "x.png")
    for left_out in ((), (tmp_path / "x-2.png",)):
        result = predict(detector, find_images([tmp_path]), tmp_path)
        assert result.drawings == (tmp_path / "x-2.png",)
        assert result.left_out == left_out
        assert [image["file_name"] for image in read(tmp_path)["images"]] == [source.as_posix()]
    with pytest.raises(UsageError, match="all pictures given are drawings of an earlier call"):
        predict(detector, [tmp_path / "x-2.png"], tmp_path)


@pytest.mark.parametrize(("precision", "low"), [("fp32", False), ("bf16", True)])
def test_the_network_runs_in_the_precision_asked_for(tmp_path: Path, precision: str, low: bool) -> None:
    seen: list[bool] = []

    def found(source: np.ndarray, score_threshold: float | None = None, batch_size: int = 1) -> Detections:
        seen.append(torch.is_autocast_enabled("cpu"))
        return finds_one_dog(source, score_threshold)

    predict(stub(found), [image(tmp_path / "a.png")], tmp_path / "out", precision=precision)
    assert seen == [low]


def test_inner_folders_do_not_overwrite_each_other(tmp_path: Path, detector: DenseDetector) -> None:
    sources = [image(tmp_path / "in" / name) for name in ("x.png", "a/x.png", "b/x.png", "b/X.PNG", "b/x.jfif")]
    for _ in range(2):  # the second call finds the drawings of the first one among its images, and leaves them out
        found = find_images([tmp_path / "in"], recursive=True)
        result = predict(detector, found, tmp_path / "in/out")
        assert {entry["file_name"] for entry in read(tmp_path / "in/out")["images"]} == {p.as_posix() for p in sources}
        assert len({drawing.name.lower() for drawing in result.drawings}) == len(sources)
        assert all(drawing.parent == tmp_path / "in/out" for drawing in result.drawings)
    assert set(result.left_out) == set(result.drawings)
    again = predict(detector, found, tmp_path / "elsewhere")  # into another folder, too
    assert len(again.drawings) == len(sources)


@pytest.mark.parametrize(
    ("name", "head", "words"),
    [
        ("clip.mp4", b"\0\0\0\x20ftypisom", r"is a film, not a picture; take pictures out of it, .*ffmpeg -i '.*mp4'"),
        ("clip.mov", b"\0\0\0\x14ftypqt  ", "is a film"),
        ("clip.avi", b"RIFF\0\0\0\0AVI LIST", "is a film"),
        ("clip.mkv", b"\x1aE\xdf\xa3", "is a film"),
        ("clip.webm", b"\x1aE\xdf\xa3\x01\0\0\0", "is a film"),
        ("clip.ts", (b"G" + bytes(187)) * 3, "is a film"),
        ("clip.jpg", b"\0\0\0\x20ftypmp42", "is a film"),
        ("page.pdf", b"%PDF-1.4\n", "is a PDF, not a picture; turn its pages .*pdftoppm"),
        ("a.svg", b"<?xml version='1.0'?>\n<svg xmlns='x'/>", "is an SVG drawing, not a picture; draw it as PNG"),
        ("a.svg", b"<svg xmlns='x'/>", "is an SVG drawing"),
        ("a.heic", b"\0\0\0\x18ftypheic", "is a HEIC picture, which is not read; save it as JPEG or PNG"),
        ("a.dcm", bytes(128) + b"DICM", "is a DICOM file, not a picture; save it as 16-bit PNG or TIFF"),
        ("a.wav", b"RIFF\0\0\0\0WAVEfmt ", "is truncated, damaged or not a picture"),
    ],
)
def test_other_files_are_named(
    name: str, head: bytes, words: str, tmp_path: Path, detector: DenseDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "it's here" / name
    file.parent.mkdir()
    file.write_bytes(head + bytes(500))
    if not name.endswith((".jpg", ".wav")):
        monkeypatch.setattr(np, "fromfile", None)  # a film may be larger than the memory
    with pytest.raises(BrokenInputError, match=words):
        predict(detector, [file], tmp_path / "out")


def test_a_foreign_predictions_file_is_not_replaced(tmp_path: Path, detector: DenseDetector) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/predictions.json").write_text('{"mine": 1}')
    with pytest.raises(UsageError, match=r"predictions\.json was not written by gfocal"):
        predict(detector, [image(tmp_path / "a.png")], tmp_path / "out")


def test_broken_images_are_left_out_unless_none_is_left(tmp_path: Path, detector: DenseDetector) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff nothing")
    good = image(tmp_path / "good.png")
    result = predict(detector, [tmp_path / "bad.jpg", good], tmp_path / "out")
    assert [p.name for p in result.drawings] == ["good.png"]
    assert len(result.skipped) == 1
    assert "bad.jpg" in result.skipped[0]
    assert [image["id"] for image in read(tmp_path / "out")["images"]] == [1]
    with pytest.raises(BrokenInputError, match=r"bad\.jpg"):
        predict(detector, [tmp_path / "bad.jpg"], tmp_path / "out2")


def test_of_several_broken_images_the_error_is_about_the_first(tmp_path: Path, detector: DenseDetector) -> None:
    paths = [tmp_path / f"{name}.jpg" for name in "abc"]
    for path in paths:
        path.write_bytes(b"nothing")
    with pytest.raises(BrokenInputError, match=r"no picture can be read: .*a\.jpg.*b\.jpg.*c\.jpg") as caught:
        predict(detector, paths, tmp_path / "out")
    assert caught.value.path == paths[0]
    with pytest.raises(UsageError, match="no pictures were given"):
        predict(detector, [], tmp_path / "out")


def test_unreadable_images_are_grouped_by_reason(tmp_path: Path, detector: DenseDetector) -> None:
    deep = [tmp_path / f"{name}.tif" for name in "abcde"]
    for number, path in enumerate(deep):
        path.write_bytes(tiff(np.full((4, 4), -number - 5.5, np.float32), kind=3))
    empty = [tmp_path / "x.png", tmp_path / "y.png"]
    for path in empty:
        path.write_bytes(b"")
    result = predict(detector, [*deep, *empty, tmp_path / "gone.png", image(tmp_path / "good.png")], tmp_path / "out")
    assert len(result.skipped) == 8  # one line each, for programs
    assert result.reasons == (
        f"5 pictures ({deep[0]}, {deep[1]}, {deep[2]}, ...): the first has floating-point numbers from -5.5 to -5.5, "
        "which do not say what is black and what is white: set data.range to what is in use in all pictures, for "
        "example data.range=[-5.5,-4.5]",
        f"2 pictures ({empty[0]}, {empty[1]}): each is an empty file; replace it",
        f"picture {tmp_path / 'gone.png'} does not exist",
    )
    with pytest.raises(BrokenInputError) as caught:
        predict(detector, deep, tmp_path / "out2")
    assert str(caught.value) == f"no picture can be read: {result.reasons[0]}"
    assert caught.value.path == deep[0]


def test_frames_and_pages_that_are_not_read_are_counted(tmp_path: Path, detector: DenseDetector) -> None:
    frames = [Image.new("RGB", (40, 30), (shade, 90, 90)) for shade in (10, 90, 200)]
    several = [tmp_path / f"a.{suffix}" for suffix in ("gif", "webp", "tif", "png")]
    for path in several:
        frames[0].save(path, save_all=True, append_images=frames[1:])
    single = [image(tmp_path / f"b.{suffix}") for suffix in ("gif", "webp", "tif", "png", "jpg")]
    result = predict(detector, [*several, *single], tmp_path / "out")
    assert result.passed_over == (
        "4 pictures have several frames or pages, of which only the first is looked at "
        f"({several[0]}, {several[1]}, {several[2]}, ...)",
    )
    assert predict(detector, single, tmp_path / "out").passed_over == ()


def test_images_beyond_the_range_in_use_are_warned_of_once(tmp_path: Path, detector: DenseDetector) -> None:
    detector.value_range = (0, 4095)
    contents = {
        "white1.tif": np.full((4, 4), 57000, np.int32),
        "white2.tif": np.full((4, 4), 147000, np.int32),
        "half.tif": np.array([[0, 9], [5000, 5000]], np.int32),
        "black.tif": np.zeros((4, 4), np.uint16),  # a dark image, not one of another range
        "grey.tif": np.full((4, 4), 2000, np.uint16),
        "eight.tif": np.full((4, 4), 255, np.uint8),
    }
    for name, values in contents.items():
        (tmp_path / name).write_bytes(tiff(values, kind=2 if values.dtype == np.int32 else 1))
    result = predict(detector, [tmp_path / name for name in contents], tmp_path / "out")
    (line,) = result.warnings
    assert line.startswith(
        "2 pictures have most of their values outside of data.range=[0,4095], where all is black or white "
        f"({tmp_path / 'white1.tif'}, {tmp_path / 'white2.tif'}): the values go from 57000 to 147000."
    )
    for value_range in ("type", (0, 200000)):
        detector.value_range = value_range  # type: ignore[assignment]
        assert predict(detector, [tmp_path / "grey.tif"], tmp_path / "out").warnings == ()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path, detector: DenseDetector) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        predict(detector, [image(tmp_path / "a.png")], tmp_path / "out")


def test_progress_counts_every_image(tmp_path: Path, detector: DenseDetector) -> None:
    seen: list[tuple[int, int]] = []
    inputs = [image(tmp_path / "a.png"), tmp_path / "absent.png"]
    predict(detector, inputs, tmp_path / "out", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]


# --- loading


def test_load_gives_an_untrained_detector_for_a_recipe() -> None:
    detector = gfocal.load("gfl_nano", ["data.resize.size=64"], names=NAMES)
    assert detector.names == NAMES
    assert detector.resize.size == 64
    assert not detector.training
    assert len(load("gfl_nano").names) == 80


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name_or_path": 3}, "a path or the name of a recipe is needed, not int 3"),
        ({"name_or_path": "gfl_nano", "names": "cat"}, r"names must be a list of texts, such as \['cat'\]"),
        ({"name_or_path": "gfl_nano", "overrides": "a=b"}, "overrides must be a list of texts"),
        ({"name_or_path": "gfl_nano", "names": []}, "names is empty"),
    ],
)
def test_what_load_cannot_take_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(**arguments)


def test_load_reads_what_was_saved(tmp_path: Path) -> None:
    recipe = load_recipe("gfl_nano", ["data.resize.size=64"])
    torch.manual_seed(0)
    detector = load("gfl_nano", ["data.resize.size=64"], names=NAMES)
    (tmp_path / "run").mkdir()
    file = tmp_path / "run/best.safetensors"
    save_detector(file, detector.state_dict(), recipe, NAMES, category_ids=[5, 6])
    image = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = detector.predict(image, score_threshold=0.0)
    for path in (tmp_path / "run", file, str(file)):
        found = load(path).predict(image, score_threshold=0.0)
        assert found.names == NAMES
        torch.testing.assert_close(found.boxes, expected.boxes, rtol=1e-4, atol=1e-3)
    assert load_trained(file)[2].category_ids == [5, 6]
    with pytest.raises(UsageError, match="names goes with a recipe"):
        load(file, names=NAMES)


def test_a_folder_goes_before_a_recipe_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gfl_nano").mkdir()
    with pytest.raises(UsageError, match="not a finished run"):
        load("gfl_nano")


@pytest.mark.parametrize("path", ["gfl_nano", "mine.yaml"])
def test_a_recipe_is_no_trained_detector(path: str) -> None:
    with pytest.raises(UsageError, match="is a recipe, a detector without training"):
        load_trained(path)


def test_what_does_not_exist_is_named_with_the_nearest_recipe() -> None:
    with pytest.raises(UsageError, match=r"no run folder or checkpoint gfl_nan; .* gfl_nano"):
        load("gfl_nan")


def test_paths_may_be_texts_but_not_one_alone(detector: DenseDetector, tmp_path: Path) -> None:
    file, out = image(tmp_path / "a.jpg"), tmp_path / "out"
    done = predict(detector, [str(file)], str(out))
    assert (done.drawings, done.left_out) == ((out / "a.jpg",), ())
    for alone in (file, str(file)):
        with pytest.raises(UsageError, match=r"must be a list of files, such as \['.*a.jpg'\], not a single path"):
            predict(detector, alone, tmp_path / "other")  # type: ignore[arg-type]
    assert not (tmp_path / "other").exists()
