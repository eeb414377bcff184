"""Every task by the name that a recipe gives it; what a task is stands in a file of its own.

from dpo_lite.tasks import TASKS
TASKS[recipe.task].unit
"""

from dpo_lite.tasks.dpo import DPO
from dpo_lite.tasks.kto import KTO
from dpo_lite.tasks.ppo import PPO
from dpo_lite.tasks.reward import Reward
from dpo_lite.tasks.rlhf import RLHF
from dpo_lite.tasks.sft import SFT
from dpo_lite.tasks.spec import Task

TASKS: dict[str, Task] = {}


def register(*tasks: Task) -> None:
    TASKS.update({task.name: task for task in tasks})


def sections_of_tasks() -> dict[str, list[str]]:
    """The recipe's sections that are for some tasks alone, each with the names of those."""
    owners: dict[str, list[str]] = {}
    for task in TASKS.values():
        for section in task.sections:
            owners.setdefault(section, []).append(task.name)
    return owners


register(DPO(), SFT(), KTO(), Reward(), PPO(), RLHF())

__all__ = ["TASKS", "Task", "register", "sections_of_tasks"]
