"""What the product does on the card that is there, measured by one command.

    python -m benchmarks.gpu [--parts a,packing,race-hh] [--shapes 0.5b,1.5b,8b] [--minutes 25]
                             [--out FOLDER] [--again peaks] [--small]

Random weights of real shapes, no downloads. Every part is a process of its own and ends in a
line: PASS, FAIL with its sentence, or not run with the reason. FOLDER gets results.json and, made
from it, results.md. Run again it goes on with what is not done yet on this device with this code.
Without a card, or with --small, tiny models go the same ways in about two minutes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dpo_lite.quiet import quiet_libraries

quiet_libraries()

import torch  # noqa: E402

from benchmarks.gpu import parts  # noqa: E402
from benchmarks.gpu.looking import LATE, Found, look_at, not_run  # noqa: E402
from benchmarks.gpu.page import page, summary  # noqa: E402
from benchmarks.gpu.parts import SHAPES, TINY, Unit, named, units  # noqa: E402
from benchmarks.gpu.records import (  # noqa: E402
    DONE,
    FAIL,
    Key,
    Record,
    code_version,
    of_key,
    put,
    read,
    record_of,
)
from dpo_lite.files import write_text  # noqa: E402
from dpo_lite.memory.cards import speed_of  # noqa: E402
from dpo_lite.runs.device_lock import device_lock  # noqa: E402

LEAST, TIMES = 120.0, 3.0  # seconds that any unit may take, and times its guess
Look = Callable[[Unit, float], Found]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--parts", help="letters or names, parted by commas; default: all")
    parser.add_argument("--shapes", default=",".join(SHAPES), help="of the models")
    parser.add_argument("--minutes", type=float, default=25.0, help="for all that is run now")
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), metavar="FOLDER")
    parser.add_argument("--again", help="parts to run although they are done")
    parser.add_argument("--small", action="store_true", help="tiny models; so without a card too")
    options = parser.parse_args(arguments)
    small = options.small or not torch.cuda.is_available()
    if small and not options.small:
        print("There is no card: the small form, with tiny models, on the CPU.", flush=True)
    wanted = set(options.shapes.split(","))
    if not wanted <= set(SHAPES):
        parser.error(f"--shapes {options.shapes}: the shapes are {', '.join(SHAPES)}")
    shapes = (TINY,) if small else tuple(shape for shape in SHAPES if shape in wanted)
    every = units((TINY,) if small else SHAPES, parts.PARTS)
    try:
        asked = named(options.parts.split(","), every) if options.parts else {u.name for u in every}
        again = named(options.again.split(","), every) if options.again else set()
    except ValueError as error:
        parser.error(str(error))
    asked = {u.name for u in every if u.name in asked | again and u.shape in (None, *shapes)}
    options.out.mkdir(parents=True, exist_ok=True)
    cache = (options.out / "cache").resolve()

    def look(unit: Unit, limit: float) -> Found:
        return look_at(unit, small, shapes, cache, limit)

    with device_lock("python -m benchmarks.gpu", say=print):
        return _run(every, asked, again, look, options.out, 60 * options.minutes, small)


def _run(
    every: Sequence[Unit],
    asked: set[str],
    again: set[str],
    look: Look,
    out: Path,
    seconds: float,
    small: bool,
) -> int:
    """All that is asked for and not done yet; 1 where anything of it fails, else 0."""
    begun, file = time.monotonic(), out / "results.json"
    first = every[0]  # the environment, which tells what the others hold for
    found = look(first, LEAST)
    found.pop(LATE, None)
    key = Key(found.pop("device", "unknown"), code_version(), small)
    done = {name for name, r in of_key(read(file), key).items() if r["state"] in DONE} - again
    rest = [unit for unit in every[1:] if unit.name not in done]

    def keep(new: Sequence[Record]) -> None:
        write_text(out / "results.md", page(put(file, new), key))

    reasons = {True: "it was not reached", False: "it was not asked for"}
    waiting = [record_of(u, key, not_run(reasons[u.name in asked])) for u in rest]
    keep([record_of(first, key, found), *waiting])
    _say(record_of(first, key, found))
    for unit in rest:
        if unit.name not in asked:
            continue
        left = seconds - (time.monotonic() - begun)
        needed = unit.seconds(speed_of(key.device), small)
        if needed > left:
            reason = f"no time left: it takes about {needed:.0f} s, and {max(left, 0):.0f} s of"
            found = not_run(f"{reason} {seconds / 60:g} minutes are left")
        else:
            own = max(TIMES * needed, LEAST)
            found = look(unit, min(own, left))
            found.pop("device", None)
            if found.pop(LATE, False) and left < own:
                found |= not_run(f"no time left: it was ended after {found['seconds']:.0f} s")
        record = record_of(unit, key, found)
        keep([record])
        _say(record)
    own = list(of_key(read(file), key).values())
    print(f"\n{summary(own)} {out / 'results.md'}")
    return int(any(record["state"] == FAIL for record in own))


def _say(record: Record) -> None:
    why = f": {record['why']}" if record["why"] else ""
    wrong = [figure["what"] for figure in record["figures"] if figure["passed"] is False]
    over = f": {'; '.join(wrong)}" if wrong and not why else ""
    took = "" if record["seconds"] is None else f" ({record['seconds']:.0f} s)"
    print(f"{record['unit']:<20} {record['state']}{took}{why}{over}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
