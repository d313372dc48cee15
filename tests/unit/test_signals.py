"""A process ends gracefully at the first signal, at once at the second, and in time in any case."""

import os
import signal
import threading

import pytest

from lightning_store.signals import LastResort, stop_on_signals


class Ended(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The codes with which the process would have ended."""
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        raise Ended

    monkeypatch.setattr(os, "_exit", end)
    return codes


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_first_signal_stops_and_the_second_ends(exits, number, code):
    stopped: list[bool] = []
    with stop_on_signals(lambda: stopped.append(True)):
        os.kill(os.getpid(), number)
        assert (stopped, exits) == ([True], [])
        with pytest.raises(Ended):
            os.kill(os.getpid(), number)
    assert (stopped, exits) == ([True], [code])


def test_handlers_of_before_are_back_afterwards():
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals(lambda: None):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_other_threads_have_no_handlers():
    before = signal.getsignal(signal.SIGTERM)
    seen: list[object] = []

    def work() -> None:
        with stop_on_signals(lambda: None):
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


@pytest.mark.parametrize(("fails", "code"), [(False, 0), (True, 5)])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_last_resort_ends_the_process(exits, fails, code):
    def before() -> None:
        if fails:
            raise RuntimeError("no")

    resort = LastResort(0.01, before)
    resort.arm()
    resort.arm()
    resort._timer.join(10)
    assert exits == [code]


def test_last_resort_that_was_disarmed_does_nothing(exits):
    resort = LastResort(60, lambda: None)
    resort.arm()
    resort.disarm()
    resort._timer.join(10)
    assert not resort._timer.is_alive()
    assert exits == []
