"""Part k: answers: tokens per second, by recorded steps and without, and two models in lockstep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import zip_longest
from unittest.mock import patch

from benchmarks.gpu.bench import PACKED, Bench, moved_policy
from benchmarks.gpu.figures import Figure, at_least, needs_card, so, told
from dpo_lite.compare.lockstep import Sampling, answer
from dpo_lite.model import roles, step_graph
from dpo_lite.model.expert_adapter import BASE
from dpo_lite.model.generation import BATCH, answer_ids
from dpo_lite.model.scoring import causal_lm

LOCKSTEP = 1.3  # times as fast as one after the other: a card is idle with one row
RECORDED = 1.2  # times as fast as step by step, of one row


class Numbers:
    """What stands for a tokenizer where nobody reads."""

    pad_token_id = 0

    def decode(self, ids: Sequence[int], **options: bool) -> str:
        return " ".join(map(str, ids))


def look(bench: Bench) -> Iterator[Figure]:
    size = bench.shapes[min(1, len(bench.shapes) - 1)]
    config, packed = bench.config(size), PACKED[size]
    model = moved_policy(bench.base(config, packed), bench.recipe(quantization=packed)).eval()
    model.generation_config.eos_token_id = None  # every answer is as long as it may be
    prompts = [pair["prompt_ids"] for pair in bench.pairs("hh", BATCH, config)]
    tokens = 12 if bench.small else 128
    yield told("model", f"{size}, {packed}")
    answer_ids(model, prompts[:1], max_new_tokens=2, temperature=0.0)  # kernels warm up here
    for role, wear in (("policy", roles.policy), ("reference", roles.reference)):
        for count in (1, len(prompts)):
            with wear(model):
                started = bench.clock()
                given = answer_ids(model, prompts[:count], max_new_tokens=tokens, temperature=0.0)
                seconds = bench.clock() - started
            speed = sum(map(len, given)) / seconds
            yield told(f"{role}, {count} at once", speed, "tokens/s")
    yield from _recorded(bench, model, prompts, tokens)
    yield from _lockstep(bench, model, prompts[0], tokens)


def _recorded(bench: Bench, model, prompts, tokens: int) -> Iterator[Figure]:
    """Steps by a CUDA graph, beside the same cache without one and the cache that grows."""
    if not bench.on_card:
        yield needs_card("steps recorded as a CUDA graph")
        return
    plain = patch.object(
        step_graph.Steps, "__call__", lambda steps, *given, **named: steps.plain(*given, **named)
    )
    ways = {
        "recorded": nullcontext(),
        "one by one": plain,
        "one by one, as the cache grows": patch.object(step_graph, "FEWEST", tokens + 1),
    }
    for count in (1, len(prompts)):
        said, seconds = {}, {}
        for way, chosen in ways.items():
            with roles.policy(model), chosen:
                started = bench.clock()
                said[way] = answer_ids(
                    model, prompts[:count], max_new_tokens=tokens, temperature=0.0
                )
                seconds[way] = bench.clock() - started
            yield told(f"{count} at once, {way}", count * tokens / seconds[way], "tokens/s")
        rows = zip(said["recorded"], said["one by one"], strict=True)
        same = [a == b for x, y in rows for a, b in zip_longest(x, y)]
        yield at_least(f"{count} at once, recorded: same tokens", sum(same) / len(same), 1.0)
        ratio = seconds["one by one, as the cache grows"] / seconds["recorded"]
        what = f"{count} at once, recorded is faster"
        yield at_least(what, ratio, RECORDED, "×") if count == 1 else told(what, ratio, "×")
    why = step_graph._refused.get(causal_lm(model))
    yield so("steps are recorded on this card", why is None)
    if why is not None:
        yield told("why not", why)


def _lockstep(bench: Bench, model, prompt: Sequence[int], tokens: int) -> Iterator[Figure]:
    never = {model.config.vocab_size}  # a token that is not there ends no answer
    names, sampling = [BASE, roles.POLICY], Sampling(max_new_tokens=tokens)

    def asked(some: list[str]) -> list[list[int]]:
        return [a.ids for a in answer(model, Numbers(), prompt, some, never, sampling)]

    asked(names)
    started = bench.clock()
    together = asked(names)
    between = bench.clock()
    alone = [ids for name in names for ids in asked([name])]
    ratio, what = (
        (bench.clock() - between) / (between - started),
        "two models in lockstep are faster",
    )
    yield told(what, ratio, "×") if bench.small else at_least(what, ratio, LOCKSTEP, "×")
    same = [a == b for x, y in zip(together, alone, strict=True) for a, b in zip_longest(x, y)]
    what = "tokens of an answer as each gives it alone"
    share = sum(same) / len(same)
    # In 16 bits a near tie falls otherwise in a batch, and all behind it is another answer.
    exact = not bench.on_card
    yield at_least(what, share, 1.0) if exact else told(what, share)
