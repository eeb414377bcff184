"""Twenty thousand inputs that somebody damaged or made up; each ends well or in one sentence.

    python -m benchmarks.fuzz                    20,000 of them, in about ten minutes on two cores
    python -m benchmarks.fuzz --count 500 --seed 3 recipes votes

Every kind (benchmarks/fuzz_kinds.py) starts from something sound and changes it a little: a byte, a
cell, a word, a file. What is held: an exception is one that a user reads as a sentence
(``errors.in_words``), what is printed and shown can be written in UTF-8, nothing takes longer than
a minute of a core, and what was not damaged is still read. A fault is printed with its seed, by
which the one input is made again.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from functools import cache
from pathlib import Path
from unittest.mock import patch

import typer.main

from benchmarks.fuzz_kinds import KINDS
from dpo_lite.errors import in_words

LONGEST = 60.0  # seconds of a core that one input may take


def tried(kind: str, seed: int, folder: Path) -> str:
    """What became of one input: ``sound``, ``told`` in a sentence, or the traceback."""
    began = time.process_time()
    out, aside = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(aside):
            KINDS[kind](random.Random(f"{kind} {seed}"), folder)
        outcome = "sound"
    except SystemExit as end:  # the command line has told it
        outcome = "told" if end.code else "sound"
    except Exception as error:
        outcome = "told" if in_words(error) else traceback.format_exc()
    if time.process_time() - began > LONGEST:
        return f"took {time.process_time() - began:.0f} s"
    return outcome


def fuzz(kinds: list[str], count: int, seed: int) -> dict[str, Counter[str]]:
    """So many inputs, dealt out evenly; how they ended, by kind, and one example of each fault."""
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    commands = cache(typer.main.get_command)  # made once, which takes longer than most inputs
    with patch.object(typer.main, "get_command", commands):
        _fuzz(kinds, count, seed, counts)
    return counts


def _fuzz(kinds: list[str], count: int, seed: int, counts: dict[str, Counter[str]]) -> None:
    for number in range(count):
        kind = kinds[number % len(kinds)]
        folder = Path(tempfile.mkdtemp())
        outcome = tried(kind, seed + number, folder)
        shutil.rmtree(folder, ignore_errors=True)
        if outcome not in ("sound", "told"):
            last = "\n".join(outcome.strip().splitlines()[-7:])
            if not counts[kind][last.splitlines()[-1]]:
                print(f"{kind}, seed {seed + number}:\n{last}\n", file=sys.stderr, flush=True)
            outcome = last.splitlines()[-1]
        counts[kind][outcome] += 1


def run() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []])
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    counts = fuzz(asked.kinds or list(KINDS), asked.count, asked.seed)
    for kind, ends in counts.items():
        faults = sum(ends.values()) - ends["sound"] - ends["told"]
        print(f"{kind:<16}{ends['sound']:>7} sound{ends['told']:>7} told{faults:>7} faults")
    sys.exit(any(set(ends) - {"sound", "told"} for ends in counts.values()))


if __name__ == "__main__":
    run()
