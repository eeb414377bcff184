"""Parts of a kit as they should not be, and one that is well."""

import os
import time

from benchmarks.gpu.figures import at_most, told
from dpo_lite.errors import UserError


def well(bench):
    yield told("when", time.time())
    yield at_most("a number", 1.0, 2.0)


def over(bench):
    yield at_most("a number", 3.0, 2.0)


def raises(bench):
    yield told("before", 1)
    raise ValueError("first\nsecond")


def refuses(bench):
    yield told("before", 1)
    raise UserError("model.base: no.")


def dies(bench):
    yield told("before", 1)
    os._exit(7)


def sleeps(bench):
    yield told("before", 1)
    time.sleep(60)
