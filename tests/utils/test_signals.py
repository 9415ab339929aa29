"""Signals that end a process: asked for, raised, ignored."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from gfocal.utils import signals
from gfocal.utils.signals import Stopped, StopRequest, exit_code, raised_signals


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = [signal.getsignal(number) for number in signals.ENDING]
    yield
    assert [signal.getsignal(number) for number in signals.ENDING] == before


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (signal.SIGINT, "stopping after this step or evaluation; Ctrl-C again stops at once"),
        (signal.SIGTERM, "SIGTERM: stopping after this step or evaluation; a second one stops at once"),
        (signal.SIGHUP, "SIGHUP: stopping after this step or evaluation; a second one stops at once"),
    ],
)
def test_the_first_signal_asks_and_a_second_one_ends(number: int, line: str, clock: list[float]) -> None:
    said: list[str] = []
    with StopRequest(said.append) as stop:
        assert not stop.asked
        send(number)
        assert (stop.asked, stop.number) == (True, number)
        clock[0] += 0.9
        send(signal.SIGTERM)  # as a launcher passes on what the whole job was sent
        clock[0] += 0.2
        with pytest.raises(Stopped) as caught:
            send(number)
    assert said == [line]
    assert exit_code(caught.value) == 128 + number


def test_a_terminal_that_is_gone_does_not_keep_a_run_from_saving() -> None:
    def fail(line: str) -> None:
        raise OSError(5, "Input/output error")

    with StopRequest(fail) as stop:
        send(signal.SIGHUP)
        assert stop.number == signal.SIGHUP


def test_what_was_started_with_nohup_stays_deaf() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with raised_signals(), StopRequest(print) as stop:
            send(signal.SIGHUP)
            assert not stop.asked
            send(signal.SIGTERM)
            assert stop.number == signal.SIGTERM
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_the_handler_goes_with_an_error_too() -> None:
    with pytest.raises(ValueError, match="inside"), StopRequest(print):
        raise ValueError("inside")


def test_another_thread_leaves_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    during: list[object] = []

    def work() -> None:
        with raised_signals(), StopRequest(print) as stop:
            during.append(signal.getsignal(signal.SIGINT))
            assert not stop.asked

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert during == [before]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_what_cannot_go_on_and_leaves_it_in_order(number: int, code: int) -> None:
    with pytest.raises(Stopped, match=f"stopped by {signal.Signals(number).name}") as caught, raised_signals():
        send(number)
    assert exit_code(caught.value) == code
    assert exit_code(KeyboardInterrupt()) == 130
