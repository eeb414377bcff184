"""What others wrote is given up after a time, and what we run afterwards is not disturbed."""

import re
import signal
import threading
import time

import pytest

from dpo_lite.bounded import at_most
from dpo_lite.errors import UserError


def endless():
    while True:
        try:
            while True:
                pass
        except Exception:
            pass


@pytest.mark.parametrize(
    "work", [endless, lambda: re.fullmatch(r"(a*)*b", "a" * 40)], ids=["loop", "pattern"]
)
def test_what_does_not_end_is_told(work):
    start = time.monotonic()
    with pytest.raises(UserError, match="too long"), at_most(0.1, "too long"):
        work()
    assert time.monotonic() - start < 5


def test_the_alarm_is_given_back_and_rings_no_more():
    before = signal.getsignal(signal.SIGALRM)
    with at_most(0.05, "too long"):
        pass
    time.sleep(0.1)
    assert signal.getsignal(signal.SIGALRM) is before
    with pytest.raises(ZeroDivisionError), at_most(5, "too long"):
        _ = 1 / 0
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_another_thread_is_left_alone():
    done = []

    def work():
        with at_most(0.01, "too long"):
            time.sleep(0.05)
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done
