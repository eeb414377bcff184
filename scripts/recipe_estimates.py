"""The `# time:` and memory estimates of the shipped recipes, without network and without a GPU.

    python scripts/recipe_estimates.py                 # all of them, some minutes
    python scripts/recipe_estimates.py qwen3-4b        # those that are named
    python scripts/recipe_estimates.py --write         # and put the times into their heads

The shapes of the bases stand in recipe_shapes.py; the data are assumed to be pairs as long as
UltraFeedback's usually are. The rest is what `dpo-lite plan` does. Prints, per recipe, the plan for
its card and how long an epoch takes on a card that one can buy; then the rows of README's table.
"""

import re
import sys
from collections import defaultdict

import torch
from recipe_shapes import SHAPES, config_of

from dpo_lite.memory.capacity import GIB, card, seconds_per_epoch
from dpo_lite.memory.plan import MemoryPlan, choose_plan
from dpo_lite.model.dry_run import costs_of_config
from dpo_lite.recipe import Recipe
from dpo_lite.recipe.library import Entry, shipped

PROMPT, RESPONSE = 200, 300  # tokens of an assumed pair: the prompt once and two responses
PAIRS = 61_000
LONGEST = 1024 + 512  # tokens of the longest pair, of which a micro-batch must hold one

# GB of a card → one to time on, by its name in the table of cards and as people write it
BOUGHT = {6: "3060", 8: "3060", 12: "3060", 16: "4060 Ti", 24: "3090"}


def estimate(recipe: Recipe, gigabytes: int) -> tuple[MemoryPlan, float, str]:
    """The plan for a card of so much memory, the bytes that it may take, and an epoch's time."""
    pair = {"prompt_ids": [0] * PROMPT, "response_ids": [[0] * RESPONSE] * 2}
    config = config_of(recipe.model.base)
    costs = costs_of_config(config, recipe, torch.bfloat16, [pair], fuse=True)
    memory, _ = card(f"{gigabytes}GB")
    plan = choose_plan(costs, recipe, LONGEST, memory)
    pairs = min(recipe.data.limit or PAIRS, PAIRS) * recipe.train.epochs
    tokens, scored = pairs * (PROMPT + 2 * RESPONSE), pairs * 2 * RESPONSE
    name = BOUGHT[gigabytes]
    times = seconds_per_epoch(costs, plan.choice, tokens, scored, card(name)[1])
    return plan, memory, f"{span(*times)} on a {name}"


def span(best: float, worst: float) -> str:
    """Seconds from and to as whole hours, or minutes where it is less than one and a half."""
    unit, name = (3600, "h") if worst >= 5400 else (60, "min")
    return f"{round(best / unit)} to {round(worst / unit)} {name}"


def write_time(own: Entry, time: str) -> None:
    text = own.path.read_text(encoding="utf-8")
    text = re.sub(r"(?m)^# time: .*$", f"# time: {time} (estimate)", text, count=1)
    own.path.write_text(text, encoding="utf-8")


def table(times: dict[int, dict[str, str]]) -> str:
    """README's rows: for each card its recipes and the hours of all of them."""
    rows = []
    for gigabytes, of_recipe in sorted(times.items()):
        found = [re.match(r"(\d+) to (\d+) (\w+)", time) for time in of_recipe.values()]
        low, high = min(int(m[1]) for m in found), max(int(m[2]) for m in found)
        units = {m[3] for m in found}
        unit = units.pop() if len(units) == 1 else "?"
        names = ", ".join(f"`{name}`" for name in of_recipe)
        row = f"| {gigabytes} GB | {names} | {low} to {high} {unit} on a {BOUGHT[gigabytes]} |"
        rows.append(row)
    return "\n".join(rows)


def main() -> None:
    wanted = [word for word in sys.argv[1:] if word != "--write"]
    times: dict[int, dict[str, str]] = defaultdict(dict)
    for own in shipped():
        if own.base not in SHAPES or (wanted and own.name not in wanted):
            continue
        gigabytes = int(own.card.split()[0])
        plan, memory, time = estimate(own.recipe, gigabytes)
        times[gigabytes][own.name] = time
        fits = "" if plan.total <= memory else ", which does not fit"
        print(
            f"{own.name}: {plan.total / GIB:.1f} of {memory / GIB:.1f} GiB{fits}; {plan.words()};"
            f" {time}",
            flush=True,
        )
        if "--write" in sys.argv:
            write_time(own, time)
    print(table(times))


if __name__ == "__main__":
    main()
