"""The worker with tasks that misbehave: run as a program by the tests."""

import os
import subprocess
import sys
import time

from dpo_lite.errors import UserError
from dpo_lite.worker import tasks
from dpo_lite.worker.__main__ import main


def chatter(channel, cache):
    """Writes to the streams that a library would write to, and reads where nothing is to read."""
    print("noise from Python")
    os.write(1, b"noise from C\n")
    subprocess.run(["echo", "noise from a child"], check=True)
    channel.say("said")
    return sys.stdin.read()


def sleep(channel, cache, seconds, mark=None):
    try:
        time.sleep(seconds)
        return "slept"
    finally:
        if mark:
            open(mark, "w").close()


def spell(channel, cache, word):
    """Streams, and looks itself whether it should stop, as the generation does."""
    channel.polls = True
    for letter in word:
        if channel.cancelled.is_set():
            return None
        channel.emit("token", text=letter)
        time.sleep(0.02)
    return word


def slow_import(channel, cache, folder):
    """As the first task that needs torch."""
    sys.path.insert(0, folder)
    channel.say("importing")
    import slow_module

    return slow_module.WHOLE


def crash(channel, cache):
    os.kill(os.getpid(), 9)


def fail(channel, cache, user):
    raise UserError("The file has no rows; give one that has.") if user else ValueError("odd\nmore")


def keep(channel, cache):
    cache.keep("a model", object())
    return os.getpid()


def use(channel, cache):
    """As a check does: the device with nothing loaded before and behind."""
    with cache.only(channel.say):
        return os.getpid()


tasks.TASKS |= {
    "use": use,
    "chatter": chatter,
    "sleep": sleep,
    "spell": spell,
    "slow_import": slow_import,
    "crash": crash,
    "fail": fail,
    "keep": keep,
}
if __name__ == "__main__":
    main()
