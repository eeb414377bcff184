"""Many browsers at once: one looks, and nobody is told what was before he asked."""

import threading
import time

from dpo_lite.ui.together import Together


def test_who_waits_takes_what_was_begun_after_he_asked():
    begun, free, calls = threading.Event(), threading.Event(), []

    def work(asked):
        calls.append(asked)
        begun.set()
        assert free.wait(10)
        return len(calls)

    look, found = Together(work), []
    threads = [threading.Thread(target=lambda: found.append(look("a"))) for _ in range(9)]
    threads[0].start()
    assert begun.wait(10)  # the first works, and began before the others ask
    for thread in threads[1:]:
        thread.start()
    time.sleep(0.1)
    free.set()
    for thread in threads:
        thread.join(10)
    assert sorted(found) == [1, *[2] * 8]
    assert look("a") == 3  # nothing is kept for later
    assert look("b") == 4
    assert look("b", age=60) == 4
    assert look("a", age=60) == 5
