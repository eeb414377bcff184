"""The table of data formats, and which of them a file has. No match is an error, never a guess.

A format is a set of columns with a test for each. The tests are strict enough that a row of one
public data set matches one format; where it does not, the user is asked to name it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dpo_lite.data import converters as to
from dpo_lite.data import fields
from dpo_lite.data import prompts as ask
from dpo_lite.data.examples import Ranked
from dpo_lite.data.fields import Row, is_messages, is_text, kind_of, list_of, object_with, turns_in
from dpo_lite.errors import UserError

SHOWN_COLUMNS = 16
BESIDE = {"system", "tools", "chat_template_kwargs", "chosen_markers", "rejected_markers"}
NO_ANSWERS = "it holds prompts alone, without an answer to learn from; task: ppo answers them."


class Test(NamedTuple):
    """What a cell must be, in words for the user; one that takes null makes its column optional."""

    words: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True, eq=False)
class Format:
    """``needs``: column -> test, where ``a|b`` is one of two columns. ``lacks``: columns whose
    presence means that it is another format. ``grouped``: one labelled response a row, to be
    paired with others of the same prompt. ``ask`` reads the prompt and looks at no answer.
    """

    name: str
    description: str
    needs: Mapping[str, Test]
    convert: Callable[[Row], Ranked]
    ask: Callable[[Row], Ranked]
    lacks: tuple[str, ...] = ()
    grouped: bool = False

    def matches(self, row: Row) -> bool:
        return not self.unmet(row) and not self.barred(row)

    def unmet(self, row: Row) -> list[str]:
        """The columns whose need this row does not meet."""
        return [
            names
            for names, test in self.needs.items()
            if not any(test.holds(row.get(name)) for name in names.split("|"))
        ]

    def barred(self, row: Row) -> list[str]:
        return [name for name in self.lacks if row.get(name) is not None]

    def needed(self) -> list[str]:
        return [names for names, test in self.needs.items() if not test.holds(None)]

    @property
    def why(self) -> str:
        """What it is recognised by, in words."""
        tests = [(names, self.needs[names].words) for names in self.needed()]
        return ", ".join(f"{names.replace('|', ' or ')} is {words}" for names, words in tests)


# --- recognition ---------------------------------------------------------------------------------


def recognise(
    sample: Sequence[Row], wanted: str = "auto", where: str = "data", prompts: bool = False
) -> Format:
    """The one format that fits every row of the sample that fits any.

    ``prompts``: whether prompts alone are enough; else such data are an error that says so. A row
    that fits none is left to the converter, which says what is wrong with it. Raises UserError
    where none or several fit, naming the key that settles it.
    """
    if wanted not in ("auto", "raw"):
        return _named(sample, wanted, where, prompts)
    fits = [(row, [f for f in ANSWERED if f.matches(cells)]) for row, cells in enumerate(sample)]
    fits = [(row, found) for row, found in fits if found]
    if not fits and prompts and any(map(PROMPTS_ALONE.matches, sample)):
        return PROMPTS_ALONE
    if not fits:
        raise UserError(f"{where}: {_no_match(sample, prompts)}")
    common = [f for f in ANSWERED if all(f in found for _, found in fits)]
    if len(common) == 1:
        return common[0]
    if common:
        names = [f.name for f in common]
        raise UserError(
            f"{where}: the columns fit {' and '.join(names)} alike; say which with data.format, "
            f"for example data.format={names[0]}."
        )
    (row, (first, *_)), *_ = fits
    other, (second, *_) = next(fit for fit in fits if first not in fit[1])
    raise UserError(
        f"{where}: the file is mixed: row {row} is {first.name}, row {other} is {second.name} "
        "(0 is the first). Split it by format and mix the parts as two sources of data.train, or "
        "set data.format to keep the rows of one format alone."
    )


def _named(sample: Sequence[Row], wanted: str, where: str, prompts: bool) -> Format:
    names = {f.name: f for f in FORMATS}
    if wanted not in names:
        close = difflib.get_close_matches(wanted.lower(), names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}."
        raise UserError(f"{where}: data.format: there is no {wanted}; {hint}")
    found = names[wanted]
    if found is PROMPTS_ALONE and not prompts:
        raise UserError(f"{where}: data.format={wanted}: {NO_ANSWERS}")
    present = {name for row in sample for name, value in row.items() if value is not None}
    missing = [names for names in found.needed() if present.isdisjoint(names.split("|"))]
    if missing:
        raise UserError(
            f"{where}: data.format={wanted} needs {_columns(found.needed())}; missing or empty: "
            f"{_columns(missing)}. {_hint(sample, found, missing[0])}"
        )
    return found


def _no_match(sample: Sequence[Row], prompts: bool) -> str:
    """What stands in the file instead of a known format, and what to do about it."""
    kinds = _kinds(sample)
    if not kinds or set(kinds.values()) == {"empty"}:
        some = f"{_columns(kinds)} are empty" if kinds else "there are no columns"
        return f"{some} in the rows looked at ({len(sample)}); is it the right file or split?"
    shown = [f"`{name}` ({kind})" for name, kind in kinds.items()][:SHOWN_COLUMNS]
    rest = len(kinds) - len(shown)
    listed = ", ".join(shown) + (f" and {rest} more" if rest else "")
    asked = {kinds.get(name, "empty") for name in ("prompt", "question", "instruction")}
    if {kinds.get("chosen"), kinds.get("rejected")} == {"text"} and asked == {"empty"}:
        return (
            "`chosen` and `rejected` are plain text without a `prompt` column, and the prompt is "
            f"never guessed from the words that they share. The columns are {listed}. "
            f"{_hint(sample, FORMATS[0], 'prompt')}"
        )
    candidates = (PROMPTS_ALONE, *ANSWERED) if prompts else ANSWERED
    pairs = ((candidate, row) for candidate in candidates for row in sample)
    nearest, row = min(pairs, key=lambda pair: _distance(*pair))
    unmet, barred = nearest.unmet(row), nearest.barred(row)
    if not unmet:
        return (
            f"the rows look like {nearest.name}, but have {_columns(barred)} as well; set "
            f"data.format={nearest.name} if that is what it is. The columns are {listed}."
        )
    if not prompts and any(map(PROMPTS_ALONE.matches, sample)):
        if not _meant(sample, nearest, unmet[0]):
            return NO_ANSWERS
        return (
            f"{NO_ANSWERS} The columns are {listed}; where one of them is an answer: "
            f"{_hint(sample, nearest, unmet[0])}"
        )
    how_near = "nearest" if _distance(nearest, row) < 1 else "simplest"
    problems = ", ".join(_problem(nearest, names, row) for names in unmet)
    return (
        f"no known format has the columns {listed}. The {how_near} is {nearest.name} "
        f"({_columns(nearest.needed())}): {problems}. {_hint(sample, nearest, unmet[0])}"
    )


def _distance(candidate: Format, row: Row) -> float:
    """The share of needs that a row does not meet; a column of the right name counts half."""
    unmet = candidate.unmet(row)
    there = sum(any(row.get(name) is not None for name in n.split("|")) for n in unmet)
    share = (len(unmet) - 0.5 * there) / len(candidate.needed())
    return share + 0.25 * len(candidate.barred(row))


def _problem(candidate: Format, names: str, row: Row) -> str:
    name = next((name for name in names.split("|") if name in row), names.split("|")[0])
    wanted = candidate.needs[names].words
    if name not in row:
        return f"`{name}` ({wanted}) is missing"
    return f"`{name}` is {kind_of(row[name])}, not {wanted}"


def _hint(sample: Sequence[Row], candidate: Format, names: str) -> str:
    """How to name the column of a need: with one of the user's own where one can be meant."""
    ours, theirs = names.split("|")[0], _meant(sample, candidate, names)
    start = "Name your columns" if theirs else f"Give the file such a `{ours}`, or name yours"
    example = f"data.columns='{{{ours}: {theirs[0] if theirs else 'question'}}}'"
    return f"{start} with data.columns (as in {example}), or the format with data.format."


