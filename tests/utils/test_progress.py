"""What a person sees."""

from __future__ import annotations

import pytest

from gfocal.utils import progress
from gfocal.utils.progress import ProgressBar


def test_without_a_terminal_lines_come_seldom(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with ProgressBar(10, "training", done=2) as bar:
        clock[0] += 8
        bar.update(3)
        clock[0] += 8
        # 16 s for the 2 of this call: 8 s each, and 6 are left.
        bar.update(4, "loss 1.5")
        clock[0] += 1
        bar.callback(10, 10)
        bar.say("AP 0.5")
    out, err = capsys.readouterr()
    assert out == "", "standard output belongs to results"
    assert err.splitlines() == ["training 4/10, 48 s left, loss 1.5", "training 10/10, 0 s left", "AP 0.5"]


def test_not_shown_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar(1, "training", shown=False) as bar:
        bar.update(1)
        bar.say("AP 0.5")
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_there_is_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # also makes a terminal of what is none
    monkeypatch.setenv("COLUMNS", "120")
    with ProgressBar(8, "training") as bar:
        assert bar.live
        bar.update(8, "note [not markup]")
        bar.say("[kept]")
    out, err = capsys.readouterr()
    assert out == ""
    assert "training" in err
    assert "8/8" in err
    assert "[kept]" in err


def test_a_terminal_that_is_gone_does_not_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

        def flush(self) -> None:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(progress.sys, "stderr", Gone())
    with ProgressBar(2, "training") as bar:
        bar.say("AP 0.5")
        bar.update(2)
    progress.notice("a lock was taken over")
