"""One step of a run that is made of runs: an ordinary run in a process of its own.

So what it takes of the memory is told of it alone, and is given back when it ends.
"""

from __future__ import annotations

import contextlib
import time

from dpo_lite.errors import UserError
from dpo_lite.files import write_text
from dpo_lite.recipe import Recipe, load_recipe, to_yaml
from dpo_lite.runs import processes
from dpo_lite.runs.folder import ACTIVE, Run


def take(run: Run, recipe: Recipe, anyway: bool = False) -> bool:
    """Take the step; returns whether there was anything to do.

    Its session is its own too: Ctrl-C reaches it through us, once. ``anyway``: also where it is no
    longer the run that was begun. Raises UserError where it fails.
    """
    if not run.recipe_file.is_file():
        run.path.mkdir(parents=True, exist_ok=True)
        run.update_status(state="queued", launched=time.time())
        write_text(run.recipe_file, to_yaml(recipe))
    elif (state := run.status()["state"]) == "finished":
        return False
    elif state in ACTIVE and run.status().get("pid"):
        raise UserError(f"{run.path} is {state} by itself; wait for it or stop it, then resume.")
    process = processes.attached(run, anyway)
    while True:
        try:
            process.wait()
            break
        except KeyboardInterrupt:  # a second one breaks off
            with contextlib.suppress(UserError):  # it has just ended by itself
                processes.stop(run)
    status = run.status()
    if status["state"] not in ("finished", "stopped"):
        raise UserError(f"{run.path} {status['state']}: {status.get('error') or 'see its log.txt'}")
    return True


def refuse_another(run: Run, recipe: Recipe) -> None:
    """A folder of that name may be of a run that was deleted, or whose recipe was another."""
    if not run.recipe_file.is_file():
        return
    earlier = load_recipe(run.recipe_file)
    earlier.train.optimizer = recipe.train.optimizer  # settled when it started
    if earlier != recipe:
        raise UserError(
            f"{run.path} exists and was made from other keys; delete it and resume, or start this "
            "one under another run.name."
        )