def _meant(sample: Sequence[Row], candidate: Format, names: str) -> list[str]:
    """The user's own columns that can be meant by a need."""
    test = candidate.needs[names]
    known = {name for f in FORMATS for needed in f.needs for name in needed.split("|")} | BESIDE
    own = [name for name in _kinds(sample) if name not in known]
    return [name for name in own if any(test.holds(row.get(name)) for row in sample)]


def _kinds(sample: Sequence[Row]) -> dict[str, str]:
    """What each column holds, by its first cell that is not null."""
    kinds: dict[str, str] = {}
    for row in sample:
        for name, value in row.items():
            if kinds.get(str(name), "empty") == "empty":
                kinds[str(name)] = kind_of(value)
    return kinds


def _columns(names: Iterable[str]) -> str:
    """Column names as the user reads them; ``a|b`` is one of two."""
    return ", ".join(" or ".join(f"`{one}`" for one in name.split("|")) for name in names)


# --- the table -----------------------------------------------------------------------------------


def formats_table() -> str:
    """The Markdown table of docs/data-formats.md."""
    lines = ["| `data.format` | columns | what it is |", "| --- | --- | --- |"]
    lines += [f"| `{f.name}` | {_columns(f.needed())} | {f.description} |" for f in FORMATS]
    return "\n".join(lines) + "\n"


