"""What a tokenizer's chat template does, found out once by rendering a question and an answer."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError

from dpo_lite.bounded import at_most
from dpo_lite.data.examples import Message
from dpo_lite.errors import UserError

QUESTION, ANSWER, SYSTEM, THOUGHT = "Xqz", "Yqz", "Zqz", "Rqz"  # that no template writes by itself
REASONED = f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"
REASONING = re.compile(r"\s*(?:<think>)?(.*?)</think>(.*)", re.DOTALL)
MARK = re.compile(r"[^\w\s].*[^\w\s]")  # not the words and white space that are tokens of some
THINKING = "enable_thinking"  # the switch by which templates of thinking models know it
FAULTS = (
    TemplateError,
    TypeError,
    ValueError,
    AttributeError,
    KeyError,
    ArithmeticError,  # also what the sandbox says of a range without end
    RecursionError,
    MemoryError,
)
SECONDS = 20  # for some short turns, which take milliseconds


@dataclass(frozen=True)
class Template:
    """``end`` closes an answer, up to and with one end-of-turn token; ``after`` is all that the
    template writes behind one. ``marks`` are the special tokens that it writes; ``opening`` is what
    stands between the user's words and the answer; ``begin_opens_turns``: BOS stands in it, so it
    is the mark of a turn (ChatML's <|im_start|>) and does not say where a text begins.

    ``speakers``: added tokens between turns, special or not (DeepSeek's <｜User｜> is none to its
    tokenizer). ``apart``: reasoning is given to it beside the answer, since it writes it otherwise
    than between <think> and </think> (gpt-oss). ``parts``: it takes a turn's content as a list of
    parts, of which text is one kind, not as text. ``scaffold``: what an answer to come is opened
    with and a given one is rendered without.
    """

    end: str
    after: str = ""
    marks: tuple[str, ...] = ()
    takes_system: bool = True
    opening: str = ""
    begin_opens_turns: bool = False
    parts: bool = False
    scaffold: str = ""
    speakers: frozenset[str] = frozenset()
    apart: bool = False


def render(
    tokenizer,
    messages: list[Message],
    open_answer: bool,
    options: dict[str, Any],
    parts: bool = False,
    apart: bool = False,
) -> str:
    """The text; arguments of tool calls are given as objects, and as JSON text where a template
    takes those alone (DeepSeek's). ``parts`` and ``apart`` as in Template."""

    def apply(turns: list[Message]) -> str:
        turns = [_thought_apart(turn) for turn in turns] if apart else turns
        given: list[Any] = [_in_parts(turn) for turn in turns] if parts else turns
        return tokenizer.apply_chat_template(
            given, tokenize=False, add_generation_prompt=open_answer, **options
        )

    try:
        return apply(messages)
    except TypeError:
        if not any(turn.get("tool_calls") for turn in messages):
            raise
    return apply([_spelt_calls(turn) for turn in messages])


def _spelt_calls(turn: Message) -> Message:
    calls = []
    for call in turn.get("tool_calls") or []:
        arguments = json.dumps(call["function"]["arguments"])
        calls.append({**call, "function": {**call["function"], "arguments": arguments}})
    return {**turn, "tool_calls": calls} if calls else turn


def _thought_apart(turn: Message) -> Message:
    """The turn with its reasoning under the names that templates know."""
    found = REASONING.fullmatch(turn["content"]) if turn["role"] == "assistant" else None
    if not found or not (found[2].strip() or turn.get("tool_calls")):
        return turn
    thought, words = found[1].strip(), found[2].lstrip()
    named = dict.fromkeys(("reasoning_content", "reasoning", "thinking"), thought)
    return {**turn, "content": words, **named}


def _in_parts(turn: Message) -> dict[str, Any]:
    """A turn as templates of models with other senses have it."""
    words = turn.get("content")
    if not isinstance(words, str):
        return dict(turn)
    return {**turn, "content": [{"type": "text", "text": words}]}


def find_out(tokenizer, options: dict[str, Any]) -> Template:
    """Raises UserError where there is no template, or none that preferences can be rendered by."""
    name = tokenizer.name_or_path or "this base"
    if not tokenizer.chat_template:
        raise UserError(
            f"The tokenizer of {name} has no chat template; set data.format=raw to train on plain "
            "text, or take an instruction-tuned base."
        )
    words = (
        f"The chat template of {name} takes over {SECONDS} s for a question and an answer; take"
        " a base whose template comes to an end, or set data.format=raw."
    )
    with at_most(SECONDS, words):
        return _tried(tokenizer, name, options)


def _tried(tokenizer, name: str, options: dict[str, Any]) -> Template:
    """By what it makes of a question and an answer."""
    ask, reply = {"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}
    fault: Exception | None = None
    for parts in (False, True):
        try:
            prompt = render(tokenizer, [ask], True, options, parts)
            whole = render(tokenizer, [ask, reply], False, options, parts)
            scaffold = _scaffold(tokenizer, ask, prompt, whole, options, parts)
            if scaffold is None:  # it may want reasoning in every answer
                reasoned = {**reply, "content": REASONED}
                whole = render(tokenizer, [ask, reasoned], False, options, parts)
        except FAULTS as error:
            fault = fault or error
            continue
        if QUESTION in prompt and ANSWER in whole:
            break  # else it walks over the letters of a text and finds no part of a kind it knows
    else:
        reason = (
            f"fails on a question and an answer ({fault})" if fault else "leaves out what is said"
        )
        raise UserError(
            f"The chat template of {name} {reason}; check data.template, or set data.format=raw."
        ) from fault
    thinks = prompt.rstrip().endswith("<think>")
    opens = whole.startswith(prompt) or (thinks and whole.startswith(_before_thinking(prompt)))
    if not opens and not scaffold:
        raise UserError(
            f"The chat template of {name} opens an answer otherwise than it renders one, with or "
            "without reasoning; set data.template='{enable_thinking: false}' where the model knows "
            "it, or data.format=raw."
        )
    added = tokenizer.added_tokens_decoder.values()
    marks = tuple(str(token) for token in added if token.special and str(token) in whole)
    speakers = frozenset(str(token) for token in added if MARK.fullmatch(str(token)))
    after, opening = whole.rpartition(ANSWER)[2], prompt.rpartition(QUESTION)[2]
    return Template(
        _end(after, [str(token) for token in added], tokenizer.eos_token),
        after,
        marks,
        _takes_system(tokenizer, ask, options, parts),
        opening,
        bool(tokenizer.bos_token) and tokenizer.bos_token in opening,
        parts,
        scaffold or "",
        frozenset(mark for mark in speakers if mark in whole) - {"<think>", "</think>"},
        _apart(tokenizer, ask, options, parts),
    )


def _apart(tokenizer, ask: Message, options: dict[str, Any], parts: bool) -> bool:
    """Whether reasoning that is given beside the answer is written, and in a way of its own.

    Qwen3's comes out alike, up to white space, wherever it stands; it is then left as the row has
    it."""
    turns = [ask, {"role": "assistant", "content": REASONED}]
    try:
        inside, beside = (
            render(tokenizer, turns, False, options, parts, apart) for apart in (False, True)
        )
    except FAULTS:
        return False
    return THOUGHT in beside and "".join(inside.split()) != "".join(beside.split())


def _before_thinking(prompt: str) -> str:
    return prompt.rstrip().removesuffix("<think>").rstrip()


def _scaffold(
    tokenizer, ask: Message, prompt: str, whole: str, options: dict[str, Any], parts: bool
) -> str | None:
    """What the prompt ends with and the whole lacks; None where the two do not go together.

    Where thinking is off it may be an empty thought, behind which the model answers (Gemma 4 from
    12B on). That it is one and not the start of a thought is known by the template's own switch:
    with thinking on it writes another prompt.
    """
    before, found, _ = whole.partition(ANSWER)
    if found and before.startswith(prompt):
        return ""
    if not found or not prompt.startswith(before) or options.get(THINKING) is not False:
        return None
    try:
        thinking = render(tokenizer, [ask], True, options | {THINKING: True}, parts)
    except FAULTS:
        return None
    return prompt[len(before) :] if thinking != prompt else None


def _end(after: str, added: list[str], eos: str) -> str:
    """What closes an answer: up to the first token of its kind, else with the tokenizer's own."""
    places = [(after.find(mark), -len(mark), mark) for mark in added if mark.strip()]
    ends = sorted(place for place in places if place[0] >= 0)
    return after[: ends[0][0]] + ends[0][2] if ends else after.rstrip() + eos


def _takes_system(tokenizer, ask: Message, options: dict[str, Any], parts: bool) -> bool:
    """Whether a system turn is rendered; some templates refuse it and some leave it out."""
    try:
        system = {"role": "system", "content": SYSTEM}
        return SYSTEM in render(tokenizer, [system, ask], True, options, parts)
    except FAULTS:
        return False
