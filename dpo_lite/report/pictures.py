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
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    width, height = size
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(width * columns, height * rows),
        squeeze=False,
        constrained_layout=True,
    )
    try:
        yield figure, axes
        for axis in figure.axes:
            axis.spines[["top", "right"]].set_visible(False)
        figure.savefig(file, dpi=dpi)
    finally:
        plt.close(figure)