TEXT = Test("text", lambda v: is_text(v) and not is_messages(v) and not fields.is_message(v))
DIALOGUE = Test("a Human/Assistant dialogue", fields.is_dialogue)
NUMBER = Test("a number", fields.is_number)
NUMBERS = Test("a list of numbers", list_of(fields.is_number))
FLAG = Test("true or false", fields.is_boolean)
MESSAGE = Test("one message", fields.is_message)
MESSAGES = Test("a list of messages", is_messages)
CONVERSATION = Test("a list of two or more messages", lambda v: turns_in(v) > 1)
NO_TURNS = Test("nothing or text", lambda v: not is_messages(v))
EITHER = Test("text or a list of messages", lambda v: is_text(v) or is_messages(v))
REPLY = Test("text or messages", lambda v: EITHER.holds(v) or fields.is_message(v))
ANSWER = Test(
    "text or a list of one message",
    lambda v: turns_in(v) == 1 or (TEXT.holds(v) and not fields.is_dialogue(v)),
)
RESPONSES = Test("a list of texts or messages", list_of(REPLY.holds))
ROUNDS = Test("text or a list of texts", lambda v: is_text(v) or list_of(is_text)(v))
SUMMARIES = Test("a list of summaries", list_of(object_with("text")))
RANKED = Test("a list of ranked answers", list_of(object_with("answer", "rank")))
RATED = Test("a list of rated completions", list_of(object_with("response", "annotations")))
INPUT = Test("an object with messages", object_with("messages"))
POST = Test("a post or an article", lambda v: any(object_with(k)(v) for k in ("post", "article")))

PAIR = {"chosen": ANSWER, "rejected": ANSWER}
WINNERS = {"winner_model_a": FLAG, "winner_model_b": FLAG}
LABELS = ("chosen", "rejected", "rejected_response", "rejected_messages", "label", "kto_tag")

