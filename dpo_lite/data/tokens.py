"""Render an example once with the tokenizer's own chat template, as token ids.

The prompt's ids are exactly what the model is given when it answers; a response is the rest of the
rendered conversation, up to and with one end-of-turn token. Which tokens are trained follows from
these two lists and never from padding ids.
"""

from __future__ import annotations

from dataclasses import dataclass

from dpo_lite.data.examples import Dropped, Example, Reason
from dpo_lite.errors import UserError


@dataclass(frozen=True)
class EncodedExample:
    """Ids of the prompt and of each response, best first. ``melted``: see ``encode``."""

    prompt_ids: list[int]
    response_ids: list[list[int]]
    row: int
    melted: bool = False

    @property
    def length(self) -> int:
        """Tokens of the prompt with its longest response."""
        return len(self.prompt_ids) + max(map(len, self.response_ids))


def check_template(tokenizer, raw: bool) -> None:
    if not raw and not tokenizer.chat_template:
        raise UserError(
            f"The tokenizer of {tokenizer.name_or_path} has no chat template; set data.format=raw "
            "to train on plain text, or take an instruction-tuned base."
        )


def encode(tokenizer, example: Example, raw: bool = False) -> EncodedExample | Dropped:
    """Turn an example into ids; Dropped where the template does not render it.

    The boundary is a prefix of *tokens*. Where tokens of prompt and response would melt into one
    (``melted``), the response is tokenised on its own: that is what the model meets at inference.
    """
    prompt_text, rests = _raw_texts(tokenizer, example) if raw else _texts(tokenizer, example)
    if rests is None:
        return Dropped(example.row, Reason.BOUNDARY, "the template renders the prompt differently")
    prompt_ids = _ids(tokenizer, prompt_text, specials=raw)
    responses, melted = [], False
    for rest in rests:
        ids = _ids(tokenizer, prompt_text + rest, specials=raw)
        if ids[: len(prompt_ids)] == prompt_ids:
            responses.append(ids[len(prompt_ids) :])
        else:
            melted = True
            responses.append(_ids(tokenizer, rest, specials=False))
    return EncodedExample(prompt_ids, responses, example.row, melted)


def _texts(tokenizer, example: Example) -> tuple[str, list[str] | None]:
    """The rendered prompt, and for each response what the template puts behind it."""

    def render(messages, **options):
        return tokenizer.apply_chat_template(messages, tokenize=False, **options)

    try:
        prompt = render(example.prompt, add_generation_prompt=True)
        rests = []
        for answer in example.responses:
            whole = render([*example.prompt, {"role": "assistant", "content": answer}])
            if not whole.startswith(prompt):
                return prompt, None
            # What follows the end-of-turn token (mostly a newline) opens the next turn.
            rest = whole[len(prompt) :].rstrip()
            rests.append(rest if not rest.endswith(answer) else rest + tokenizer.eos_token)
        return prompt, rests
    except Exception as error:
        if type(error).__module__.startswith("jinja2"):  # the template refuses, e.g. a system turn
            return "", None
        raise


def _raw_texts(tokenizer, example: Example) -> tuple[str, list[str]]:
    """Plain text: the prompt as it is, a dialogue with its speakers, responses with one EOS."""
    names = {"user": "\n\nHuman: ", "assistant": "\n\nAssistant: ", "system": "", "tool": ""}
    if len(example.prompt) == 1:
        return example.prompt[0]["content"], [a + tokenizer.eos_token for a in example.responses]
    prompt = "".join(names[m["role"]] + m["content"] for m in example.prompt) + "\n\nAssistant:"
    return prompt, [" " + answer + tokenizer.eos_token for answer in example.responses]


def _ids(tokenizer, text: str, specials: bool) -> list[int]:
    return list(tokenizer(text, add_special_tokens=specials)["input_ids"])
