"""The table of architectures in docs/models.md, made by one command.

    python -m benchmarks.model_zoo [--only qwen3 …] [--jobs 1] [--limit 900] [--again]

Each architecture of transformers that the table lists is built small from its config, saved, and
goes through the product's own path: loaded in 4 bits, scored, trained, stopped and resumed,
compared, merged, judged. One process each; the results are JSON lines, and what has a line with the
present versions of the libraries is not looked at again. On one core it takes about an hour.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dpo_lite.quiet import quiet_libraries

quiet_libraries()

import torch  # noqa: E402

from benchmarks.model_zoo.architectures import ARCHITECTURES  # noqa: E402
from benchmarks.model_zoo.looking import COLUMNS, look_at, versions  # noqa: E402
from benchmarks.model_zoo.page import WRONG, page  # noqa: E402
from dpo_lite.files import write_text  # noqa: E402

RESULTS = Path(__file__).with_name("results.jsonl")
PAGE = Path(__file__).parents[2] / "docs" / "models.md"
Record = dict[str, Any]


def read(path: Path) -> dict[str, Record]:
    """The record of each architecture: its name, the libraries' versions and its cells."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    records = {record["name"]: record for record in map(json.loads, lines)}
    return {name: records[name] for name in ARCHITECTURES if name in records}


def write(path: Path, records: dict[str, Record]) -> None:
    lines = [json.dumps(_short(records[name])) for name in ARCHITECTURES if name in records]
    write_text(path, "".join(f"{line}\n" for line in lines))


def _short(value: Any) -> Any:
    """The same with numbers of three digits, which is all that anybody reads."""
    if isinstance(value, dict):
        return {key: _short(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_short(each) for each in value]
    return float(f"{value:.3g}") if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=ARCHITECTURES, metavar="NAME")
    parser.add_argument("--columns", nargs="+", choices=COLUMNS, default=list(COLUMNS))
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--limit", type=float, default=1800, help="seconds for each")
    parser.add_argument("--again", action="store_true", help="also what has been looked at")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    now = versions()

    def known(name: str) -> dict[str, Any]:
        record = read(options.results).get(name, {})
        return record["cells"] if record.get("versions") == now else {}

    def look(name: str) -> tuple[str, dict[str, Any]]:
        due = [c for c in options.columns if options.again or c not in known(name)]
        return name, look_at(name, due, options.limit) if due else {}

    with ThreadPoolExecutor(options.jobs) as pool:
        for name, found in pool.map(look, options.only or ARCHITECTURES):
            if not found:
                continue
            record = {"name": name, "versions": now, "cells": known(name) | found}
            write(options.results, read(options.results) | {name: record})
            took = sum(cell.get("took", 0) for cell in found.values())
            print(f"{name}: {took:.0f} s, {_faults(found)}", flush=True)
    options.page.write_text(page(read(options.results)), encoding="utf-8")


def _faults(cells: dict[str, Any]) -> str:
    bad = [f"{c}: {w} {cell[w]}" for c, cell in cells.items() for w in WRONG if w in cell]
    return "; ".join(bad) or "all is well"


if __name__ == "__main__":
    main()
