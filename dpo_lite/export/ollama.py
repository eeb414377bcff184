"""A Modelfile for Ollama. Its template is worked out from what the tokenizer's template writes.

A conversation is rendered with marked texts; what stands around the marks is what each role is
wrapped in. The result is compared with the tokenizer's own rendering, and where they differ (a
template with logic that Ollama's language cannot tell) no template is written at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

SYSTEM, USER, ANSWER, AGAIN = "SYSTEM-TEXT", "USER-TEXT", "ANSWER-TEXT", "AGAIN-TEXT"


@dataclass(frozen=True)
class Wraps:
    """What stands before and after the text of each role."""

    system: tuple[str, str]
    user: tuple[str, str]
    answer: tuple[str, str]

    def render(self, messages: list[dict[str, str]]) -> str:
        """As Ollama will: every message in its wrap, then the start of an answer."""
        roles = {"system": self.system, "user": self.user, "assistant": self.answer}
        parts = [f"{roles[m['role']][0]}{m['content']}{roles[m['role']][1]}" for m in messages]
        return "".join(parts) + self.answer[0]

    def template(self) -> str:
        """The same in Ollama's template language."""

        def wrapped(wrap: tuple[str, str]) -> str:
            return f"{wrap[0]}{{{{ .Content }}}}{wrap[1]}"

        return (
            "{{- range .Messages }}"
            f'{{{{ if eq .Role "system" }}}}{wrapped(self.system)}'
            f'{{{{ else if eq .Role "user" }}}}{wrapped(self.user)}'
            f'{{{{ else if eq .Role "assistant" }}}}{wrapped(self.answer)}'
            f"{{{{ end }}}}{{{{ end }}}}{self.answer[0]}"
        )


def find_wraps(tokenizer: Any) -> Wraps | None:
    """The wraps of a tokenizer's chat template, or None where wraps alone cannot say it."""

    def render(roles: str, **options) -> str:
        texts = {"s": ("system", SYSTEM), "u": ("user", USER), "a": ("assistant", ANSWER)}
        texts["v"] = ("user", AGAIN)
        messages = [{"role": texts[r][0], "content": texts[r][1]} for r in roles]
        text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
        begin = tokenizer.bos_token or ""
        return text.removeprefix(begin) if begin else text  # llama.cpp puts it there itself

    try:
        rendered = render("suav", add_generation_prompt=True)
        before, rest = rendered.split(SYSTEM)
        between, rest = rest.split(USER)
        to_answer, rest = rest.split(ANSWER)
        to_user, _ = rest.split(AGAIN)
        after_user = render("su").split(USER)[1]
        after_answer = render("sua").split(ANSWER)[1]
    except Exception:  # a template raises whatever its author wrote
        return None
    before_user = to_user.removeprefix(after_answer)
    wraps = Wraps(
        system=(before, between.removesuffix(before_user)),
        user=(before_user, after_user),
        answer=(to_answer.removeprefix(after_user), after_answer),
    )
    messages = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": USER},
        {"role": "assistant", "content": ANSWER},
        {"role": "user", "content": AGAIN},
    ]
    return wraps if wraps.render(messages) == rendered else None


def modelfile(weights: str, tokenizer: Any) -> tuple[str, str | None]:
    """The Modelfile's text, and what the user should know where no template could be written."""
    lines = [f"FROM {weights}"]
    wraps = find_wraps(tokenizer) if tokenizer.chat_template else None
    if wraps and '"""' not in wraps.template():
        lines.append(f'TEMPLATE """{wraps.template()}"""')
    stops = {tokenizer.eos_token, wraps.answer[1].strip() if wraps else None}
    lines += [f'PARAMETER stop "{stop}"' for stop in sorted(s for s in stops if s and '"' not in s)]
    note = (
        None if wraps else "no template: Ollama then uses the one in the GGUF file, if it knows it"
    )
    return "\n".join(lines) + "\n", note


def write_modelfile(folder: Path, weights: str) -> str | None:
    """Write ``Modelfile`` beside a merged model; returns the note, if there is one."""
    from transformers import AutoTokenizer

    text, note = modelfile(weights, AutoTokenizer.from_pretrained(str(folder)))
    (folder / "Modelfile").write_text(text, encoding="utf-8")
    return note
