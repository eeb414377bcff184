"""Part i: the race of benchmarks/dpo_speed.py on this card, for one shape and one kind of lengths.

Tokens per second are those of ours, packed and shared; what TRL pads and repeats is not counted as
work. Per TFLOP/s of the card's known peak they can be held beside other cards.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator

from benchmarks import dpo_speed
from benchmarks.gpu.bench import PACKED, Bench
from benchmarks.gpu.environment import device_name
from benchmarks.gpu.figures import MIB, Figure, at_least, at_most, told
from dpo_lite.memory.cards import speed_of

DEFAULT, BEST = "TRL default, batch 4", ("TRL best, batch 4", "TRL best, batch 1")
# Updates, and how much faster ours should be than TRL's default and than its best. Where nothing is
# padded and prompts are short there is little to save.
WORKLOADS = {"hh": (5, 4.0, 2.0), "ultra": (2, 1.0, 1.0), "long": (2, 1.0, 1.0)}


def hh(bench: Bench) -> Iterator[Figure]:
    return _race(bench, "hh")


def ultra(bench: Bench) -> Iterator[Figure]:
    return _race(bench, "ultra")


def long_prompts(bench: Bench) -> Iterator[Figure]:
    return _race(bench, "long")


def _race(bench: Bench, workload: str) -> Iterator[Figure]:
    updates, over_default, over_best = WORKLOADS[workload]
    config, packed = bench.config(bench.shape), PACKED[bench.shape]
    pairs = bench.pairs(workload, dpo_speed.PAIRS_PER_UPDATE * updates, config)
    recipe = dpo_speed.make_recipe("random", packed)
    names = ["ours", DEFAULT, *BEST]
    with contextlib.redirect_stdout(io.StringIO()):  # the trainers' own lines
        dpo_speed.set_up()
        rows = dpo_speed.race(
            recipe, pairs, names, 1, False, lambda section: bench.base(config, packed)
        )
    ours, *others = rows
    speed = ours["pairs_per_second"]
    yield told("ours", speed, "pairs/s")
    tokens = speed * ours["tokens_per_pair"]
    yield told("ours", tokens, "tokens/s")
    if bench.on_card and (peak := speed_of(device_name())):
        yield told("ours, per TFLOP/s of the card's peak", tokens / peak, "tokens/s")
    if bench.on_card:
        yield told("peak of ours", round(ours["memory"] / MIB), "MiB")
    for row in others:
        yield from _against(bench, ours, row, over_default if row["name"] == DEFAULT else over_best)


def _against(bench: Bench, ours: dict, row: dict, wanted: float) -> Iterator[Figure]:
    name = row["name"]
    if row["pairs_per_second"] is None:
        yield told(name, "out of memory")
        return
    yield told(name, row["pairs_per_second"], "pairs/s")
    ratio, what = ours["pairs_per_second"] / row["pairs_per_second"], f"ours is faster than {name}"
    yield told(what, ratio, "×") if bench.small else at_least(what, ratio, wanted, "×")
    off = row["loss_difference"]
    yield at_most(f"losses of {name} differ from ours by", off, dpo_speed.TOLERANCE)
    if bench.on_card:
        yield told(f"peak of {name}", round(row["memory"] / MIB), "MiB")
