"""One update's gradient: exact, whatever the split into micro-batches and processes.

The loss is the sum over the update's examples divided by their number. Each micro-batch adds its
share to the gradient, so how examples are split and packed changes nothing but rounding. Where
several processes train together each scores its share of the examples, alike in tokens, so that
none waits long for the others; the gradients are added up once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import torch

from dpo_lite.data.packing import Encoded, split_alike
from dpo_lite.model.divided import divided
from dpo_lite.model.roles import trainable_parameters
from dpo_lite.model.scoring import Way, batch_tokens, micro_batches
from dpo_lite.training import ranks
from dpo_lite.training.method import Objective


def joined(parts: Sequence[Any]) -> Any:
    """Put scored micro-batches together, examples back in the order of the input."""
    order = [index for part in parts for index in part.order]
    back = torch.tensor(sorted(range(len(order)), key=order.__getitem__))
    kind = type(parts[0])
    names = [f.name for f in fields(kind) if f.name != "order"]
    values = {name: torch.cat([getattr(p, name) for p in parts])[back] for name in names}
    return kind(**values, order=sorted(order))


def own_share(examples: Sequence[Encoded], way: Way) -> Sequence[int]:
    """Places of the examples that this process scores: all of them, where it is alone.

    Those of one prompt go to one process: so the number that the reference cache keeps of a
    response is the one that was trained on, also where two examples share it.
    """
    if ranks.alone():
        return range(len(examples))
    sizes = [batch_tokens(example, way) for example in examples]
    prompts = [tuple(example["prompt_ids"]) for example in examples]
    return split_alike(sizes, prompts, ranks.count())[ranks.rank()]


def scored_parts(
    model: torch.nn.Module,
    examples: Sequence[Encoded],
    way: Way,
    budget: int,
    score: Callable[[list[Encoded]], Any],
    progress: Callable[[int], None] = lambda count: None,
    references: Any = None,
) -> list[Any]:
    """What ``score`` makes of the examples, in micro-batches of at most ``budget`` tokens.

    Each part knows by its ``order`` which examples it is of. Of several processes each scores its
    share and has the parts of all. Where the model's weights are divided all pass through it in
    the same number of micro-batches: who has fewer scores one for nothing.
    """
    share = own_share(examples, way)
    batches = micro_batches([examples[place] for place in share], way, budget)
    rounds = max(ranks.gathered(len(batches))) if divided() else len(batches)

    def own() -> list[Any]:
        parts = []
        for indices in batches:
            part = score([examples[share[i]] for i in indices])
            part.order = [share[i] for i in indices]
            parts.append(part)
            progress(len(indices))
        for _ in range(rounds - len(batches)):
            with unlearned(model, references):
                score([min(examples, key=lambda example: batch_tokens(example, way))])
        return parts

    parts = [part for parts in ranks.gathered(ranks.each(own)) for part in parts]
    progress(len(examples) - len(share))
    return parts


def update_gradient(
    model: torch.nn.Module,
    examples: Sequence[Encoded],
    objective: Objective,
    budget: int,
    references: Any = None,
    scale: float = 1.0,
) -> Any:
    """Add the gradient of the mean loss over ``examples`` to the policy's parameters.

    ``budget`` is the number of tokens per micro-batch. Gradients must be zero or None before.
    What ``references`` remembers is not computed again. ``scale``: of the gradient, not of what is
    returned; a power of two, so that nothing is rounded (dpo_lite.training.loss_scale).
    """
    method = objective.method
    objective = method.over_all(model, examples, objective, budget, references)
    over = method.over(examples) / scale
    parts = scored_parts(
        model,
        examples,
        objective.way,
        budget,
        lambda some: method.score(model, some, objective, references, over),
        references=references,
    )
    ranks.sum_gradients(trainable_parameters(model))
    if references is not None:
        references.share()
    return joined(parts)


@contextmanager
def unlearned(model: torch.nn.Module, references: Any = None) -> Iterator[None]:
    """Gradients and the reference's numbers that come in here are thrown away."""
    trained = trainable_parameters(model)
    before = [parameter.grad for parameter in trained]
    for parameter in trained:
        parameter.grad = None
    if references is not None:
        references.listens = False
    try:
        yield
    finally:
        if references is not None:
            references.listens = True
        for parameter, gradient in zip(trained, before, strict=True):
            parameter.grad = gradient


@torch.no_grad()
def evaluate_examples(
    model: torch.nn.Module,
    examples: Sequence[Encoded],
    objective: Objective,
    budget: int,
    progress=lambda count: None,
    references: Any = None,
) -> Any:
    """Score examples without gradients; calls ``progress(number of examples)`` as it goes."""
    was_training = model.training
    model.eval()
    method = objective.method
    try:
        objective = method.over_all(model, examples, objective, budget, references)
        parts = scored_parts(
            model,
            examples,
            objective.way,
            budget,
            lambda some: method.score(model, some, objective, references),
            progress,
            references,
        )
    finally:
        model.train(was_training)
    if references is not None:
        references.share()
    return joined(parts)
