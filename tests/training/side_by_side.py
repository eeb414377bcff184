"""What test_ranks.py has two processes do: updates of every task, faults, sums, shared numbers.

Run as `python -m tests.training.side_by_side FOLDER`; each process leaves what it found in FOLDER.
"""

import sys
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence

from dpo_lite.errors import UserError
from dpo_lite.model import roles
from dpo_lite.model.base import load_base
from dpo_lite.model.device_memory import until_it_fits
from dpo_lite.model.scoring import lay_out, response_token_logps, scoring_context
from dpo_lite.recipe import AdapterSection, ModelSection, PPOSection
from dpo_lite.training import ranks
from dpo_lite.training.loss_scale import LossScale
from dpo_lite.training.method import Objective
from dpo_lite.training.ppo import Rollout
from dpo_lite.training.ppo_learning import credit, minibatch_gradient
from dpo_lite.training.reference_cache import ReferenceCache
from dpo_lite.training.sft import reference_loss
from dpo_lite.training.update import evaluate_examples, own_share, update_gradient
from tests.model.small_models import random_examples, small_model

OBJECTIVES = {
    "dpo": Objective("sigmoid", 0.5, "forest", sft_weight=0.3),
    "sft": Objective("sigmoid", 0.5, "forest", task="sft"),
    "reward": Objective("sigmoid", 1.0, "separate", task="reward", centering=0.1),
    "kto": Objective("sigmoid", 0.5, "forest", task="kto", undesirable_weight=1.5),
}
# What is trained, on what base, on how many examples: of seven one process has more than the
# other, of one it has all.
CASES = [
    ("dpo", "none", 7),
    ("dpo", "nf4", 7),
    ("dpo", "none", 1),
    ("sft", "none", 7),
    ("reward", "none", 6),
    ("reward", "none", 1),
    ("kto", "none", 7),
    ("kto", "none", 1),
]
ESTIMATORS = ("ppo", "rloo", "grpo")
BUDGET = 60  # tokens: some micro-batches in every share


def save_base(folder):
    small_model("llama", hidden_size=64).save_pretrained(folder)


def stirred(folder, quantization="none", head=False, value=False):
    """A policy that has moved away from its reference."""
    base = load_base(ModelSection(base=str(folder), quantization=quantization))
    model = roles.add_policy(base, AdapterSection(r=4, alpha=8), seed=0, head=head).train()
    if value:
        roles.add_value(model, AdapterSection(r=4, alpha=8), None)
    torch.manual_seed(1)
    with torch.no_grad():
        for name in (roles.POLICY, roles.VALUE):
            for parameter in roles.parameters(model, name):
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def examples_of(task, number):
    """Two of them with the same prompt and the same first response."""
    examples = random_examples(number, 1 if task in ("sft", "kto") else 2, seed=number)
    if number > 2:
        examples[2]["prompt_ids"] = examples[0]["prompt_ids"]
        examples[2]["response_ids"][0] = examples[0]["response_ids"][0]
    return labelled(examples) if task == "kto" else examples


def labelled(examples):
    """With labels in turn, and the next example's answer as the mismatched one."""
    return [
        {
            **example,
            "desirable": place % 2 == 0,
            "mismatched_ids": examples[place - 1]["response_ids"][0]
            if len(examples) > 1
            else [5, 6, 7],
        }
        for place, example in enumerate(examples)
    ]


def update(folder, task, quantization, number):
    """Gradient and metrics of one update."""
    model = stirred(folder, quantization, head=task == "reward")
    outcome = update_gradient(model, examples_of(task, number), OBJECTIVES[task], BUDGET)
    assert outcome.order == list(range(number))
    return gradient_of(model), outcome.metrics()


def gradient_of(model):
    named = model.named_parameters()
    return {name: p.grad.clone() for name, p in named if p.grad is not None}


def ppo_update(folder, estimator):
    """Gradient and metrics of a minibatch of five of six prompts with two answers each."""
    model = stirred(folder, value=estimator == "ppo")
    objective, examples = Objective("sigmoid", 0.1, "forest"), random_examples(6, 2, seed=6)
    batch = lay_out(examples, "forest")
    with torch.no_grad(), scoring_context(model, batch, torch.float32), roles.policy(model):
        drawn = response_token_logps(model, batch, "forest")
    lengths = batch.response_lengths
    mask = torch.arange(int(lengths.max())) < lengths[:, None]
    torch.manual_seed(2)
    logps, values = 0.1 * torch.randn(mask.shape), torch.randn(mask.shape) * mask
    logps = (logps + pad_sequence(drawn.split(lengths.tolist()), batch_first=True)) * mask
    rollout = Rollout(
        examples, torch.randn(12), torch.ones(12, dtype=torch.bool), mask, logps, logps, values
    )
    ppo = PPOSection(answers=2, estimator=estimator)
    earned = credit(rollout, ppo, 0.1)
    metrics = minibatch_gradient(
        model, rollout, [4, 0, 1, 3, 5], earned, ppo, objective, budget=BUDGET
    )
    return gradient_of(model), metrics


