"""What is looked at for one architecture: each a function of its checkpoint, worth one column.

All of them go through the product's own functions. What they are held to is the checkpoint as
transformers loads it, in fp32, unmodified, with the adapter put on by plain PEFT: every response
alone in a row, PyTorch's autograd.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from peft import PeftModel

from benchmarks.model_zoo.case import Case, Cell, Missed
from benchmarks.model_zoo.checkpoint import examples, save_config, unmodified
from dpo_lite.compare.adapter_rows import together
from dpo_lite.compare.lockstep import Sampling, answer
from dpo_lite.compare.token_rewards import token_rewards
from dpo_lite.data.packing import Batch, pad
from dpo_lite.export.merge import merge
from dpo_lite.jobs.forecast import forecast
from dpo_lite.model import roles
from dpo_lite.model.choosing import choose_way
from dpo_lite.model.expert_adapter import BASE
from dpo_lite.model.generation import answer_ids
from dpo_lite.model.recompute import recompute
from dpo_lite.model.scoring import Way, causal_lm, lay_out, response_token_logps, scoring_context
from dpo_lite.model.targets import all_linear, plain_name
from dpo_lite.model.weights import Held, held
from dpo_lite.recipe import validate_recipe

LOGPS, GRADIENT = 1e-5, 1e-4  # what differs more is told as missed
HOW = ("none", "selective", "layers", "offload")


def loads(case: Case) -> Cell:
    return {"as": type(causal_lm(case.packed)).__name__}


def four_bits(case: Case) -> Cell:
    """Share of the weights in layers (all but embedding and head), and what is left out of it."""
    found = held(causal_lm(case.packed))
    return {"share": share_of_layers(found), "rest": rest_of_layers(found)}


def share_of_layers(found: Held) -> float:
    outside = sum(found.whole.get(label, 0) for label in ("embedding", "head"))
    return found.packed / (found.total - outside)


def rest_of_layers(found: Held) -> dict[str, float]:
    """What of the layers is not in 4 bits, as shares of them; none of the least."""
    outside = sum(found.whole.get(label, 0) for label in ("embedding", "head"))
    shares = {k: n / (found.total - outside) for k, n in found.whole.items()}
    return {k: s for k, s in shares.items() if k not in ("embedding", "head") and s >= 0.005}


def targets(case: Case) -> Cell:
    return {"left out": all_linear(causal_lm(case.whole)).words()}


def way(case: Case) -> Cell:
    choice, packed = case.choice, choose_way(case.packed, examples())
    return {"way": choice.way, "why": choice.reason, "in 4 bits": packed.way}


def published_names(case: Case) -> Cell:
    """The adapter's tensors are all found by plain PEFT, and no other layer is adapted."""
    ours, theirs = (
        {plain_name(n): p for n, p in model.named_parameters() if p.requires_grad}
        for model in (case.whole, case.plain)
    )
    if more := sorted(theirs.keys() - ours.keys()):
        raise Missed(f"{len(more)} tensors too many, such as {more[0]}")
    lost = [n for n, p in ours.items() if n not in theirs or not torch.equal(p, theirs[n])]
    if lost:
        raise Missed(f"PEFT loses {len(lost)} of {len(ours)} tensors, such as {lost[0]}")
    return {"tensors": len(ours)}


def exact(case: Case) -> Cell:
    """The largest difference of log-probabilities and of gradients, however layers are computed
    again; in 32 bits against the unmodified model, in 4 bits against single rows."""
    truth, expected = _scored(case.plain, _alone(), "plain")
    way, off, turned = case.choice.way, [], []
    batch = [lay_out(examples(), way)]
    for how in HOW:
        recompute(case.whole, how)
        logps, gradient = _scored(case.whole, batch, way)
        off.append((logps - truth).abs().max().item())
        turned.append(_turned(gradient, expected))
    recompute(case.whole, "none")
    truth, expected = _scored(case.packed, _alone(), "plain")
    logps, gradient = _scored(case.packed, batch, way)
    return {
        "logps": max(off),
        "gradient": max(turned),
        "logps in 4 bits": (logps - truth).abs().max().item(),
        "gradient in 4 bits": _turned(gradient, expected),
    }


def _alone() -> list[Batch]:
    return [
        pad([{"prompt_ids": example["prompt_ids"], "response_ids": [answered]}])
        for example in examples()
        for answered in example["response_ids"]
    ]


def _scored(
    model: PeftModel, batches: list[Batch], way: Way
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Log-probabilities (N,), and by name the adapter's gradient of a smooth function of them."""
    model.zero_grad(set_to_none=True)
    found, seen = [], 0
    for batch in batches:
        with scoring_context(model, batch, torch.float32):
            logps = response_token_logps(model, batch, way)
            weights = torch.cos(torch.arange(seen, seen + len(logps)).float())
            (torch.tanh(logps / 5) * weights).sum().backward()
        found.append(logps.detach())
        seen += len(logps)
    named = {plain_name(n): p for n, p in model.named_parameters() if p.requires_grad}
    gradient = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in named.items()}
    return torch.cat(found), gradient


