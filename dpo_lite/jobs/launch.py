"""What the processes of one launch settle around a run, so that its flow need not ask which it is.

See dpo_lite.training.ranks. For a process that is alone nothing of this differs from one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from dpo_lite.errors import UserError
from dpo_lite.files import write_json
from dpo_lite.recipe import Recipe
from dpo_lite.runs.device_lock import device_lock, device_locks
from dpo_lite.runs.folder import Run
from dpo_lite.runs.watched import Watched
from dpo_lite.tasks import TASKS
from dpo_lite.training import ranks


def device(owner: str, say: Callable[[str], None]) -> AbstractContextManager[None]:
    """Hold the device; of processes that train together the first one those of its machine."""
    devices = ranks.devices()
    if devices is None:
        return device_lock(owner, say=say)
    return device_locks(devices if ranks.first() else (), owner, say)


def turn(run: Run, say: Callable[[str], None]) -> AbstractContextManager[None]:
    """Hold the device for a run, whose status says for whom it waits."""

    def waiting(text: str) -> None:
        say(text)
        run.update_status(doing=text)

    return device(f"run {run.name}", waiting)


def seen(run: Run) -> Run:
    """The run as this process has it: only the first one writes."""
    return run if ranks.first() else Watched(run.path)


def check_engine(recipe: Recipe) -> None:
    """Raise UserError where another engine would have to train in several processes."""
    if recipe.train.engine != "dpo_lite" and not ranks.alone():
        raise UserError(
            f"train.engine: {recipe.train.engine} trains in one process here; leave it away to"
            " train in several, or start it without a launcher."
        )


def check_launched(recipe: Recipe) -> None:
    """Raise UserError where what was launched does not train this recipe."""
    check_engine(recipe)
    if ranks.fsdp():
        check_divided(recipe)


def check_divided(recipe: Recipe) -> None:
    """Raise UserError for what is not trained on weights that are divided over the processes."""
    if why := TASKS[recipe.task].mechanics.undivided:
        raise UserError(
            f"task: {recipe.task} is not trained with FSDP: {why}; launch it without"
            " (`accelerate launch --multi_gpu`)."
        )
    if recipe.model.embeddings == "cpu":
        raise UserError(
            "model.embeddings: cpu does not go with FSDP, which divides them over the cards; leave"
            " the key away."
        )
    if recipe.eval.suite:
        raise UserError(
            "eval.suite does not go with FSDP: its tasks are asked by one process, which holds only"
            " a part of the weights; leave the key away."
        )


def check_same_data(fingerprint: str) -> None:
    """Raise UserError where another machine has other files under the same names."""
    if len(set(ranks.gathered(fingerprint))) > 1:
        raise UserError(
            "The processes of this launch read different data; put the same files on every machine."
        )


def check_there(checkpoint: Path | None) -> None:
    """Raise UserError where a process does not see what the run goes on from."""

    def look() -> None:
        if checkpoint and not checkpoint.is_dir():
            raise UserError(
                f"{checkpoint} is not to be seen on every machine; a run goes on over several"
                " machines where run.folder is on a disk that they share."
            )

    ranks.each(look)


def say_processes(run: Run, begun: dict[str, Any], say: Callable[[str], None]) -> None:
    """A run may go on in another number of processes, whose sums come in another order.

    ``begun``: its manifest, which from then on has the new number.
    """
    before, now = begun.get("processes", 1), ranks.count()
    if before != now and ranks.first():
        say(
            f"processes  {before} before and {now} from now on: the same updates, equal to rounding"
            " but not to the last bit"
        )
        write_json(run.path / "manifest.json", begun | {"processes": now})