def evaluation(folder, progress=lambda count: None):
    """Of a policy and, beside it, of demonstrations under its reference."""
    model, examples = stirred(folder), examples_of("dpo", 9)
    outcome = evaluate_examples(model, examples, OBJECTIVES["dpo"], BUDGET, progress)
    return outcome.metrics() | {
        "reference_loss": reference_loss(model, examples, OBJECTIVES["sft"], BUDGET)
    }


def kept_numbers(folder):
    """What the reference cache knows after two updates, and which files it has left."""
    model, examples = stirred(folder), examples_of("dpo", 7)
    place = folder / "kept"
    ranks.of_first(lambda: place.mkdir(exist_ok=True))
    references = ReferenceCache(place)
    seen = []
    for some in (examples[:4], examples):
        model.zero_grad(set_to_none=True)
        outcome = update_gradient(model, some, OBJECTIVES["dpo"], BUDGET, references)
        seen.append(outcome.reference_first)
    return references.known, sorted(path.name for path in place.glob("*.bin")), seen


def told(work):
    """The error that some work ends in, in words."""
    try:
        return work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def faults():
    """One process fails, in each of the ways in which that is told to the other."""

    def wrong():
        if not ranks.alone():
            raise AssertionError("inside of each() a process knows of no other")
        if mine == 1:
            raise UserError("row 7 is broken")

    def odd():
        if mine == 1:
            raise OddError("one", "two")

    tried = []

    def tight(budget):
        tried.append(budget)
        if mine == 1 and budget > 100:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return budget

    mine, budget = ranks.rank(), [400]

    def halve(error):
        budget[0] //= 2

    until_it_fits(lambda: ranks.each(lambda: tight(budget[0])), halve)

    def both():
        if mine == 0:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        raise UserError("the loss became nan")

    return {
        "user": told(lambda: ranks.each(wrong)),
        "odd": told(lambda: ranks.each(odd)),
        "memory": tried,
        "both": told(lambda: ranks.each(both)),
        "first": told(lambda: ranks.of_first(lambda: {}["gone"])),
    }


class OddError(Exception):
    """One that does not come out of a pickle as it went in."""

    def __init__(self, one, two):
        super().__init__(one + two)


def sums():
    """Gradients that one process, both, or none have; and one that overflows in one of them."""
    mine = ranks.rank()
    both, one, none = (torch.nn.Parameter(torch.zeros(2, 3)) for _ in range(3))
    both.grad = torch.full((2, 3), 1.0 + mine)
    one.grad = torch.full((2, 3), 5.0) if mine else None
    ranks.sum_gradients([both, one, none])
    over = torch.nn.Parameter(torch.zeros(3))
    over.grad = torch.tensor([1.0, torch.inf if mine else 2.0, 3.0])
    ranks.sum_gradients([over])
    scale = LossScale()
    good = scale.settle([over])
    return [both.grad, one.grad, none.grad], (good, over.grad, scale.state())


def order():
    """Who does what when."""
    mine, done = ranks.rank(), []
    value = ranks.first_then_others(lambda: done.append(mine) or mine)
    progress = []
    doubled = ranks.dealt(
        range(5),
        lambda some, told: (told(len(some)), [(2 * i, mine) for i in some])[1],
        progress.append,
    )
    (one,) = ranks.dealt([3], lambda some, told: [f"{i} by {mine}" for i in some])
    tensor = torch.full((2,), float(mine))
    ranks.copy_from_first([tensor])
    return {
        "own": value,
        "doubled": doubled,
        "progress": sum(progress),
        "one": one,
        "of_first": ranks.of_first(lambda: f"from {mine}"),
        "tensor": tensor.tolist(),
        "gathered": ranks.gathered(mine),
    }


def main(folder):
    ranks.join()
    shares = {case: list(own_share(examples_of(*case[::2]), "forest")) for case in CASES}
    progress = []
    found = {
        "who": (ranks.rank(), ranks.count(), ranks.first()),
        "shares": shares,
        "updates": {case: update(folder, *case) for case in CASES},
        "ppo": {name: ppo_update(folder, name) for name in ESTIMATORS},
        "evaluation": evaluation(folder, progress.append),
        "progress": sum(progress),
        "kept": kept_numbers(folder),
        "faults": faults(),
        "sums": sums(),
        "order": order(),
    }
    torch.save(found, folder / f"{ranks.rank()}.pt")
    ranks.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
