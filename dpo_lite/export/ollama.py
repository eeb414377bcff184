"""A Modelfile for Ollama. Its template is worked out from what the tokenizer's template writes.

Conversations are rendered with marked texts; what stands around the marks is what each role is
wrapped in. What Ollama will write is compared with the tokenizer's own rendering of conversations
with and without a system text, and where they differ (a template with logic that Ollama's language
cannot tell) no template is written at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpo_lite.files import read_json, write_json
from dpo_lite.model.base import load_tokenizer
from dpo_lite.recipe import ModelSection

SYSTEM, USER, ANSWER, AGAIN = "SYSTEM-TEXT", "USER-TEXT", "ANSWER-TEXT", "AGAIN-TEXT"
TURNS = {
    "s": {"role": "system", "content": SYSTEM},
    "u": {"role": "user", "content": USER},
    "a": {"role": "assistant", "content": ANSWER},
    "v": {"role": "user", "content": AGAIN},
}
CONVERSATIONS = ("suav", "su", "uav", "u")  # those that Ollama must render as the tokenizer does
NO_TEMPLATE = "no template: Ollama then uses the one in the GGUF file, if it knows it"
DATED = "where the chat template writes the day's date, Ollama's keeps that of this merge"

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Wraps:
    """What stands before and after the text of each role.

    ``begin`` stands before all else. Where a conversation has no system text, Ollama gives it
    ``default``, or writes ``unasked``.
    """

    system: tuple[str, str]
    user: tuple[str, str]
    answer: tuple[str, str]
    begin: str = ""
    default: str = ""
    unasked: str = ""

    def render(self, messages: Messages) -> str:
        """As Ollama will: every message in its wrap, then the start of an answer."""
        opening = self.begin
        if messages[0]["role"] != "system":
            opening += self.unasked
            if self.default:
                messages = [{"role": "system", "content": self.default}, *messages]
        roles = {"system": self.system, "user": self.user, "assistant": self.answer}
        parts = [f"{roles[m['role']][0]}{m['content']}{roles[m['role']][1]}" for m in messages]
        return opening + "".join(parts) + self.answer[0]

    def template(self) -> str:
        """The same in Ollama's template language."""

        def wrapped(wrap: tuple[str, str]) -> str:
            return f"{wrap[0]}{{{{ .Content }}}}{wrap[1]}"

        unasked = f"{{{{- if not .System }}}}{self.unasked}{{{{ end }}}}" if self.unasked else ""
        return (
            f"{self.begin}{unasked}{{{{- range .Messages }}}}"
            f'{{{{ if eq .Role "system" }}}}{wrapped(self.system)}'
            f'{{{{ else if eq .Role "user" }}}}{wrapped(self.user)}'
            f'{{{{ else if eq .Role "assistant" }}}}{wrapped(self.answer)}'
            f"{{{{ end }}}}{{{{ end }}}}{self.answer[0]}"
        )

    def can_be_written(self) -> bool:
        """Whether no text would be read as the end of a text, or as Ollama's language."""
        wraps = [*self.system, *self.user, *self.answer, self.begin, self.unasked]
        return '"""' not in self.template() + self.default and "{{" not in "\n".join(wraps)


def find_wraps(tokenizer: Any) -> Wraps | None:
    """The wraps of a tokenizer's chat template, or None where they cannot say all of it."""

    def render(turns: str, **options) -> str:
        return _rendered(tokenizer, turns, **options)

    try:
        begin = _begin(tokenizer)
        wraps = _with_opening(
            _wraps(lambda turns, **options: render(turns, **options).removeprefix(begin)),
            render("uav", add_generation_prompt=True).removeprefix(begin),
        )
        wraps = replace(wraps, begin=begin)
        same = all(
            wraps.render([TURNS[turn] for turn in turns])
            == render(turns, add_generation_prompt=True)
            for turns in CONVERSATIONS
        )
    except Exception:  # a template raises whatever its author wrote
        return None
    return wraps if same and wraps.can_be_written() else None


def _wraps(render: Callable[..., str]) -> Wraps:
    """What stands around each text of a conversation that has all of them."""
    before, rest = render("suav", add_generation_prompt=True).split(SYSTEM)
    between, rest = rest.split(USER)
    to_answer, rest = rest.split(ANSWER)
    to_user, _ = rest.split(AGAIN)
    after_user = render("su").split(USER)[1]
    after_answer = render("sua").split(ANSWER)[1]
    before_user = to_user.removeprefix(after_answer)
    return Wraps(
        system=(before, between.removesuffix(before_user)),
        user=(before_user, after_user),
        answer=(to_answer.removeprefix(after_user), after_answer),
    )


def _with_opening(wraps: Wraps, alone: str) -> Wraps:
    """The wraps, with what ``alone``, a conversation without a system text, begins with."""
    opening = alone.removesuffix(wraps.render([TURNS[turn] for turn in "uav"]))
    before, after = wraps.system
    text = opening.removeprefix(before).removesuffix(after)
    if text and opening == before + text + after:
        return replace(wraps, default=text)
    return replace(wraps, unasked=opening)  # Ollama takes an empty SYSTEM for none


def _begin(tokenizer: Any) -> str:
    """The BOS that Ollama's template must write: one before all else, which opens no turn."""
    begin, text = tokenizer.bos_token, _rendered(tokenizer, "suav")
    return begin if begin and text.startswith(begin) and text.count(begin) == 1 else ""


def _rendered(tokenizer: Any, turns: str, **options) -> str:
    """What Ollama's template must write: not the BOS that llama.cpp puts before it by itself."""
    messages = [TURNS[turn] for turn in turns]
    text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    return text.removeprefix(tokenizer.bos_token) if adds_begin(tokenizer) else text


def adds_begin(tokenizer: Any) -> bool:
    """Whether the tokenizer, and so llama.cpp, puts a BOS before every text."""
    return bool(tokenizer.bos_token) and tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id


def modelfile(weights: str, tokenizer: Any) -> tuple[str, str | None]:
    """The Modelfile's text, and what the user should know where it cannot say all."""
    lines = [f"FROM {weights}"]
    wraps = find_wraps(tokenizer) if tokenizer.chat_template else None
    if wraps:
        lines.append(f'TEMPLATE """{wraps.template()}"""')
    if wraps and wraps.default:
        lines.append(f'SYSTEM """{wraps.default}"""')
    stops = {tokenizer.eos_token, wraps.answer[1].strip() if wraps else None}
    lines += [f'PARAMETER stop "{stop}"' for stop in sorted(s for s in stops if s and '"' not in s)]
    note = None if wraps else NO_TEMPLATE
    if wraps and "strftime_now" in str(tokenizer.chat_template):
        note = DATED
    return "\n".join(lines) + "\n", note


def write_modelfile(folder: Path, weights: str) -> str | None:
    """Write ``Modelfile`` beside a merged model; returns the note, if there is one."""
    tokenizer = load_tokenizer(ModelSection(base=str(folder)))
    text, note = modelfile(weights, tokenizer)
    (folder / "Modelfile").write_text(text, encoding="utf-8")
    _say_who_writes_begin(folder / "tokenizer_config.json", tokenizer)
    return note


def _say_who_writes_begin(config: Path, tokenizer: Any) -> None:
    """Whether llama.cpp is to put a BOS before a text, which it would guess otherwise."""
    settings, adds = read_json(config) or {}, adds_begin(tokenizer)
    if settings.get("add_bos_token") != adds:
        write_json(config, settings | {"add_bos_token": adds})
