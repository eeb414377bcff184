"""The one look of all pictures: panels side by side, drawn without a screen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def panels(
    file: Path, rows: int, columns: int, size: tuple[float, float], dpi: int = 110
) -> Iterator[tuple[Any, Any]]:
    """A figure and its (rows, columns) axes, each of ``size`` inches; saved when the block ends."""
    from matplotlib.figure import Figure  # without pyplot: a notebook's own pictures stay as set

    width, height = size
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    yield figure, axes
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=dpi)
