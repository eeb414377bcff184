"""Render an example once with the tokenizer's own chat template, as token ids.

The prompt's ids are exactly what the model is given when it answers; a response is the rest of the
rendered conversation, up to and with one end-of-turn token. Which tokens are trained follows from
these two lists and never from padding ids.

Rendering is Python and tokenising is Rust, which lets go of the interpreter: an ``Encoder`` has the
two as separate steps, so that a reader can do the one beside the other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np

from dpo_lite.data.calls import matched
from dpo_lite.data.examples import BadRow, Dropped, Example, Message, Reason, calls_of
from dpo_lite.data.faithful import CLOSES, OPENS, Roles, left_out, tools_left_out
from dpo_lite.data.template import FAULTS, Template, find_out, render
from dpo_lite.data.texts import (
    all_texts,
    any_of,
    bare_answer,
    fold_system,
    raw_texts,
    with_calls_spelt,
)
from dpo_lite.data.thoughts import Thought, thought_of
from dpo_lite.errors import UserError
from dpo_lite.recipe import DataSection


class Rendered(NamedTuple):
    """An example as text: ``prompt + rest`` is what the model reads for each response."""

    row: int
    prompt: str
    rests: list[str]
    folded: bool = False  # the system turn stands in the first user turn
    thought: Thought = Thought(0)  # what it has of reasoning


@dataclass(frozen=True)
class EncodedExample:
    """Ids of the prompt and of each response, best first. ``melted``: see ``Encoder.tokenise``."""

    prompt_ids: Sequence[int]
    response_ids: list[Sequence[int]]
    row: int
    melted: bool = False


class Encoder:
    """Text → ids with a tokenizer: by its chat template, or ``raw`` as plain text.

    ``options``: further arguments of the chat template, such as {"enable_thinking": False};
    ``rows``: of the base's embedding, which a tokenizer with tokens of somebody else's may exceed.
    Raises UserError where the tokenizer has no template, or one that does not work here.
    """

    unit = "tokens"

    def __init__(
        self,
        tokenizer,
        raw: bool = False,
        options: dict[str, Any] | None = None,
        rows: int | None = None,
    ):
        self.tokenizer = tokenizer
        self.rows = rows if rows is not None and len(tokenizer) > rows else None
        self.raw = raw
        self.options = options or {}
        if not tokenizer.eos_token:
            raise UserError(
                f"The tokenizer of {tokenizer.name_or_path} names no end-of-text token (eos_token),"
                " so a model trained with it would never stop; take another base."
            )
        self.template = (
            Template(end=tokenizer.eos_token) if raw else find_out(tokenizer, self.options)
        )
        self.roles = Roles(lambda turns: self._rendered(turns, True), FAULTS)
        self.begin = self._begin_ids() if raw else []
        self.special = any_of(
            {str(t) for t in tokenizer.added_tokens_decoder.values() if t.special}
            | {tokenizer.eos_token, tokenizer.bos_token or tokenizer.eos_token}
            | self.template.speakers
        )
        self.opening = len(self._ids([self.template.opening])[0])
        self.end_id = self._ids([self.template.end])[0][-1]
        # Special tokens cut a text before it is tokenised, so what stands behind the last one of
        # the prompt can be tokenised with the response alone: the prompt is then read only once.
        single = {mark: self._ids([mark])[0] for mark in self.template.marks}
        self.marks = {ids[0]: mark for mark, ids in single.items() if len(ids) == 1}
        self.cut_is_exact: bool | None = None  # not known before the first prompt

    @property
    def key(self) -> str:
        """A hash of all that the ids depend on, but the text."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        vocabulary = backend.to_str() if backend else json.dumps(self.tokenizer.get_vocab())
        facts = [vocabulary, self.tokenizer.chat_template, self.raw, self.options, self.rows]
        facts += [self.tokenizer.bos_token, self.tokenizer.eos_token]
        facts += [version(name) for name in ("transformers", "tokenizers", "jinja2")]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def decode(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids)

    def shortened(self, prompt_ids: np.ndarray, missing: int) -> np.ndarray:
        """Prompt ids without ``missing`` at their start; the BOS of the text stays where it is.

        Not one that only opens a turn, which is then no longer there, nor one before another.
        """
        rest, begin = prompt_ids[missing:].copy(), self.tokenizer.bos_token_id
        if not self.template.begin_opens_turns and prompt_ids[0] == begin and begin not in rest[:2]:
            rest[0] = begin
        return rest

    def prompt_ids(self, prompt: str | list[Message]) -> list[int]:
        """Ids of a prompt (text is one user turn), up to where the answer begins."""
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        if self.raw:
            text = raw_texts(Example(messages, [], row=0))[0]
            return self.begin + self._ids([text])[0]
        return self._ids([self._rendered(self._folded(messages), True)])[0]

    # --- text ------------------------------------------------------------------------------------

    def render(self, example: Example) -> Rendered | Dropped:
        """The texts of an example; Dropped where the template refuses it."""
        try:
            for text in all_texts(example):
                if mark := self.special.search(text):
                    raise BadRow(Reason.SPECIAL, mark.group())
            if self.raw:
                prompt, rests = raw_texts(example)
                return Rendered(example.row, prompt, [rest + self.template.end for rest in rests])
            messages = self._folded(example.prompt)
            prompt = self._rendered(messages, True, example.template)
            tools = {**self.options, **example.template}.get("tools") or []
            fault = self.roles.fault(messages) or left_out(prompt, messages)
            if fault := fault or tools_left_out(prompt, tools):
                raise BadRow(Reason.UNSAID, fault)
            rests = [self._rest(messages, a, prompt, example) for a in example.responses]
            folded = messages is not example.prompt
            thought = thought_of(prompt, rests, example.responses)
            return Rendered(example.row, prompt, rests, folded, thought)
        except BadRow as bad:
            return Dropped(example.row, bad.reason, bad.detail)
        except FAULTS as error:
            return Dropped(example.row, Reason.TEMPLATE, str(error).partition("\n")[0])

    def _rest(self, messages: list[Message], answer: str, prompt: str, example: Example) -> str:
        """What the template puts behind the prompt for an answer, with one end of turn.

        Where it cuts the answer's reasoning, or opens an answer with a mark that it then leaves
        out, the answer is put there as the model itself is to write it.
        """
        calls, answer = calls_of(answer), bare_answer(answer)
        turn = {"role": "assistant", "content": answer} | ({"tool_calls": calls} if calls else {})
        turn = matched([*messages, turn])[-1]
        whole = self._rendered([*messages, turn], False, example.template)
        after = self.template.after
        given = prompt
        if not whole.startswith(prompt):
            given = prompt.removesuffix(self.template.scaffold)
        if CLOSES in answer and (given != prompt or prompt.rstrip().endswith(CLOSES)):
            raise BadRow(Reason.UNSAID, "it closes the reasoning at once, and this answer has some")
        opened = prompt.rstrip().endswith(OPENS)
        fault = "it renders the prompt differently with an answer"
        if whole.startswith(given) and whole.endswith(after):
            rest = whole[len(given) : len(whole) - len(after)]
            fault = left_out(rest, [{**turn, "content": answer.removeprefix(OPENS * opened)}])
            if not fault:
                return rest + self.template.end
        if opened and CLOSES not in answer:
            fault = f"it opens an answer with {OPENS}, and this has no reasoning"
            hint = "; data.template='{enable_thinking: false}' switches that off in some"
            raise BadRow(Reason.UNSAID, fault + hint)
        spoken = {**turn, "content": answer.rpartition(CLOSES)[2]}
        apart = CLOSES in answer and not calls and whole.endswith(after)
        if apart and not left_out(whole, [*messages, spoken]):
            return answer.removeprefix(OPENS * opened).lstrip("\n" * opened) + self.template.end
        raise BadRow(Reason.UNSAID, fault)

    def _folded(self, messages: list[Message]) -> list[Message]:
        """The messages, with a system turn in the user's where the template knows none."""
        folds = messages[0]["role"] == "system" and not self.template.takes_system
        return fold_system(messages) if folds else messages

    def _rendered(
        self, messages: list[Message], open_answer: bool, own: dict[str, Any] | None = None
    ) -> str:
        options = {**self.options, **(own or {})}
        how = self.template
        return render(self.tokenizer, messages, open_answer, options, how.parts, how.apart)

    # --- ids -------------------------------------------------------------------------------------

    def tokenise(self, rendered: Sequence[Rendered]) -> list[EncodedExample | Dropped]:
        """Ids of rendered examples.

        The boundary is a prefix of *tokens*. Where tokens of prompt and response would melt into
        one (``melted``), the response is tokenised on its own: that is what the model meets at
        inference. Dropped where a response does not hold exactly one end of turn, at its end,
        where the prompt's ids hold a BOS that its text does not spell, and where two responses are
        the same ids.
        """
        cuts = [self._cut(item.prompt) for item in rendered]
        texts = [item.prompt for item in rendered]
        texts += [
            item.prompt[cut:] + rest
            for item, cut in zip(rendered, cuts, strict=True)
            for rest in item.rests
        ]
        ids = self._ids(texts)
        prompts, tails = ids[: len(rendered)], iter(ids[len(rendered) :])
        encoded = []
        for item, cut, prompt in zip(rendered, cuts, prompts, strict=True):
            shared = prompt[self._cut_ids(prompt) :] if cut else prompt
            responses, melted = [], False
            for rest in item.rests:
                tail = next(tails)
                if tail[: len(shared)] == shared:
                    responses.append(tail[len(shared) :])
                else:
                    melted = True
                    responses.append(self._ids([rest])[0])
            if fault := self._fault(item, prompt, responses):
                encoded.append(Dropped(item.row, Reason.SPECIAL, fault))
            elif beyond := self._beyond([prompt, *responses]):
                encoded.append(Dropped(item.row, Reason.BEYOND, beyond))
            elif len({tuple(ids) for ids in responses}) < len(responses):
                detail = "to the tokenizer, though not as text"
                encoded.append(Dropped(item.row, Reason.IDENTICAL, detail))
            else:
                encoded.append(EncodedExample(self.begin + prompt, responses, item.row, melted))
        return encoded

    def _fault(self, item: Rendered, prompt: list[int], responses: list[list[int]]) -> str | None:
        """A special token that only the ids hold, as a tokenizer's normaliser can make one.

        How often a prompt holds BOS is the template's affair: once, before every turn, or never.
        """
        begin, end = self.tokenizer.bos_token, self.end_id
        if begin and prompt.count(self.tokenizer.bos_token_id) > item.prompt.count(begin):
            return begin
        if any(ids[-1] != end or ids.count(end) != 1 for ids in responses):
            return "more than one end of turn"
        return None

    def _beyond(self, ids: list[list[int]]) -> str | None:
        """The first token that the embedding does not reach, in words."""
        if self.rows is None:
            return None
        unknown = next((i for part in ids for i in part if i >= self.rows), None)
        if unknown is None:
            return None
        token = self.tokenizer.convert_ids_to_tokens(unknown)
        return f"{token!r} is number {unknown:,} of {self.rows:,} rows in the base's embedding"

    def _cut(self, prompt: str) -> int:
        """Where the last special token of the prompt begins; 0 where cutting is not exact."""
        cut = max((prompt.rfind(mark) for mark in self.marks.values()), default=-1)
        if cut > 0 and self.cut_is_exact is None:
            whole = self._ids([prompt + "a b", prompt, prompt[cut:] + "a b"])
            head = self._cut_ids(whole[1])
            self.cut_is_exact = whole[0] == whole[1][:head] + whole[2]
        return cut if cut > 0 and self.cut_is_exact else 0

    def _cut_ids(self, ids: list[int]) -> int:
        return max((i for i in range(len(ids)) if ids[i] in self.marks), default=0)

    def _ids(self, texts: list[str]) -> list[list[int]]:
        if not texts:  # a whole batch was dropped, and tokenizers fail on none
            return []
        return self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False)[
            "input_ids"
        ]

    def _begin_ids(self) -> list[int]:
        """What the tokenizer puts before a plain text by itself, once: mostly a BOS or nothing."""
        alone, whole = self._ids(["a"])[0], list(self.tokenizer("a")["input_ids"])
        places = range(len(whole) - len(alone) + 1)
        before = next((whole[:i] for i in places if whole[i : i + len(alone)] == alone), [])
        return list(dict.fromkeys(before))


class CharacterEncoder(Encoder):
    """Without a tokenizer: characters for tokens, to look at data before a base is chosen."""

    unit = "characters"
    key = "characters"

    opening = 0

    def __init__(self):
        self.raw = True

    def render(self, example: Example) -> Rendered | Dropped:
        return Rendered(example.row, *raw_texts(with_calls_spelt(example)))

    def tokenise(self, rendered: Sequence[Rendered]) -> list[EncodedExample | Dropped]:
        return [
            EncodedExample(_code_points(i.prompt), [_code_points(r) for r in i.rests], i.row)
            for i in rendered
        ]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))


def encoder_of(tokenizer: Any | None, section: DataSection, rows: int | None = None) -> Encoder:
    """The encoder that a recipe's data section asks for; of characters without a tokenizer."""
    if tokenizer is None:
        return CharacterEncoder()
    return Encoder(tokenizer, section.raw, section.template, rows)


def _code_points(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le"), dtype=np.int32)
