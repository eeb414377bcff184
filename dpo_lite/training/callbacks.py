"""What a run shows and writes while it trains: progress, metrics, checkpoints, a clean stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.console import Console
from transformers import TrainerCallback

from dpo_lite.memory.capacity import memory_in_use
from dpo_lite.runs.folder import Run
from dpo_lite.runs.progress import progress_bar
from dpo_lite.runs.system import hangups, let_go_of_terminal
from dpo_lite.training import ranks

if TYPE_CHECKING:
    from dpo_lite.training.keeping import Keeper
    from dpo_lite.training.sampling import Sampler
    from dpo_lite.training.trackers import Trackers

LOG_SECONDS = 2.0


class RunRecorder(TrainerCallback):
    """Writes every logged step into the run folder and keeps the bar moving.

    Ctrl-C once lets the update finish and saves, and so do SIGTERM and the terminal's end; a second
    one breaks off. Processes that train together stop after the same update, whichever of them was
    asked to. ``sampler`` is asked after every update; see dpo_lite.training.sampling. ``trackers``
    are told the same. ``keeper`` is asked after every evaluation; see dpo_lite.training.keeping.
    """

    def __init__(
        self,
        run: Run,
        console: Console,
        saved: Callable[[int], None] = lambda step: None,
        sampler: Sampler | None = None,
        trackers: Trackers | None = None,
        keeper: Keeper | None = None,
    ):
        self.run = run
        self.sampler = sampler
        self.trackers = trackers
        self.keeper = keeper
        self.console = console
        self.saved = saved  # called with the update of every checkpoint that is written
        self.bar = progress_bar(console)
        self.task = None
        self.stop_asked = False
        self.old_handlers: dict = {}
        self.started = 0.0
        self.first_step = 0
        self.logged = 0.0

    def on_train_begin(self, args, state, control, **kwargs):
        self.started, self.first_step = time.time(), state.global_step
        self.run.update_status(step=state.global_step, max_steps=state.max_steps, doing="training")
        self.task = self.bar.add_task(
            "training", total=state.max_steps, completed=state.global_step, note=""
        )
        self.bar.start()
        if self.trackers:
            self.trackers.begin(args, state)
        main = threading.current_thread() is threading.main_thread()  # others take no signals
        for number in (signal.SIGINT, signal.SIGTERM, *hangups()) if main else ():
            self.old_handlers[number] = signal.signal(number, self.ask_to_stop)

    def ask_to_stop(self, number, frame):
        if number == getattr(signal, "SIGHUP", None):
            let_go_of_terminal()
            if self.stop_asked:  # the shell and the system may both tell
                return
        if self.stop_asked:
            raise KeyboardInterrupt
        self.stop_asked = True
        if ranks.first():
            self.run.stop_mark.touch()
        self.console.print("stopping after this update; Ctrl-C again breaks off", style="yellow")

    def on_step_end(self, args, state, control, **kwargs):
        if any(ranks.gathered(self.stop_asked)):
            self.stop_asked = True
            control.should_training_stop = True
            control.should_save = True
        elif self.sampler and self.sampler.is_due(state.global_step, state.max_steps):
            self.keep(state, self.sampler(state.global_step))
            if self.trackers:
                self.trackers.answers()
        return control

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        if self.keeper:
            self.keeper.evaluated(state, control, metrics)
        return control

    def on_save(self, args, state, control, **kwargs):
        if ranks.first():
            self.run.note_places()
            self.saved(state.global_step)

    def on_log(self, args, state, control, logs=None, **kwargs):
        logs = {key: value for key, value in (logs or {}).items() if value is not None}
        if "train_runtime" in logs:  # Trainer's own summary at the end
            return
        if "loss" not in logs:
            self.keep(state, logs)
            return
        logs |= {"memory": memory_in_use() / 2**30, "seconds": time.time() - self.started}
        self.keep(state, logs)
        done = state.global_step - self.first_step
        left = (time.time() - self.started) / max(done, 1) * (state.max_steps - state.global_step)
        shown = {
            "loss": logs["loss"],
            "margin": logs.get("rewards/margins"),
            "accuracy": logs.get("rewards/accuracies"),
            "reward": logs.get("reward"),
            "kl": logs.get("kl"),
        }
        self.run.update_status(
            step=state.global_step,
            max_steps=state.max_steps,
            seconds_left=round(left),
            pairs=logs.get("pairs"),
            **shown,
        )
        of = {"accuracy": f" of {logs['pairs']}"} if "pairs" in logs else {}
        note = "  ".join(
            f"{key} {value:.3f}{of.get(key, '')}"
            for key, value in shown.items()
            if value is not None
        )
        self.bar.update(self.task, completed=state.global_step, note=note)
        self.log(f"update {state.global_step} of {state.max_steps}  {note}", state)

    def keep(self, state, logs: dict) -> None:
        """A line of metrics, for the run and for whoever else is told."""
        self.run.append("metrics.jsonl", {"step": state.global_step, **logs})
        if self.trackers:
            self.trackers.log(logs)

    def log(self, line: str, state) -> None:
        """Into log.txt, where a terminal's bar does not show: not oftener than a reader can use."""
        now = time.time()
        if not self.console.is_interactive:
            return  # the bar is lines, which stand in the log as all that is printed
        if now - self.logged > LOG_SECONDS or state.global_step == state.max_steps:
            self.logged = now
            self.run.log(line)

    def close(self):
        """Put the terminal and the signals back, also after an error."""
        self.bar.stop()
        for number, handler in self.old_handlers.items():
            signal.signal(number, handler)
        self.old_handlers = {}