def _turned(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """|g - g'| / |g'| over all tensors; a tensor that one of them lacks counts in full."""
    zero = torch.zeros(())
    names = found.keys() | expected.keys()
    difference = sum(
        (found.get(n, zero) - expected.get(n, zero)).square().sum().item() for n in names
    )
    return (difference / sum(g.square().sum().item() for g in expected.values())) ** 0.5


def generates(case: Case) -> Cell:
    """Greedy answers to prompts of several lengths in one batch, token by token from the cache,
    are those of whole rows without one."""
    prompts = [example["prompt_ids"] for example in examples()]
    model, count = case.packed.eval(), 6
    alone, truth = [], []
    with torch.no_grad():
        in_batch = answer_ids(model, prompts, max_new_tokens=count, temperature=0.0)
        for ids in prompts:
            alone += answer_ids(model, [ids], max_new_tokens=count, temperature=0.0)
            truth.append(_greedy(model, ids, count))
    case.packed.train()
    for name, found in (("in a batch", in_batch), ("from the cache", alone)):
        wrong = sum(a != b[: len(a)] for a, b in zip(found, truth, strict=True))
        if wrong:
            raise Missed(f"{wrong} of {len(prompts)} answers differ {name}")
    return {"answers": len(prompts)}


def _greedy(model: PeftModel, ids: list[int], count: int) -> list[int]:
    row = list(ids)
    for _ in range(count):
        logits = model(input_ids=torch.tensor([row]), use_cache=False).logits[0, -1]
        row.append(int(logits.argmax()))
    return row[len(ids) :]


class _Numbers:
    """A tokenizer for answers whose words are of no interest."""

    pad_token_id = 0

    def decode(self, ids, skip_special_tokens=False):
        return " ".join(map(str, ids))


def compares(case: Case) -> Cell:
    """Base and policy answer and are scored in one pass, each as it is by itself."""
    model, example = case.packed.eval(), examples()[0]
    names, sampling = [BASE, roles.POLICY], Sampling(max_new_tokens=6, temperature=1.0, seed=3)
    prompt, answers = example["prompt_ids"], example["response_ids"]
    found = answer(model, _Numbers(), prompt, names, [], sampling)
    for name, given in zip(names, found, strict=True):
        (solo,) = answer(model, _Numbers(), prompt, [name], [], sampling)
        if given.ids != solo.ids:
            raise Missed(f"{name} answers otherwise beside the other")
    rewards = token_rewards(model, prompt, answers, roles.POLICY, BASE, 1.0)
    row = pad([example])
    with torch.no_grad():
        own = response_token_logps(model, row, "plain")
        with roles.reference(model):
            expected = own - response_token_logps(model, row, "plain")
    case.packed.train()
    off = (torch.tensor([each for part in rewards for each in part]) - expected).abs().max().item()
    if not off < 1e-4:
        raise Missed(f"rewards differ by {off:.0e}")
    if not expected.abs().max() > 1e-3:
        raise Missed("the adapter changes nothing")
    return {"passes": 1 if together(model, names) else len(names), "rewards": off}


def merges(case: Case) -> Cell:
    """The merged folder, loaded by transformers, is the unmodified model with the adapter on."""
    out = case.folder / "merged"
    merge(case.base, None, case.adapter, out)
    ids = torch.tensor([examples()[0]["prompt_ids"]])
    with torch.no_grad():
        expected = case.plain.eval()(input_ids=ids, use_cache=False).logits
        with case.plain.disable_adapter():
            bare = case.plain(input_ids=ids, use_cache=False).logits
        found = unmodified(str(out))(input_ids=ids, use_cache=False).logits
    off = ((found - expected).norm() / expected.norm()).item()
    if not off < 1e-4:
        raise Missed(f"logits differ by {off:.0e} of their norm")
    if not (bare - expected).norm() / expected.norm() > 1e-3:
        raise Missed("the adapter changes nothing")
    return {"logits": off}


def plans(case: Case) -> Cell:
    """The plan of a size as it is published, from its config alone, for a card of 24 GB."""
    values = {
        "model": {"base": save_config(case.architecture, case.folder / "config")},
        "data": {"train": "builtin:myths"},
    }
    started = time.process_time()
    found = forecast(validate_recipe(values, "zoo"), "24GB")
    return {
        "seconds": time.process_time() - started,
        "total": found.plan.total,
        "share": share_of_layers(found.costs.held),
        "rest": rest_of_layers(found.costs.held),
    }


COLUMNS: dict[str, Callable[[Case], Cell]] = {
    "loads": loads,
    "four bits": four_bits,
    "targets": targets,
    "way": way,
    "published names": published_names,
    "exact": exact,
    "generates": generates,
    "compares": compares,
    "merges": merges,
    "plans": plans,
}
