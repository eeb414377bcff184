"""The recipe's ``hub.push``: publish at the end or at every checkpoint, and never harm the run.

A checkpoint is staged at once, as the trainer deletes old ones, and uploaded in a thread while the
training goes on. Whatever goes wrong is said with the command that repeats it; nothing is raised.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from dpo_lite.errors import UserError
from dpo_lite.hub import push as hub
from dpo_lite.hub.staging import Staged, public_base, stage
from dpo_lite.recipe import Recipe
from dpo_lite.runs.folder import Run


def check_push(recipe: Recipe, say: Callable[[str], None]) -> None:
    """Before anything is trained: raise UserError where the push at the end could not work."""
    if not recipe.hub.push:
        return
    from huggingface_hub import get_token

    public_base(recipe)
    if get_token() is None:
        say("hub.push: nobody is logged in yet; run `hf auth login` before the training ends")


class TrainingPush:
    """Pushes of one run while it trains."""

    def __init__(self, run: Run, recipe: Recipe, say: Callable[[str], None]):
        self.run, self.when, self.say = run, recipe.hub.push, say
        self.thread: ThreadPoolExecutor | None = None
        self.under_way: Future | None = None

    def checkpoint(self, step: int) -> None:
        """Publish a checkpoint, unless an earlier one is still on its way."""
        if self.when != "checkpoints" or (self.under_way and not self.under_way.done()):
            return
        folder = Path(tempfile.mkdtemp())
        try:
            staged = stage(self.run, folder, checkpoint=str(step))
        except Exception as error:
            shutil.rmtree(folder, ignore_errors=True)
            self._failed(error, f" --checkpoint {step}")
            return
        self.thread = self.thread or ThreadPoolExecutor(1, "push")
        self.under_way = self.thread.submit(self._upload, staged, folder, step)

    def end(self) -> None:
        """Publish the finished run."""
        self.close()
        if not self.when:
            return
        try:
            done = hub.push(self.run, self.say)
            self.run.update_status(published=done.url, push_error=None)
            self.say(f"published  {done.url}  ({'private' if done.private else 'public'})")
        except (Exception, KeyboardInterrupt) as error:
            self.run.update_status(push_error=self._failed(error, ""))

    def close(self) -> None:
        """Wait for the upload that is under way."""
        if self.thread:
            self.thread.shutdown()

    def _upload(self, staged: Staged, folder: Path, step: int) -> None:
        try:
            hub.upload(staged, folder, f"Adapter of {self.run.name}, update {step}")
        except Exception as error:
            self._failed(error, f" --checkpoint {step}")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _failed(self, error: BaseException, options: str) -> str:
        """Say what went wrong. Called from the thread too, so it writes no file of the run."""
        text = str(error) if isinstance(error, UserError) else f"The push failed: {error!r}."
        if isinstance(error, KeyboardInterrupt):
            text = "The push was broken off."
        self.say(f"{text} The run is unharmed. Repeat:  dpo-lite push {self.run.path}{options}")
        return text
