"""Several adapters answer one prompt at once: a row of the batch each, one forward pass for all.

All columns draw from the same noise (Gumbel-max: the token with the highest log p / T + g, one g
per step and token for all rows). So equal models give equal text at any temperature, and models
that differ little mostly differ little in what they say. A column may also be a mixture of two
adapters (dpo_lite.compare.mixing), which takes a row for each.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import torch
from peft import PeftModel

from dpo_lite.compare.adapter_rows import adapter_rows, together
from dpo_lite.compare.mixing import Mix, Mixer
from dpo_lite.errors import UserError
from dpo_lite.model.generation import end_ids, may_share_a_batch, plain_generation
from dpo_lite.model.scoring import causal_lm
from dpo_lite.model.step_graph import steps_recorded


@dataclass(frozen=True)
class Sampling:
    """``temperature`` 0 is greedy; ``top_p`` 1 and ``top_k`` 0 are off."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    max_new_tokens: int = 64
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """``ids``: the tokens as generated, with the end of turn where it ``ended`` by itself.

    ``moved``: of a mixture its KL to the reference in nats, summed over the tokens of the answer.
    """

    text: str
    ids: list[int]
    ended: bool
    moved: float | None = None


@torch.no_grad()
def answer(
    model: PeftModel,
    tokenizer,
    prompt_ids: Sequence[int],
    names: Sequence[str | Mix],
    ends: Collection[int],
    sampling: Sampling,
    show: Callable[[list[str]], None] = lambda texts: None,
    stop: Callable[[], bool] = lambda: False,
) -> list[Answer]:
    """One answer per adapter name or mixture, all in lockstep; ``ends``: tokens that end an answer.

    ``show`` gets the texts so far after each token. When ``stop`` says so it ends within a token,
    and what there is comes back. Adapters that cannot share a pass answer one after the other, from
    the same noise; raises UserError where those of a mixture cannot.
    """
    worn = _rows_of(names)
    if len(worn) == 1 or (together(model, worn) and may_share_a_batch(model)):
        return _answer(model, tokenizer, prompt_ids, names, ends, sampling, show, stop)
    if any(isinstance(name, Mix) for name in names):
        raise UserError(
            "A strength between reference and policy needs both in one forward pass, and rows of"
            " this model cannot wear different adapters; compare them as they are."
        )
    answers: list[Answer] = []
    for place, name in enumerate(names):
        before, after = [a.text for a in answers], [""] * (len(names) - place - 1)

        def show_all(texts, before=before, after=after):
            show([*before, *texts, *after])

        answers += _answer(model, tokenizer, prompt_ids, [name], ends, sampling, show_all, stop)
    return answers


def _answer(
    model: PeftModel,
    tokenizer,
    prompt_ids: Sequence[int],
    names: Sequence[str | Mix],
    ends: Collection[int],
    sampling: Sampling,
    show: Callable[[list[str]], None],
    stop: Callable[[], bool],
) -> list[Answer]:
    from transformers import StoppingCriteriaList

    device = model.device
    lm = causal_lm(model)
    ends = {*ends, *end_ids(model)}
    worn = _rows_of(names)
    # A mixture's text is that of the first of its two rows.
    places = [len(_rows_of(names[:place])) for place in range(len(names))]
    mixtures = [(p, name) for p, name in zip(places, names, strict=True) if isinstance(name, Mix)]
    mixer = Mixer([(place, place + 1, mix.strength) for place, mix in mixtures])
    rows = _Rows(tokenizer, places, ends, show)
    ids = torch.tensor([list(prompt_ids)] * len(worn), device=device)
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0

    def stopped(input_ids, scores):
        return torch.full((len(input_ids),), stop(), dtype=torch.bool, device=input_ids.device)

    was_training = model.training
    model.eval()
    try:
        new = sampling.max_new_tokens
        with (
            adapter_rows(model, worn),
            plain_generation(lm),
            steps_recorded(lm, len(prompt_ids), new) as steps,
        ):
            lm.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=new,
                eos_token_id=sorted(ends),
                pad_token_id=pad_id,
                use_cache=True,
                do_sample=False,  # the processors below leave one token to choose from
                logits_processor=_processors(sampling, [mixer] if mixtures else []),
                stopping_criteria=StoppingCriteriaList([stopped]),
                streamer=rows,
                **steps,
            )
    finally:
        model.train(was_training)
    answers = rows.answers()
    for number, (place, _) in enumerate(mixtures):
        column = places.index(place)
        nats = [float(step[number]) for step in mixer.moved[: len(answers[column].ids)]]
        answers[column] = replace(answers[column], moved=sum(nats))
    return answers


def _rows_of(names: Sequence[str | Mix]) -> list[str]:
    """The adapter of every row of the batch: of a mixture the policy's, then the reference's."""
    return [
        row
        for name in names
        for row in ((name.policy, name.reference) if isinstance(name, Mix) else (name,))
    ]


class _Rows:
    """A streamer for a batch: transformers' own take one row. ``places``: of the rows to read."""

    def __init__(
        self, tokenizer, places: Sequence[int], ends: set[int], show: Callable[[list[str]], None]
    ):
        self.tokenizer = tokenizer
        self.ends = ends
        self.show = show
        self.places = places
        self.ids: list[list[int]] = [[] for _ in places]
        self.prompt_seen = False

    def put(self, tokens: torch.Tensor) -> None:
        if not self.prompt_seen:  # generate() starts with the prompt
            self.prompt_seen = True
            return
        drawn = tokens.tolist()
        for ids, place in zip(self.ids, self.places, strict=True):
            if not self._ended(ids):  # behind its end a row is padding
                ids.append(drawn[place])
        self.show([self._text(ids).removesuffix("\ufffd") for ids in self.ids])

    def end(self) -> None:
        """Asked for by generate(); the answers are taken when it has returned."""

    def answers(self) -> list[Answer]:
        return [Answer(self._text(ids).strip(), ids, self._ended(ids)) for ids in self.ids]

    def _ended(self, ids: list[int]) -> bool:
        return bool(ids) and ids[-1] in self.ends

    def _text(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)


def _processors(sampling: Sampling, first: Sequence[Mixer] = ()):
    """What is mixed, then penalty, temperature, top-k and top-p in transformers' order, then the
    choice of one token."""
    from transformers import (
        LogitsProcessorList,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    processors: list = [*first]
    if sampling.repetition_penalty != 1:
        processors.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.temperature <= 0:
        return LogitsProcessorList(processors)
    processors.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k > 0:
        processors.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        processors.append(TopPLogitsWarper(sampling.top_p))
    # Noise from the CPU is the same on every device.
    generator = torch.Generator().manual_seed(sampling.seed)

    def choose(input_ids, scores):
        uniform = torch.rand(scores.shape[-1], generator=generator, dtype=torch.float64)
        gumbel = -torch.log(-torch.log(uniform.clamp(1e-300, 1 - 1e-16)))
        noisy = scores.float().log_softmax(-1) + gumbel.float().to(scores.device)
        only = torch.full_like(scores, -torch.inf)
        return only.scatter(-1, noisy.argmax(-1, keepdim=True), 0.0)

    return LogitsProcessorList([*processors, choose])