ANSWERED: tuple[Format, ...] = (
    Format(
        "triples",
        "texts, with or without `system`; a `\\n\\nHuman: …` prompt is split into turns",
        {"prompt": TEXT, **PAIR},
        to.columns("prompt", "chosen", "rejected"),
        ask.column("prompt"),
    ),
    Format(
        "conversational",
        "TRL's explicit prompt: turns, then the two answers, with or without the prompt before "
        "them; `tools` and `chat_template_kwargs` go to the chat template",
        {"prompt": MESSAGES, "chosen": REPLY, "rejected": REPLY},
        to.conversational,
        ask.templated(fields.prompt),
    ),
    Format(
        "conversations",
        "two whole conversations that share all but the last answer (UltraFeedback-binarized, "
        "dpo-mix-7k, Capybara, Skywork; TRL's implicit prompt); a text `prompt` beside them is "
        "ignored, equal ratings are ties",
        {"chosen": CONVERSATION, "rejected": CONVERSATION, "prompt": NO_TURNS},
        to.conversations,
        ask.conversation("chosen", "rejected"),
    ),
    Format(
        "hh-rlhf",
        "two dialogues `\\n\\nHuman: … \\n\\nAssistant: …`, split at the last `Assistant:`",
        {"chosen": DIALOGUE, "rejected": DIALOGUE},
        to.hh_rlhf,
        ask.alone(ask.before_last_answer),
    ),
    Format(
        "ranking",
        "any number of responses with `scores` (higher is better) or `ranks` (1 is best)",
        {"prompt": EITHER, "responses": RESPONSES, "scores|ranks": NUMBERS},
        to.ranking,
        ask.templated(fields.prompt),
    ),
    Format(
        "kto",
        "one answer a row, good or bad; paired where the prompts are the same (kto-mix-14k)",
        {"prompt": EITHER, "completion": EITHER, "label": FLAG},
        to.kto,
        ask.templated(fields.prompt),
        grouped=True,
    ),
    Format(
        "sft-completion",
        "demonstrations: texts or lists of messages",
        {"prompt": EITHER, "completion": EITHER},
        to.sft_completion,
        ask.templated(fields.prompt),
        lacks=LABELS,
    ),
    Format(
        "sft-messages",
        "demonstrations: a conversation, of which the last answer is trained on",
        {"messages|conversations": MESSAGES},
        to.sft_messages,
        ask.conversation("messages", "conversations"),
        lacks=LABELS,
    ),
    Format(
        "sft-alpaca",
        "demonstrations: texts, with or without `input`, `system` and `history`",
        {"instruction": TEXT, "output": TEXT},
        to.sft_alpaca,
        ask.alone(ask.instruction),
        lacks=LABELS,
    ),
    Format(
        "orca",
        "texts, with or without `system` (Intel orca_dpo_pairs)",
        {"question": TEXT, **PAIR},
        to.columns("question", "chosen", "rejected"),
        ask.column("question"),
        lacks=("prompt",),
    ),
    Format(
        "distilabel-orca",
        "texts, with or without `system`; `status` may be tie (distilabel-intel-orca-dpo-pairs)",
        {"input": TEXT, "status": TEXT, **PAIR},
        to.distilabel_orca,
        ask.column("input"),
        lacks=("prompt", "question", "instruction"),
    ),
    Format(
        "argilla-instruction",
        "texts, with or without `system` (argilla ultrafeedback-binarized-preferences)",
        {"instruction": TEXT, "chosen_response": TEXT, "rejected_response": TEXT},
        to.columns("instruction", "chosen_response", "rejected_response"),
        ask.column("instruction"),
    ),
    Format(
        "alpaca-ranking",
        "texts, with or without `input`, `system` and `history` (LLaMA-Factory alpaca)",
        {"instruction": TEXT, **PAIR},
        to.alpaca_ranking,
        ask.alone(ask.instruction),
        lacks=("prompt", "question"),
    ),
    Format(
        "sharegpt-ranking",
        "turns, then one of two messages (LLaMA-Factory sharegpt: DPO-En-Zh-20k)",
        {"conversations": MESSAGES, "chosen": MESSAGE, "rejected": MESSAGE},
        to.behind_turns("conversations"),
        ask.turns("conversations"),
    ),
    Format(
        "messages-ranking",
        "turns, then one of two messages (axolotl)",
        {"messages": MESSAGES, "chosen": MESSAGE, "rejected": MESSAGE},
        to.behind_turns("messages"),
        ask.turns("messages"),
    ),
    Format(
        "ms-swift",
        "a conversation that ends with the preferred answer, and the other answer or conversation",
        {"messages": MESSAGES, "rejected_response|rejected_messages": EITHER},
        to.ms_swift,
        ask.conversation("messages"),
    ),
    Format(
        "openai-preference",
        "OpenAI's fine-tuning file: `input` holds the messages; `preferred_output` is preferred",
        {"input": INPUT, "preferred_output": MESSAGES, "non_preferred_output": MESSAGES},
        to.openai_preference,
        ask.openai_input,
    ),
    Format(
        "stack-exchange-paired",
        "texts; `response_j` is preferred (lvwerra stack-exchange-paired)",
        {"question": TEXT, "response_j": TEXT, "response_k": TEXT},
        to.columns("question", "response_j", "response_k"),
        ask.column("question"),
    ),
    Format(
        "shp",
        "texts; `labels` 1 prefers A; a `score_ratio` under 2 is too weak (Stanford SHP)",
        {"history": TEXT, "human_ref_A": TEXT, "human_ref_B": TEXT, "labels": FLAG},
        to.shp,
        ask.alone(lambda row: fields.user(fields.text(row, "history"))),
    ),
    Format(
        "tldr-comparisons",
        "two summaries, of which `choice` is preferred, from 0 (OpenAI summarize_from_feedback)",
        {"info": POST, "summaries": SUMMARIES, "choice": FLAG},
        to.tldr_comparisons,
        ask.alone(ask.post),
    ),
    Format(
        "helpsteer2-preference",
        "texts; a negative strength prefers the first, 0 is a tie (NVIDIA HelpSteer2, preference)",
        {"prompt": TEXT, "response_1": TEXT, "response_2": TEXT, "preference_strength": NUMBER},
        to.helpsteer2,
        ask.alone(ask.marked_turns),
    ),
    Format(
        "helpsteer3-preference",
        "turns and two texts; a negative number prefers the first, 0 is a tie (NVIDIA HelpSteer3)",
        {"context": MESSAGES, "response1": TEXT, "response2": TEXT, "overall_preference": NUMBER},
        to.helpsteer3,
        ask.alone(lambda row: fields.messages(row, "context")),
    ),
    Format(
        "pku-saferlhf",
        "texts; `better_response_id` is the number of the preferred one (PKU-SafeRLHF)",
        {"prompt": TEXT, "response_0": TEXT, "response_1": TEXT, "better_response_id": FLAG},
        to.pku_saferlhf,
        ask.column("prompt"),
    ),
    Format(
        "arena",
        "two conversations that share all but the last answer; `winner` is model_a, model_b or a "
        "tie (LMSYS chatbot_arena_conversations, LMArena)",
        {"conversation_a": MESSAGES, "conversation_b": MESSAGES, "winner": TEXT},
        to.arena,
        ask.alone(lambda row: fields.turns_before_answer(row, "conversation_a")),
    ),
    Format(
        "arena-pairwise",
        "texts, or lists of one text; more rounds are dropped (lmsys-arena-human-preference-55k)",
        {**dict.fromkeys(("prompt", "response_a", "response_b"), ROUNDS), **WINNERS},
        to.arena_pairwise,
        ask.alone(lambda row: fields.user(ask.only_round(row, "prompt"))),
    ),
    Format(
        "nectar",
        "`answers` with a rank each, 1 is best (Berkeley Nectar)",
        {"prompt": EITHER, "answers": RANKED},
        to.nectar,
        ask.column("prompt"),
    ),
    Format(
        "ultrafeedback",
        "`completions` with ratings, ranked by their mean (OpenBMB UltraFeedback)",
        {"instruction": TEXT, "completions": RATED},
        to.ultrafeedback,
        ask.column("instruction"),
    ),
)

# Columns that ask; all others that a format needs say that it is that format.
ASKING = ("prompt", "question", "instruction", "input", "history", "info", "context")

PROMPTS_ALONE = Format(
    "prompts",
    "prompts alone, text or turns that end with the user, with or without `system` (TRL's "
    "prompt-only); for task: ppo",
    {"prompt": EITHER},
    ask.templated(fields.prompt),
    ask.templated(fields.prompt),
    lacks=tuple(
        dict.fromkeys(
            name
            for f in ANSWERED
            for names in f.needs
            for name in names.split("|")
            if name not in ASKING
        )
    ),
)
FORMATS = (*ANSWERED, PROMPTS_ALONE)
