"""Which files are images, and what is said about the others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, features

from gfocal.errors import UsageError
from gfocal.images.file_types import FOREIGN_SUFFIXES, IMAGE_SUFFIXES
from gfocal.images.io import read_image
from gfocal.prediction.search import find_images, search_images


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6)).save(path, {".jfif": "JPEG", ".jpe": "JPEG", ".apng": "PNG"}.get(path.suffix.lower()))
    return path


def test_files_folders_and_patterns(tmp_path: Path) -> None:
    b, a = image(tmp_path / "in/b.png"), image(tmp_path / "in/a.jpg")
    deep = image(tmp_path / "in/deep/c.png")
    (tmp_path / "in/notes.txt").write_text("no picture")
    image(tmp_path / "in/.hidden.png")
    assert find_images([tmp_path / "in"]) == [a, b]
    assert find_images([b, tmp_path / "in"]) == [b, a]  # each once, in the order of the arguments
    assert find_images([str(tmp_path / "in/*.png")]) == [b]
    assert find_images([str(tmp_path / "in/**/*.png")]) == [b, deep]
    assert find_images([str(tmp_path / "in/*")]) == [a, b]


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path: Path) -> None:
    odd = image(tmp_path / "photo[1].png")
    assert find_images([odd]) == [odd]


def test_upper_case_endings_count(tmp_path: Path) -> None:
    upper = image(tmp_path / "A.PNG")
    assert find_images([tmp_path]) == [upper]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("absent.jpg", "there is no picture"), ("*.jpg", "matches no pictures"), ("empty", "no pictures in folder")],
)
def test_nothing_found_is_refused(tmp_path: Path, pattern: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=message):
        find_images([tmp_path / pattern])


@pytest.mark.parametrize("suffix", [".jfif", ".jpe", ".apng", ".dib", ".jp2", ".ppm", ".avif"])
@pytest.mark.parametrize("upper", [False, True])
def test_every_ending_of_a_format_that_is_read(suffix: str, upper: bool, tmp_path: Path) -> None:
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    made = image(tmp_path / f"a{suffix}")
    file = made.rename(tmp_path / f"A{suffix.upper()}") if upper else made
    assert search_images([tmp_path]).images == (file,)
    assert read_image(file).shape == (3, 6, 8)


def test_no_ending_is_both() -> None:
    assert FOREIGN_SUFFIXES.keys().isdisjoint(IMAGE_SUFFIXES)
    assert all(suffix == suffix.lower() for suffix in (*FOREIGN_SUFFIXES, *IMAGE_SUFFIXES))


def test_what_is_passed_over_is_counted_and_named(tmp_path: Path) -> None:
    photo = image(tmp_path / "a.jpg")
    for name in ("b.heic", "C.HEIC", "clip.mp4", "notes.txt", "x.txt", "Makefile", "predictions.json"):
        (tmp_path / name).write_bytes(b"")
    image(tmp_path / "inner/d.jpg")
    found = search_images([tmp_path])
    assert found.images == (photo,)
    folder = f"folder {tmp_path}"
    heic = f"save it as JPEG or PNG, for example: heif-convert {tmp_path / 'C.HEIC'} picture.jpg"
    film = f"take pictures out of it, for example: ffmpeg -i {tmp_path / 'clip.mp4'} -vf fps=1 frame-%05d.png"
    assert found.passed_over == (
        f"{folder}: 2 files not read, a HEIC picture each (C.HEIC, b.heic): {heic}",
        f"{folder}: 1 file not read, a film (clip.mp4): {film}",
        f"{folder}: 3 files of other kinds not read (.txt and without an ending)",
        f"{folder}: 1 folder in it not searched; --recursive does that",
    )


def test_recursive_searches_inner_folders_once_and_no_hidden_ones(tmp_path: Path) -> None:
    names = ["b.jpg", "a/b.JPG", "a/deep/b.png"]
    files = [image(tmp_path / name) for name in names]
    image(tmp_path / ".thumbnails/b.jpg")
    (tmp_path / "a/clip.mkv").write_bytes(b"")
    os.symlink(tmp_path, tmp_path / "a" / "again")
    found = search_images([tmp_path], recursive=True)
    assert found.images == tuple(files)
    assert len(found.passed_over) == 2
    assert "1 file not read, a film (clip.mkv)" in found.passed_over[0]
    assert "1 linked folder leads to what is searched already (a/again)" in found.passed_over[1]
    assert find_images([tmp_path], recursive=True) == files


def test_linked_folders_are_searched_once_and_behind_the_others(tmp_path: Path) -> None:
    inside = image(tmp_path / "in/sub/deep/a.png")
    image(tmp_path / "elsewhere/deep/b.png")
    os.symlink("sub", tmp_path / "in/link")  # before "sub" by name
    os.symlink("sub/deep", tmp_path / "in/link2")
    os.symlink("../elsewhere", tmp_path / "in/far")
    os.symlink("../elsewhere", tmp_path / "in/further")
    os.symlink("../in", tmp_path / "elsewhere/back")
    found = search_images([tmp_path / "in"], recursive=True)
    assert found.images == (inside, tmp_path / "in/far/deep/b.png")
    assert found.passed_over == (
        f"folder {tmp_path / 'in'}: 4 linked folders lead to what is searched already "
        "(further, link, link2, ... (4 in all))",
    )


def test_an_inner_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = image(tmp_path / "a.png")
    shut = tmp_path / "shut"
    shut.mkdir()
    scan = os.scandir

    def refusing(path: Path) -> Any:
        if Path(path) == shut:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found = search_images([tmp_path], recursive=True)
    assert found.images == (photo,)
    assert found.passed_over == (f"folder {tmp_path}: 1 folder in it cannot be read ({shut}: Permission denied)",)


@pytest.mark.parametrize("recursive", [False, True])
def test_broken_links_and_pipes_are_counted_and_not_opened(recursive: bool, tmp_path: Path) -> None:
    photo = image(tmp_path / "a.png")
    os.symlink("nowhere", tmp_path / "gone.png")
    os.symlink("self.png", tmp_path / "self.png")
    os.symlink("nowhere", tmp_path / ".hidden.png")
    os.mkfifo(tmp_path / "pipe.png")
    found = search_images([tmp_path], recursive=recursive)
    assert found.images == (photo,)
    folder, pattern = f"folder {tmp_path}", tmp_path / "*.png"
    assert found.passed_over == (
        f"{folder}: 2 broken links not read (gone.png, self.png)",
        f"{folder}: 1 pipe or device not read (pipe.png)",
    )
    found = search_images([pattern])
    assert found.images == (photo,)
    assert found.passed_over == (
        f"the pattern {pattern}: 2 broken links not read (gone.png, self.png)",
        f"the pattern {pattern}: 1 pipe or device not read (pipe.png)",
    )
    photo.unlink()
    with pytest.raises(UsageError, match=r"no pictures in folder .*2 broken links .*1 pipe or device not read"):
        search_images([tmp_path], recursive=recursive)


def test_a_broken_link_is_called_so(tmp_path: Path) -> None:
    os.symlink("nowhere", tmp_path / "gone.png")
    with pytest.raises(UsageError, match=r"gone\.png is a broken link: it leads to nowhere, which is not there"):
        find_images([tmp_path / "gone.png"])


def test_a_folder_of_films_says_so(tmp_path: Path) -> None:
    (tmp_path / "clip.MOV").write_bytes(b"")
    image(tmp_path / "inner/a.jpg")
    with pytest.raises(UsageError, match=r"no pictures in folder .*1 file not read, a film .*ffmpeg.*--recursive"):
        find_images([tmp_path])


def test_a_pattern_names_what_differs_in_capitals(tmp_path: Path) -> None:
    lower, upper = image(tmp_path / "a.jpg"), image(tmp_path / "B.JPG")
    if upper.with_name("b.jpg").exists():
        pytest.skip("capitals do not count on this file system")
    found = search_images([str(tmp_path / "*.jpg")])
    assert found.images == (lower,)
    assert found.passed_over == (
        f"the pattern {tmp_path / '*.jpg'}: 1 file not taken, other in capitals alone (B.JPG)",
    )
    with pytest.raises(UsageError, match=r"matches no pictures .*1 file not taken, other in capitals alone \(a\.jpg\)"):
        find_images([str(tmp_path / "A.jp[g]")])


def test_patterns_are_a_list(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"patterns must be a list"):
        find_images(str(tmp_path))
