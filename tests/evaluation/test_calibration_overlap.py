"""Images of a measurement that a calibration was fitted on."""

from __future__ import annotations

from gfocal.calibration.stored import MOST_HASHES
from gfocal.evaluation.trust.overlap import Overlap, kept_hashes, overlap_of
from helpers.calibrated import calibration


def test_each_image_is_looked_for() -> None:
    own = calibration(image_hashes=kept_hashes(["b", None, "a", "b"]))
    assert own.image_hashes == ("a", "b")
    assert overlap_of(own, ["x", "a", None, "a"]) == Overlap(images=4, seen=2, at_least=False)
    assert overlap_of(own, []) == Overlap(images=0, seen=0, at_least=False)
    assert overlap_of(own, [None, None]) == Overlap(images=2, seen=0, at_least=False)


def test_nothing_is_known_without_hashes() -> None:
    assert overlap_of(calibration(), ["a"]) is None


def test_of_many_images_some_are_kept() -> None:
    every = [f"{i * 7919 % 5000:010d}" for i in range(5000)]
    kept = kept_hashes(every)
    assert len(kept) == MOST_HASHES == 2000
    found = overlap_of(calibration(image_hashes=kept), every[:1000])
    assert found is not None
    assert found.at_least
    assert 350 < found.seen < 450  # two of five


def test_words() -> None:
    rest = ": on others it holds a little less"
    assert Overlap(10, 0, True).describe() == ""
    assert Overlap(1200, 3, False).describe() == f"the calibration was fitted on 3 of these 1,200 pictures{rest}"
    assert Overlap(10, 3, True).describe() == f"the calibration was fitted on at least 3 of these 10 pictures{rest}"
    assert Overlap(10, 10, True).describe() == f"the calibration was fitted on all of these pictures{rest}"
    assert Overlap(1, 1, False).describe() == f"the calibration was fitted on this picture{rest}"
