"""What a person sees."""

from __future__ import annotations

import pytest

from gfocal.utils import progress
from gfocal.utils.progress import ProgressBar, Remaining


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """One number: the time."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_without_a_terminal_lines_come_seldom(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    with ProgressBar(100, "training", done=2) as bar:
        clock[0] += 40  # processes start, kernels are chosen
        bar.update(3, "loss 2.5")
        for done in (4, 5, 6):
            clock[0] += 5
            bar.update(done)
        clock[0] += 5
        bar.update(7, "loss 1.5")
        clock[0] += 5
        bar.callback(100, 100)
        bar.say("AP 0.5")
    out, err = capsys.readouterr()
    assert out == "", "standard output belongs to results"
    # 5 s a step and 93 of them, once four were measured; nothing is said of the time after the first step.
    assert err.splitlines() == [
        "training 3/100, loss 2.5",
        "training 7/100, 7 min 45 s left, loss 1.5",
        "training 100/100, 0.0 s left",
        "AP 0.5",
    ]


def test_what_comes_on_top_is_counted(capsys: pytest.CaptureFixture[str], clock: list[float]) -> None:
    with ProgressBar(10, "training") as bar:
        for done in range(1, 6):
            clock[0] += 4
            bar.update(done, more=100.0)
        clock[0] += 16
        bar.update(6, more=None)
    # 5 steps of 4 s and 100 s to measure in; what nobody knows is not said.
    assert capsys.readouterr().err.splitlines() == ["training 4/10", "training 6/10"]
    assert bar._remaining.seconds(5) == pytest.approx(5 * (4 * 4 + 16) / 5)
    assert bar._left(100.0) == "2 min 6 s left"


def remaining(taken: list[float], steps: int = 1) -> Remaining:
    """After a first update of 1,000 seconds, updates of ``steps`` steps that took so many seconds."""
    found, done, now = Remaining(7, 50.0), 7 + steps, 1050.0
    found.update(done, now)
    for seconds in taken:
        done, now = done + steps, now + seconds
        found.update(done, now)
    return found


def test_none_before_enough_was_measured() -> None:
    assert Remaining(0, 0.0).seconds(5) is None
    assert remaining([1.0] * 3).seconds(5) is None
    assert remaining([1.0] * 4).seconds(5) == 5.0
    assert remaining([]).seconds(0) == 0.0, "nothing is left"


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([2.0, 2, 2, 3600, 2, 2], 5.0),  # a machine that slept: it counts as 10 steps, (5 * 2 + 20) / 6
        ([0.1, 0.1, 0.1, 3.7] * 5, 0.325),  # four workers: in bursts; (0.3 + 10 * 0.1) / 4
        ([0.4, 0.4, 0.4, 2.8] * 5, 1.0),  # in bursts that are no pause
        ([100.0] * 60 + [1.0] * 50, 1.0),  # the last 50 count
    ],
)
def test_the_last_steps_count_and_pauses_do_not(taken: list[float], expected: float) -> None:
    assert remaining(taken).seconds(1) == pytest.approx(expected)
    assert remaining(taken, steps=16).seconds(16) == pytest.approx(expected), "a batch of 16 is an update"


def test_what_was_no_step_is_skipped() -> None:
    found = remaining([2.0] * 4)
    before = found._now
    found.skip(before + 60)  # a validation
    found.update(found._done + 1, before + 62)
    assert found.seconds(10) == 20.0


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
