"""The metrics of runs as one table that a spreadsheet opens."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def metrics_csv(records: Mapping[str, Sequence[Mapping[str, Any]]]) -> Path:
    """Lines of metrics.jsonl by run as ``metrics.csv`` in a temporary folder: a row for each line,
    a column for each metric, every number as it was measured."""
    keys = dict.fromkeys(key for lines in records.values() for line in lines for key in line)
    columns = ["run", "step", *(key for key in keys if key != "step")]
    path = Path(tempfile.mkdtemp(prefix="dpo-lite-")) / "metrics.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        for name, lines in records.items():
            table.writerows({"run": name, **line} for line in lines)
    return path
