"""A calibration as files keep it, and what detections make of it."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from gfocal.calibration import Calibration, EdgeFeatures
from gfocal.detections import Detections
from gfocal.errors import UsageError
from helpers.calibrated import RESIZE, calibration, edge_samples


def found(count: int = 6, **changes: Any) -> Detections:
    """Of calibrated boxes, as arrays."""
    samples = edge_samples(count, seed=3)
    own = samples.features
    assert own.boxes is not None
    assert own.edge_std is not None
    assert own.scores is not None
    values: dict[str, Any] = {
        "boxes": own.boxes.astype(np.float32),
        "scores": own.scores.astype(np.float32),
        "labels": samples.labels,
        "names": samples.names,
        "edge_std": own.edge_std.astype(np.float32),
        "edge_probs": own.edge_probs,
        "levels": own.levels,
        "image_size": (900, 800),
        "calibration": calibration(),
    }
    return Detections(**{**values, **changes})


@pytest.mark.parametrize("kind", ["constant", "size", "edge_std", "quantiles", "model"])
def test_it_comes_back_as_it_was(kind: Any) -> None:
    own = calibration(kind)
    text = json.dumps(own.to_dict(), allow_nan=False)
    back = Calibration.from_dict(json.loads(text), "a file")
    one, other = (replace(found(), calibration=each) for each in (own, back))
    for level in (0.1, 0.9, 0.999):
        for whole in (False, True):
            np.testing.assert_array_equal(
                one.edge_interval(level, whole_box=whole), other.edge_interval(level, whole_box=whole)
            )
    np.testing.assert_array_equal(one.score_calibrated, other.score_calibrated)
    assert back.scores.threshold_for(precision=0.8) == own.scores.threshold_for(precision=0.8)
    assert json.dumps(back.to_dict()) == text


def test_what_it_says() -> None:
    content = calibration().to_dict()
    assert {"level", "images", "objects", "data", "date", "split", "annotations", "resize", "tile"} <= content.keys()
    assert content["edges"]["matches"] == 300
    assert content["edges"]["candidates"].keys() == {"constant", "size", "edge_std", "quantiles", "model"}
    assert content["scores"]["rule"] == "right"
    assert not any(key.endswith("_now") for key in content)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "newer gfocal"),
        ({"format": "x"}, "cannot be read"),
        ({"edges": 3}, "cannot be read"),
        ({"level": "high"}, "cannot be read"),
        ({"scores": None}, "cannot be read"),
    ],
)
def test_what_is_none_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=f"a file.*{words}"):
        Calibration.from_dict({**calibration().to_dict(), **change}, "a file")
    with pytest.raises(UsageError, match="cannot be read"):
        Calibration.from_dict({}, "a file")


def test_use_in_another_way_is_refused() -> None:
    own = calibration()
    assert own.unfit == ""
    same = replace(own, resize_now={**RESIZE, "fill": (0, 0, 0), "new": 1})
    assert same.unfit == "", "a tuple is a list, and a key that came later says nothing"
    other = replace(own, resize_now={**RESIZE, "size": 96})
    assert "another size" in other.unfit
    tiles = own.used_with(tile=640)
    assert "whole pictures and looks at tiles of 640" in tiles.unfit
    assert tiles.used_with().unfit == ""
    assert replace(own, tile=640).used_with(tile=640).unfit == ""
    for bad in (other, tiles):
        with pytest.raises(UsageError, match="does not hold"):
            replace(found(), calibration=bad).edge_interval()
        with pytest.raises(UsageError, match="does not hold"):
            _ = replace(found(), calibration=bad).score_calibrated
        assert "edge_interval" not in replace(found(), calibration=bad).to_coco()[0]


# --- what detections make of it


def test_intervals_hold_the_box_and_end_at_the_image() -> None:
    own = found(40)
    for whole in (False, True):
        low, high = np.moveaxis(own.edge_interval(0.9, whole_box=whole), -1, 0)
        limits = np.array([800, 900, 800, 900])
        assert (low <= np.minimum(own.boxes, limits)).all()
        assert (high >= np.minimum(own.boxes, limits)).all()
        assert low.min() >= 0
        assert (high <= limits).all()
    levels = [own.edge_interval(level) for level in (0.1, 0.5, 0.9, 0.99)]
    for inner, outer in pairwise(levels):
        assert (outer[..., 0] <= inner[..., 0]).all()
        assert (outer[..., 1] >= inner[..., 1]).all()
    assert np.array_equal(own.edge_interval(), own.edge_interval(0.9))


def test_too_few_objects_for_a_level_give_the_whole_image() -> None:
    own = found(3)
    assert own.edge_interval(0.999).tolist() == [[[0, 800], [0, 900], [0, 800], [0, 900]]] * 3
    # A model of sizes in an image needs to know it; edge_std does not.
    free = replace(own, image_size=None, calibration=calibration("edge_std"))
    assert np.isinf(free.edge_interval(0.999)).all()
    assert np.isfinite(free.edge_interval(0.9)).all()
    endless = replace(free, calibration=calibration("edge_std", level=0.999))
    assert "edge_interval" not in endless.to_coco()[0], "JSON has no infinity"
    assert "score_calibrated" in endless.to_coco()[0]


def test_tensors_give_tensors() -> None:
    arrays = found()
    tensors = arrays.map(lambda values: torch.from_numpy(np.ascontiguousarray(values)))  # type: ignore[arg-type]
    interval, scores = tensors.edge_interval(0.8), tensors.score_calibrated
    assert isinstance(interval, torch.Tensor)
    assert isinstance(scores, torch.Tensor)
    np.testing.assert_array_equal(interval.numpy(), arrays.edge_interval(0.8))
    np.testing.assert_array_equal(scores.numpy(), arrays.score_calibrated)
    assert isinstance(arrays.edge_interval(), np.ndarray)


def test_some_detections_have_their_own_rows() -> None:
    own = found()
    np.testing.assert_array_equal(own[[4, 1]].edge_interval(), own.edge_interval()[[4, 1]])
    np.testing.assert_array_equal(own[2].score_calibrated, own.score_calibrated[[2]])
    assert own[:0].edge_interval().shape == (0, 4, 2)
    assert own[:0].score_calibrated.shape == (0,)
    assert own[:0].to_coco() == []
    assert [one.image_size for one in own] == [(900, 800)] * 6
    assert np.array_equal(pickle.loads(pickle.dumps(own)).edge_interval(), own.edge_interval())


def test_results_carry_them() -> None:
    own = found()
    entry = own.to_coco(7)[1]
    assert entry["edge_level"] == 0.9
    assert entry["edge_interval"] == [[round(v, 3) for v in ends] for ends in own.edge_interval()[1].tolist()]
    assert entry["score_calibrated"] == pytest.approx(float(own.score_calibrated[1]), abs=1e-6)
    json.dumps(entry, allow_nan=False)
    plain = replace(own, calibration=None).to_coco(7)[1]
    assert entry | plain == entry
    assert set(entry) - set(plain) == {"edge_level", "edge_interval", "score_calibrated"}


def test_supervision_carries_them() -> None:
    pytest.importorskip("supervision")
    own = found()
    data = own.to_supervision().data
    np.testing.assert_array_equal(data["edge_interval"], own.edge_interval())
    np.testing.assert_array_equal(data["score_calibrated"], own.score_calibrated)


def test_without_a_calibration_it_is_said() -> None:
    bare = replace(found(), calibration=None)
    with pytest.raises(UsageError, match="gfocal calibrate"):
        bare.edge_interval(0.9)
    with pytest.raises(UsageError, match="gfocal calibrate"):
        _ = bare.score_calibrated


def test_what_the_scale_looks_at_is_missing() -> None:
    own = calibration("model")
    assert "levels" in own.edges.scale.needs
    with pytest.raises(UsageError, match="scaled by levels"):
        replace(found(), levels=None, calibration=own).edge_interval()


def test_features_are_those_of_the_detections() -> None:
    own = EdgeFeatures.of(found(3))
    assert own.image_size is not None
    assert own.image_size.tolist() == [[900, 800]] * 3
    assert own.limits is not None
    assert own.limits[0].tolist() == [800, 900, 800, 900]
    assert EdgeFeatures.of(replace(found(3), image_size=None, levels=None)).limits is None
