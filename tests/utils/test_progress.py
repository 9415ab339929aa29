"""What a person sees, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from gfocal.utils import progress
from gfocal.utils.progress import CtrlC, ProgressBar


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


def test_the_first_ctrl_c_asks_and_the_second_one_ends() -> None:
    before = signal.getsignal(signal.SIGINT)
    said: list[str] = []
    with CtrlC(said.append) as ctrl_c:
        assert not ctrl_c.asked
        os.kill(os.getpid(), signal.SIGINT)
        assert ctrl_c.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert said == ["stopping after this step or evaluation; Ctrl-C again stops at once"]
    assert signal.getsignal(signal.SIGINT) is before


def test_the_handler_goes_with_an_error_too() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="inside"), CtrlC(print):
        raise ValueError("inside")
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    during: list[object] = []

    def work() -> None:
        with CtrlC(print) as ctrl_c:
            during.append(signal.getsignal(signal.SIGINT))
            assert not ctrl_c.asked

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert during == [before]
