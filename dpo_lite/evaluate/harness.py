"""lm-evaluation-harness asks a model for three things; here they are, by this project's scoring.

``lm_eval`` is imported with this module, so it is imported by whoever needs it
(dpo_lite.evaluate.suite). What a request is as token ids is the harness's own convention
(``TemplateLM``), so that a number is what its ``HFLM`` gives (a test holds that); how they are
computed is not: choices of a question share its context, and one loaded base answers as policy or
as reference.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from dpo_lite.data.template import render
from dpo_lite.data.tokens import Encoder
from dpo_lite.errors import UserError
from dpo_lite.evaluate.continuations import Scorer
from dpo_lite.model import roles
from dpo_lite.model.base import position_limit
from dpo_lite.model.device_memory import halving
from dpo_lite.model.generation import BATCH, all_ends, answer_ids
from dpo_lite.model.scoring import causal_lm
from dpo_lite.model.stop_strings import cut_behind, stop_behind

LONGEST = 4096  # tokens of a context with what stands behind it; a smaller limit of the base's wins
ANSWER = 256  # tokens of an answer where a task does not say, as the harness has it


class HarnessLM(TemplateLM):
    """The loaded base as a model of the harness, as the role that ``role`` names.

    ``encoder``: of the run's own chat template; ``max_length``: tokens of context and continuation.
    Longer contexts lose their beginning. ``opened``: told how many requests are to be done, it
    gives what is told of those that are.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        encoder: Encoder,
        max_length: int = LONGEST,
        opened: Callable[[int], Callable[[int], None]] = lambda total: lambda count: None,
    ):
        super().__init__()
        self.model, self.encoder, self.tokenizer = model.eval(), encoder, encoder.tokenizer
        limit = position_limit(causal_lm(model).config) or max_length
        # HFLM leaves a continuation's last token out of the row; here it has a place.
        self.max_length = min(limit, max_length) - 1
        self.role = "policy"
        self.opened = opened
        self.notes: dict[str, None] = {}  # sentences, in the order in which they came
        self.scorer = Scorer(model)

    @property
    def eot_token_id(self) -> int:
        return self.tokenizer.eos_token_id

    @property
    def prefix_token_id(self) -> int:
        begin = self.tokenizer.bos_token_id
        return self.eot_token_id if begin is None else begin

    @property
    def tokenizer_name(self) -> str:
        return self.tokenizer.name_or_path.replace("/", "__")

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Ids with what the tokenizer puts before a text, unless that stands in it already."""
        if add_special_tokens is None:
            begin = self.tokenizer.decode(self.prefix_token_id)
            add_special_tokens = not string.startswith(begin)
        return self.tokenizer.encode(string, add_special_tokens=add_special_tokens)

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The conversation by the run's template; an answer that has begun is left open."""
        template, options = self.encoder.template, dict(self.encoder.options)
        if not add_generation_prompt:
            options["continue_final_message"] = True
        return render(
            self.tokenizer,
            chat_history,
            add_generation_prompt,
            options,
            template.parts,
            template.apart,
        )

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = True
    ) -> list[tuple[float, bool]]:
        return super().loglikelihood(requests, disable_tqdm=True)

    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        pairs = []
        for _, context, text in requests:
            room = self.max_length + 1 - len(text)
            if room < 1:
                raise UserError(
                    f"A text to be scored has {len(text):,} tokens and the model takes"
                    f" {self.max_length:,}; take another task."
                )
            pairs.append((self._cut(context, room), text))
        with self._role():
            return self.scorer(pairs, self.opened(len(requests)))

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = True
    ) -> list[float]:
        """log p of whole texts, each in windows that do not overlap in what they score."""
        pairs, owners = [], []
        for number, request in enumerate(requests):
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            for window in map(make_disjoint_window, windows):
                pairs.append(window)
                owners.append(number)
        with self._role():
            scores = self.scorer(pairs, self.opened(len(pairs)))
        sums = [0.0] * len(requests)
        for number, (logp, _) in zip(owners, scores, strict=True):
            sums[number] += logp
        return sums

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """Answers up to a task's stop texts; greedy, unless the task asks for sampling."""
        alike: dict[str, list[int]] = defaultdict(list)
        for place, request in enumerate(requests):
            alike[repr(sorted(request.args[1].items()))].append(place)
        texts = [""] * len(requests)
        progress = self.opened(len(requests))
        for places in alike.values():
            contexts = [requests[place].args[0] for place in places]
            answers = self._answers(contexts, requests[places[0]].args[1], progress)
            for place, text in zip(places, answers, strict=True):
                texts[place] = text
        return texts

    def _answers(
        self, contexts: list[str], settings: dict[str, Any], progress: Callable[[int], None]
    ) -> list[str]:
        asked = normalize_gen_kwargs(settings, ANSWER)
        most = min(asked["max_gen_toks"], max(self.max_length // 2, 1))
        if most < asked["max_gen_toks"]:
            self.notes[
                f"Answers ended after {most:,} tokens, where the task allows"
                f" {asked['max_gen_toks']:,}: the model takes {self.max_length:,} in all."
            ] = None
        stops = handle_stop_sequences(list(asked["until"]), eos=None)
        room = self.max_length - most
        prompts = [self._cut(self.tok_encode(context), room) for context in contexts]
        tokens = {str(token): number for number, token in self._added().items()}
        ends = all_ends(self.model, self.encoder) | {tokens[s] for s in stops if s in tokens}
        texts = [stop for stop in stops if stop and stop not in tokens]
        kept: dict[int, list[int]] = {}
        sampled = asked.get("do_sample", False) and asked["temperature"] > 0
        with self._role():
            answers, _ = halving(
                lambda at_once: answer_ids(
                    self.model,
                    prompts,
                    max_new_tokens=most,
                    temperature=asked["temperature"] if sampled else 0.0,
                    top_p=asked.get("top_p", 1.0),
                    ends=ends,
                    at_once=at_once,
                    progress=progress,
                    kept=kept,
                    stops=stop_behind(self.tokenizer, texts) if texts else None,
                ),
                BATCH,
            )
        said = [self.tokenizer.decode(ids, skip_special_tokens=True) for ids in answers]
        return [cut_behind(text, texts) for text in said]

    def take_notes(self) -> list[str]:
        """What was not as the task wants it, in sentences, since the last time."""
        notes, self.notes = list(self.notes), {}
        return notes

    def _cut(self, context: list[int], room: int) -> list[int]:
        if len(context) > room:
            self.notes[
                f"Contexts of over {self.max_length:,} tokens with what follows lost their"
                " beginning."
            ] = None
        return context[-room:]

    def _added(self) -> dict[int, Any]:
        return self.tokenizer.added_tokens_decoder

    def _role(self):
        return (roles.policy if self.role == "policy" else roles.reference)(self.model)
