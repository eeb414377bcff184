"""What test_divided.py has two processes do: the same updates with whole and with divided weights.

Run as `python -m tests.training.divided FOLDER`, launched for FSDP2; each process leaves what it
found in FOLDER. The bases `tied` and `untied` lie in it.
"""

import sys
from pathlib import Path

import torch

from dpo_lite.errors import UserError
from dpo_lite.model import roles
from dpo_lite.model.choosing import choose_way
from dpo_lite.model.device_memory import until_it_fits
from dpo_lite.model.divided import NO_ROOM
from dpo_lite.model.generation import answer_ids
from dpo_lite.model.recompute import recompute
from dpo_lite.model.scoring import causal_lm
from dpo_lite.model.weights import held, nbytes
from dpo_lite.training import ranks
from dpo_lite.training.reference_cache import ReferenceCache
from dpo_lite.training.update import evaluate_examples, update_gradient
from tests.model.small_models import random_examples, small_model
from tests.training.side_by_side import (
    BUDGET,
    OBJECTIVES,
    examples_of,
    gradient_of,
    stirred,
    told,
)

# A base, its weights, the task, and how many examples: of seven one process has more micro-batches
# than the other, of one it has all.
CASES = [
    ("untied", "nf4", "dpo", 7),
    ("untied", "nf4", "dpo", 1),
    ("tied", "none", "dpo", 7),
    ("tied", "nf4", "sft", 7),
    ("untied", "none", "reward", 6),
    ("tied", "none", "kto", 1),
]
RECOMPUTED = ("selective", "layers", "offload")


def save_bases(folder):
    for tied in (True, False):
        model = small_model("llama", hidden_size=64, tie_word_embeddings=tied)
        model.save_pretrained(folder / ("tied" if tied else "untied"))


def frozen_bytes(model):
    return sum(nbytes(p) for p in model.parameters() if not p.requires_grad)


def passes(model, task, number, references=None):
    """An update's gradient and metrics, what is scored without one, and answers."""
    examples, objective = examples_of(task, number), OBJECTIVES[task]
    if task == "reward":
        return updated(model, examples, objective)
    prompts = [example["prompt_ids"] for example in random_examples(3, 1, seed=3)]
    with roles.policy(model), torch.no_grad():
        answers = answer_ids(model.eval(), prompts, max_new_tokens=5, temperature=0.0)
    gradient, metrics = updated(model.train(), examples, objective, references)
    scored = evaluate_examples(model, examples, objective, BUDGET, references=references)
    return gradient, metrics, scored.metrics(), answers


def updated(model, examples, objective, references=None):
    model.zero_grad(set_to_none=True)
    outcome = update_gradient(model, examples, objective, BUDGET, references)
    return gradient_of(model), outcome.metrics()


def main(folder):
    ranks.join()
    found = {"fsdp": ranks.fsdp()}
    models = {}
    for case in CASES:
        base, weights, task, number = case
        models[case] = stirred(folder / base, weights, head=task == "reward")
        found[case] = {"whole": passes(models[case], task, number)}
        found[case]["bytes"] = [frozen_bytes(models[case])]
        found[case]["held"] = [held(causal_lm(models[case]))]
    for case, model in models.items():
        ranks.divide(causal_lm(model))
        found[case]["divided"] = passes(model, *case[2:])
        found[case]["bytes"].append(frozen_bytes(model))
        found[case]["held"].append(held(causal_lm(model)))
    model = models[CASES[0]]
    found["way"] = choose_way(model, random_examples(2, 2, seed=2)).way
    found["recomputed"] = {}
    for how in RECOMPUTED:
        recompute(model, how)
        found["recomputed"][how] = updated(model, examples_of("dpo", 7), OBJECTIVES["dpo"])
    place = folder / "kept"
    ranks.of_first(lambda: place.mkdir(exist_ok=True))
    references = ReferenceCache(place)
    # The first of these examples are known when the others come: one process asks, so both do.
    few = updated(model, examples_of("dpo", 7)[:3], OBJECTIVES["dpo"], references)[1]
    kept = [updated(model, examples_of("dpo", 7), OBJECTIVES["dpo"], references) for _ in range(2)]
    found["kept"] = (few, kept, len(references.known))
    found["memory"] = told(lambda: ranks.each(lambda: until_it_fits(full, lambda error: None)))
    found["expected"] = f"{UserError.__name__}: {NO_ROOM}"
    torch.save(found, folder / f"{ranks.rank()}.pt")
    ranks.leave()


def full():
    raise torch.OutOfMemoryError("CUDA out of memory.")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
