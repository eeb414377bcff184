"""While it learns: what the policy answers, and how far it has moved from the reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch

from dpo_lite.data.tokens import encoder_of
from dpo_lite.model import roles
from dpo_lite.model.divided import divided
from dpo_lite.model.generation import generate, sample_answers
from dpo_lite.model.precision import dtype_of
from dpo_lite.runs.folder import Run
from dpo_lite.tasks import TASKS
from dpo_lite.training import ranks
from dpo_lite.training.method import Loaded, Objective
from dpo_lite.training.update import evaluate_examples

PROMPTS = 4  # of the held-out data, where the recipe names none
ANSWERS = 16  # drawn for one estimate of the KL, over all prompts
# The same where a run may end by it, drawn for held-out prompts of all sets.
DECIDING_PROMPTS, DECIDING_ANSWERS = 16, 64


class Sampler:
    """Called after an update: writes greedy answers to samples.jsonl, returns metrics."""

    def __init__(self, run: Run, loaded: Loaded):
        recipe = loaded.recipe
        self.run, self.model, self.tokenizer = run, loaded.model, loaded.tokenizer
        self.every = recipe.eval.sample_steps
        self.metric = TASKS[recipe.task].sampled_kl
        self.max_new_tokens = recipe.eval.max_new_tokens
        encoder = encoder_of(loaded.tokenizer, recipe.data)
        self.prompts = {text: encoder.prompt_ids(text) for text in recipe.eval.prompts}
        if not self.prompts:
            source = next((rows for rows in loaded.data.evals.values() if len(rows)), None)
            rows = loaded.data.train if source is None else source
            few = [rows[i] for i in range(min(PROMPTS, len(rows)))]
            self.prompts = {row["prompt"]: list(row["prompt_ids"]) for row in few}

    def is_due(self, step: int, last: int) -> bool:
        return step % self.every == 0 or step == last

    def __call__(self, step: int) -> dict[str, float]:
        # Of processes that train together the first one does it, and the others wait for it in the
        # next update; where weights are divided all do it alike.
        with nullcontext() if divided() else ranks.by_itself(), unseen_draws():
            answers = generate(
                self.model,
                self.tokenizer,
                list(self.prompts.values()),
                role="policy",
                max_new_tokens=self.max_new_tokens,
            )
            for prompt, answer in zip(self.prompts, ranks.as_first(answers), strict=True):
                record = {"when": "during", "step": step, "set": "prompts"}
                self.run.append("samples.jsonl", record | {"prompt": prompt, "answer": answer})
            kl = sampled_kl(
                self.model,
                list(self.prompts.values()),
                max_new_tokens=self.max_new_tokens,
                seed=step,
            )
        return {self.metric: kl}


@contextmanager
def unseen_draws() -> Iterator[None]:
    """Drawing answers in here does not change which numbers the training draws."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        yield


def deciding_kl(loaded: Loaded, step: int) -> float:
    """The KL that a run may end by: of more answers than are shown, to held-out prompts."""
    rows = [row for examples in loaded.data.evals.values() for row in examples]
    few = [rows[i] for i in spread(len(rows), DECIDING_PROMPTS)]

    def measure() -> float:
        with unseen_draws():
            return sampled_kl(
                loaded.model,
                [list(row["prompt_ids"]) for row in few],
                max_new_tokens=loaded.recipe.eval.max_new_tokens,
                seed=step,
                answers=DECIDING_ANSWERS,
            )

    return measure() if divided() else ranks.of_first(measure)


def spread(count: int, most: int) -> list[int]:
    """At most so many places of ``count``, as far apart as can be."""
    return [i * count // most for i in range(most)] if count > most else list(range(count))


@torch.no_grad()
def sampled_kl(
    model: torch.nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    seed: int,
    answers: int = ANSWERS,
) -> float:
    """KL(policy || reference) of a whole answer in nats, averaged over the prompts.

    Estimated without bias by the mean of log pi(y|x) - log pi_ref(y|x) over answers y drawn from
    the policy as it is (temperature 1, nothing cut off). On answers of the data set that mean would
    be no KL. A small sample may fall below zero.
    """
    pairs = max(1, round(answers / len(prompts) / 2))
    was_training = model.training
    model.eval()
    examples = []
    try:
        torch.manual_seed(seed)
        with roles.policy(model):
            for prompt in prompts:
                drawn = ranks.as_first(
                    sample_answers(model, prompt, 2 * pairs, max_new_tokens=max_new_tokens)
                )
                examples += [
                    {"prompt_ids": list(prompt), "response_ids": drawn[i : i + 2]}
                    for i in range(0, len(drawn), 2)
                ]
    finally:
        model.train(was_training)
    # Two answers per row only because scores come in pairs; none is preferred here.
    objective = Objective("sigmoid", 1.0, "plain", dtype_of(model))
    outcome = evaluate_examples(model, examples, objective, budget=2048)
    policy = torch.cat([outcome.policy_first, outcome.policy_last])
    reference = torch.cat([outcome.reference_first, outcome.reference_last])
    return (policy - reference).mean().item()
