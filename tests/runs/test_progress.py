"""A bar on a terminal; where there is none, lines that a reader of a log can use."""

import io

from rich.console import Console
from rich.progress import Progress

from dpo_lite.runs.progress import FIRST, LAST, Lines, Pace, Told, doing, progress_bar


class Clock:
    def __init__(self):
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def test_lines_come_soon_and_then_ever_less_often():
    clock = Clock()
    pace = Pace(clock)
    told = []
    for second in range(36_000):
        clock.time = float(second)
        if pace.due():
            told.append(second)
    gaps = [b - a for a, b in zip([0, *told], told, strict=False)]
    assert gaps[0] == FIRST
    assert gaps == sorted(gaps)
    assert gaps[-1] == LAST
    assert len(told) < 700  # of ten hours


def test_a_pipe_gets_lines_with_the_time_left_and_the_end():
    out, clock = io.StringIO(), Clock()
    console = Console(file=out, width=80)
    with progress_bar(console) as bar:
        assert isinstance(bar, Lines)
        task = bar.add_task("training", total=10, completed=2, note="")
        bar.tasks[task]["pace"] = Pace(clock)
        clock.time = 1.0
        bar.update(task, completed=3, note="loss 0.690")  # too soon for a line
        clock.time = 8.0
        bar.update(task, completed=6, note="loss 0.650")
        bar.advance(task, 4)
        bar.advance(task, 0)  # the end is told once
    assert out.getvalue().splitlines() == [
        "training    6 of 10  0:00:08 left  loss 0.650",
        "training    10 of 10  loss 0.650",
    ]


def test_a_terminal_gets_a_bar_and_a_spinner():
    console = Console(file=io.StringIO(), force_terminal=True)
    assert isinstance(progress_bar(console), Progress)
    with doing(console, "loading") as spinner:
        assert not isinstance(spinner, Told)


def test_a_spinner_without_a_terminal_tells_what_takes_long():
    out, clock = io.StringIO(), Clock()
    with doing(Console(file=out), "reading") as spinner:
        spinner.pace = Pace(clock)
        spinner.update("a short thing")
        clock.time = FIRST
        spinner.update("downloading [1 of 2]")
        spinner.stop()
        spinner.start()
    assert out.getvalue() == "downloading [1 of 2]\n"
