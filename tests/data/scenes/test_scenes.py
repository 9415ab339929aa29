"""Generated scenes: the numbers they promise, labels that match what is drawn, files that are the same again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import kstest, truncnorm

from gfocal.data.scenes.drawing import CAUSES, Scene, place, sketch
from gfocal.data.scenes.generate import draw_indexed, make_scenes
from gfocal.data.scenes.painting import Piece, paint
from gfocal.data.scenes.shapes import CLASSES, outlines, rasterise, smear, truncated_normal
from gfocal.errors import UsageError

SIZE = 128
TRUNCATED_STD = float(truncnorm(-2, 2).std())  # 0.8796


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_indexed(SIZE, 5, 0, index) for index in range(1, 161)]


@pytest.fixture(scope="module")
def hard() -> list[Scene]:
    return [draw_indexed(256, 5, 0, index, "hard") for index in range(1, 91)]


def joined(scenes: list[Scene], name: str) -> np.ndarray:
    return np.concatenate([getattr(scene, name) for scene in scenes])


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def square_piece(side: int) -> Piece:
    """A sharp square that fills its frame."""
    solid = np.ones((side, side), dtype=bool)
    edges = np.array([0.0, 0.0, side, side])
    piece = Piece(1, edges, np.zeros(4), [""] * 4, solid.astype(np.float32), [], solid, solid, solid.copy())
    near = np.arange(side) < max(2, round(0.08 * side))
    piece.strips = [
        np.tile(near, (side, 1)),
        np.tile(near[:, None], side),
        np.tile(near[::-1], (side, 1)),
        np.tile(near[::-1, None], side),
    ]
    return piece


def sharp_piece(label: int, size: int, seed: int) -> Piece:
    rng = np.random.default_rng(seed)
    while True:
        piece = sketch(size, rng)
        if piece.label == label and not piece.std.any():
            return piece


class TestStatistics:
    def test_counts_classes_and_background(self, scenes: list[Scene]) -> None:
        counts = np.array([len(scene.labels) for scene in scenes])
        assert counts.mean() >= 6
        assert (counts == 0).mean() == 0.1
        shares = np.bincount(joined(scenes, "labels"), minlength=len(CLASSES)) / counts.sum()
        assert len(CLASSES) >= 5
        assert shares.min() > 0.5 / len(CLASSES)

    def test_sides_and_boxes_inside(self, scenes: list[Scene]) -> None:
        boxes = joined(scenes, "boxes")
        sides = (boxes[:, 2:] - boxes[:, :2]) / SIZE
        assert 0.05 <= sides.min() < 0.08
        assert 0.4 < sides.max() <= 0.6
        assert boxes.min() >= 0
        assert boxes.max() <= SIZE

    def test_overlap_and_visibility(self, scenes: list[Scene]) -> None:
        assert joined(scenes, "overlapped").mean() >= 0.3
        visible = joined(scenes, "visible")
        assert visible.min() >= 0.4
        assert visible.max() == 1.0

    def test_share_and_width_of_uncertain_edges(self, scenes: list[Scene]) -> None:
        ambiguity, centres = joined(scenes, "ambiguity"), joined(scenes, "centres")
        uncertain = (ambiguity > 0).any(axis=1)
        assert 0.4 < uncertain.mean() < 0.6
        assert 0.25 < (ambiguity[uncertain] > 0).mean() < 0.35
        sides = np.tile(centres[:, 2:] - centres[:, :2], 2)
        share = (ambiguity / sides)[ambiguity > 0]
        assert share.min() >= 0.02 - 1e-9
        assert share.max() <= 0.06 + 1e-9
        causes = np.array([cause for scene in scenes for cause in scene.causes])
        np.testing.assert_array_equal(causes != "", ambiguity > 0)
        assert set(causes.ravel()) == {"", *CAUSES}

    def test_labels_are_drawn_from_the_recorded_width(self, scenes: list[Scene]) -> None:
        ambiguity = joined(scenes, "ambiguity")
        moved = joined(scenes, "boxes") - joined(scenes, "centres")
        np.testing.assert_array_equal(moved[ambiguity == 0], 0.0)
        z = moved[ambiguity > 0] / ambiguity[ambiguity > 0]
        assert len(z) > 400
        assert abs(z).max() <= 2.0
        assert kstest(z, truncnorm(-2, 2).cdf).pvalue > 0.01
        assert z.std() == pytest.approx(TRUNCATED_STD, abs=4 * TRUNCATED_STD / np.sqrt(2 * len(z)))

    def test_truncated_normal_quantiles(self) -> None:
        for uniform in (0.0, 0.1, 0.5, 0.9, 1.0):
            assert truncated_normal(uniform) == pytest.approx(truncnorm(-2, 2).ppf(uniform), abs=1e-9)


class TestHard:
    """Larger objects with edges of more different ambiguity."""

    def test_objects_are_larger_and_edges_differ_more(self, hard: list[Scene]) -> None:
        boxes, centres = joined(hard, "boxes"), joined(hard, "centres")
        assert (boxes[:, 2:] - boxes[:, :2]).min() >= 256 * 0.16 * (1 - 2 * 0.12)
        assert boxes.min() >= 0
        assert boxes.max() <= 256
        ambiguity = joined(hard, "ambiguity")
        share = (ambiguity / np.tile(centres[:, 2:] - centres[:, :2], 2))[ambiguity > 0]
        assert 0.02 - 1e-9 <= share.min() < 0.025
        assert 0.10 < share.max() <= 0.12 + 1e-9
        # Evenly over the logarithm: as many below sqrt(0.02 * 0.12) as above.
        assert (share < np.sqrt(0.02 * 0.12)).mean() == pytest.approx(0.5, abs=0.12)
        counts = [len(scene.labels) for scene in hard]
        assert min(counts) == 0
        assert max(counts) <= 6
        assert np.mean(counts) > 2.5

    def test_labels_are_drawn_from_the_recorded_width(self, hard: list[Scene]) -> None:
        ambiguity = joined(hard, "ambiguity")
        moved = joined(hard, "boxes") - joined(hard, "centres")
        z = moved[ambiguity > 0] / ambiguity[ambiguity > 0]
        assert abs(z).max() <= 2.0
        assert z.std() == pytest.approx(TRUNCATED_STD, abs=4 * TRUNCATED_STD / np.sqrt(2 * len(z)))

    def test_files_say_what_they_are_and_are_not_taken_for_plain_ones(self, tmp_path: Path) -> None:
        make_scenes(tmp_path, train=3, val=0, size=96, style="hard")
        info = json.loads((tmp_path / "annotations" / "train.json").read_text())["info"]
        assert info["style"] == "hard"
        with pytest.raises(UsageError, match=r"another set of scenes \(hard, version 1"):
            make_scenes(tmp_path, train=3, val=0, size=96)
        with pytest.raises(UsageError, match="style must be plain or hard"):
            make_scenes(tmp_path / "b", train=3, val=0, size=96, style="easy")


class TestLabelsMatchTheImage:
    @pytest.mark.parametrize("name", CLASSES)
    @pytest.mark.parametrize("side", [12.3, 61.7, 150.2])
    def test_shapes_touch_the_four_sides_of_their_box(self, name: str, side: float) -> None:
        polygons = [p + 3.4 for p in outlines(name, side, 1.2 * side, np.random.default_rng(3))]
        mask = rasterise(polygons, int(side) + 8, int(1.2 * side) + 8)
        ys, xs = np.nonzero(mask > 0.02)
        extent = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        np.testing.assert_allclose(extent, [3.4, 3.4, 3.4 + side, 3.4 + 1.2 * side], atol=1.0)

    def test_areas_of_shapes(self) -> None:
        rng = np.random.default_rng(0)
        share = {name: rasterise(outlines(name, 100, 100, rng), 100, 100).mean() for name in ("disc", "ring")}
        assert share["disc"] == pytest.approx(np.pi / 4, abs=0.01)
        assert share["ring"] == pytest.approx(np.pi / 4 * (1 - 0.56**2), abs=0.01)

    @pytest.mark.parametrize("label", range(len(CLASSES)))
    def test_painted_sharp_object_ends_at_its_labels(self, label: int) -> None:
        for seed in range(4):
            piece = sharp_piece(label, 160, seed)
            assert place(piece, [], 160, np.random.default_rng(seed))
            canvas = np.full((160, 160, 3), 0.5, dtype=np.float32)
            paint(canvas, piece, np.random.default_rng(seed))
            ys, xs = np.nonzero(np.abs(canvas - 0.5).max(axis=2) > 0.01)
            extent = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            np.testing.assert_allclose(extent, piece.box, atol=1.0)

    @pytest.mark.parametrize("std", [1.0, 2.0, 4.0, 8.0])
    @pytest.mark.parametrize("edge", [40.3, 159.8])
    def test_ramp_is_the_distribution_of_the_edge(self, std: float, edge: float) -> None:
        low, high = sorted((edge, 200.0 - edge))
        position = np.arange(200) + 0.5
        profile = np.clip(0.5 + np.sign(100 - edge) * (position - edge), 0, 1).astype(np.float32)
        alpha = np.tile(profile, (7, 1))
        which = 0 if edge < 100 else 2
        rows = smear(alpha, which, np.array([low, 0, high, 7]), std)
        columns = smear(alpha.T, which + 1, np.array([0, low, 7, high]), std)
        np.testing.assert_array_equal(rows, columns.T)
        smeared = rows[3]
        density = np.abs(np.diff(smeared))
        at = np.arange(1.0, 200.0)
        mean = (density * at).sum() / density.sum()
        spread = np.sqrt((density * (at - mean) ** 2).sum() / density.sum())
        assert mean == pytest.approx(edge, abs=0.1)
        # A pixel's width and the interpolation blur by themselves: variance about 1/12 + 1/6 and a little more.
        assert spread == pytest.approx(np.sqrt((TRUNCATED_STD * std) ** 2 + 0.3), abs=0.15)

    def test_smear_leaves_the_far_half_alone(self) -> None:
        alpha = np.random.default_rng(0).random((60, 5), dtype=np.float32)
        smeared = smear(alpha, 1, np.array([0.0, 10.0, 5.0, 50.0]), 3.0)
        np.testing.assert_array_equal(smeared[31:], alpha[31:])
        assert (smeared[8:12] != alpha[8:12]).all()

    def test_clutter_hides_just_the_range_of_the_edge(self) -> None:
        rng, checked = np.random.default_rng(1), 0
        while checked < 40:
            piece = sketch(320, rng)
            for edge, (x1, y1, x2, y2) in piece.bars:
                low, high = (x1, x2) if edge % 2 == 0 else (y1, y2)
                reach = 2.0 * piece.std[edge]
                np.testing.assert_allclose([low, high], [piece.edges[edge] - reach, piece.edges[edge] + reach], atol=1)
                checked += 1

    @pytest.mark.parametrize("cause", ["blur", "shadow", "fog"])
    def test_what_is_painted_widens_with_the_recorded_std(self, cause: str) -> None:
        widths = []
        for std in (1.5, 3.0, 6.0):
            solid = np.zeros((120, 180), dtype=np.float32)
            solid[40:80, 60:140] = 1.0
            mask = solid > 0.5
            edges, stds = np.array([60.0, 40.0, 140.0, 80.0]), np.array([std, 0, 0, 0])
            piece = Piece(1, edges, stds, [cause, "", "", ""], smear(solid, 0, edges, std), [], mask, mask, mask)
            canvas = np.full((180, 180, 3), 0.5, dtype=np.float32)
            paint(canvas, piece, np.random.default_rng(0))
            changed = np.abs(canvas[60, :60] - 0.5).max(axis=1) > 0.01
            widths.append(int(changed.sum()))
        assert widths[0] >= 2
        assert widths[1] > 1.4 * widths[0]
        assert widths[2] > 1.4 * widths[1]


class TestPlacing:
    def test_overlap_is_recorded_on_both_and_hides_what_it_covers(self) -> None:
        below, above = square_piece(20), square_piece(20)
        below.at = (10, 10)
        for seed in range(200):
            above.overlapped = below.overlapped = False
            below.shown = below.drawn.copy()
            assert place(above, [below], 60, np.random.default_rng(seed))
            x, y = np.clip(20 - np.abs(np.array(above.at) - 10), 0, None)
            assert below.shown.sum() == 400 - x * y
            assert below.overlapped == above.overlapped == (x * y >= 4)
            assert below.shown.sum() >= 0.4 * 400

    def test_no_place_is_found_where_every_one_hides_the_object_below(self) -> None:
        below = square_piece(20)
        below.at = (2, 2)
        assert not place(square_piece(22), [below], 24, np.random.default_rng(0))
        assert below.shown.all()
        assert not below.overlapped


class TestFiles:
    def test_coco_json_and_images(self, tmp_path: Path) -> None:
        steps: list[tuple[int, int]] = []
        make_scenes(tmp_path / "a", train=30, val=12, size=96, seed=3, progress=lambda *s: steps.append(s))
        assert steps == [(25, 42), (30, 42), (42, 42)]
        names = sorted(path.name for path in (tmp_path / "a" / "images").iterdir())
        assert names == [f"train_{i:06d}.jpg" for i in range(1, 31)] + [f"val_{i:06d}.jpg" for i in range(1, 13)]
        content = json.loads((tmp_path / "a" / "annotations" / "train.json").read_text())
        expected = {"version": 1, "seed": 3, "size": 96, "train": 30, "val": 12}
        assert {key: content["info"][key] for key in expected} == expected
        assert "style" not in content["info"]  # the same bytes as before there were styles
        assert [category["name"] for category in content["categories"]] == list(CLASSES)
        assert [category["id"] for category in content["categories"]] == [1, 2, 3, 4, 5, 6]
        assert [a["id"] for a in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))
        assert len(content["images"]) == 30
        scene = draw_indexed(96, 3, 0, 7)
        found = [a for a in content["annotations"] if a["image_id"] == 7]
        boxes = np.array([a["bbox"] for a in found])
        np.testing.assert_allclose(boxes[:, :2] + boxes[:, 2:], scene.boxes[:, 2:], atol=2e-3)
        np.testing.assert_allclose(boxes[:, 2] * boxes[:, 3], [a["area"] for a in found], atol=1e-3)
        np.testing.assert_allclose([a["edge_ambiguity"] for a in found], scene.ambiguity, atol=1e-3)
        assert [a["category_id"] for a in found] == [label + 1 for label in scene.labels]
        assert {a["iscrowd"] for a in found} == {0}
        with Image.open(tmp_path / "a" / "images" / content["images"][6]["file_name"]) as image:
            assert image.size == (96, 96)
            decoded = np.asarray(image, dtype=float)
        assert np.abs(decoded - scene.image).mean() < 6

    def test_same_bytes_again_and_whatever_the_number(self, tmp_path: Path) -> None:
        make_scenes(tmp_path / "a", train=12, val=3, size=64, seed=1)
        make_scenes(tmp_path / "b", train=12, val=3, size=64, seed=1)
        assert files(tmp_path / "a") == files(tmp_path / "b")
        # 110 images: more than one process draws them.
        make_scenes(tmp_path / "c", train=108, val=2, size=64, seed=1)
        first, more = files(tmp_path / "a"), files(tmp_path / "c")
        images = {name for name in first if name.endswith(".jpg")} - {"images/val_000003.jpg"}
        assert len(images) == 14
        assert all(first[name] == more[name] for name in images)
        make_scenes(tmp_path / "d", train=12, val=3, size=64, seed=2)
        other = files(tmp_path / "d")
        assert not any(first[name] == other[name] for name in first)
        assert first["images/train_000001.jpg"] != first["images/val_000001.jpg"]

    def test_smallest_images_and_an_empty_split(self, tmp_path: Path) -> None:
        make_scenes(tmp_path, train=9, val=0, size=64)
        assert json.loads((tmp_path / "annotations" / "val.json").read_text())["images"] == []
        content = json.loads((tmp_path / "annotations" / "train.json").read_text())
        sides = np.array([a["bbox"][2:] for a in content["annotations"]])
        assert len(sides) >= 9 * 5
        assert sides.min() >= 0.05 * 64

    def test_a_complete_set_is_left_alone(self, tmp_path: Path) -> None:
        make_scenes(tmp_path, train=3, val=1, size=64)
        (tmp_path / "images" / "train_000002.jpg").write_bytes(b"mine")
        make_scenes(tmp_path, train=3, val=1, size=64)
        assert (tmp_path / "images" / "train_000002.jpg").read_bytes() == b"mine"

    def test_an_interrupted_set_is_finished(self, tmp_path: Path) -> None:
        def stop(done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            make_scenes(tmp_path / "a", train=30, val=2, size=64, progress=stop)
        assert not (tmp_path / "a" / "annotations" / "train.json").exists()
        with pytest.raises(UsageError, match="another set"):
            make_scenes(tmp_path / "a", train=31, val=2, size=64)
        make_scenes(tmp_path / "a", train=30, val=2, size=64)
        make_scenes(tmp_path / "b", train=30, val=2, size=64)
        assert files(tmp_path / "a") == files(tmp_path / "b")

    def test_anything_else_in_the_folder_is_refused(self, tmp_path: Path) -> None:
        make_scenes(tmp_path / "a", train=2, val=1, size=64)
        for change in ({"seed": 1}, {"size": 65}, {"train": 3}, {"val": 2}):
            with pytest.raises(UsageError, match="another set of scenes"):
                make_scenes(tmp_path / "a", **{"train": 2, "val": 1, "size": 64, "seed": 0, **change})
        (tmp_path / "b").mkdir()
        (tmp_path / "b" / "thesis.txt").write_text("ten years")
        with pytest.raises(UsageError, match="not scenes"):
            make_scenes(tmp_path / "b", train=2, val=1, size=64)
        with pytest.raises(UsageError, match="is a file"):
            make_scenes(tmp_path / "b" / "thesis.txt", train=2, val=1, size=64)
        with pytest.raises(UsageError, match="cannot write"):
            make_scenes(tmp_path / "b" / "thesis.txt" / "deeper", train=2, val=1, size=64)
        assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["thesis.txt"]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"size": 63}, "size must be a whole number of at least 64, got 63"),
            ({"size": 96.0}, "size must be a whole number"),
            ({"train": -1}, "train must be .* at least 0, got -1"),
            ({"val": -2}, "val must be"),
            ({"seed": -1}, "seed must be"),
            ({"train": 0, "val": 0}, "both 0"),
        ],
    )
    def test_bad_arguments(self, tmp_path: Path, change: dict[str, int], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            make_scenes(tmp_path / "new", **{"train": 2, "val": 1, "size": 64, "seed": 0, **change})
        assert not (tmp_path / "new").exists()
