"""From a row to a prompt and its responses: one function per way of saying which is better.

Every converter returns a Ranked or raises BadRow, whatever the row holds. The prompt is a column,
the turns that two conversations share, or what stands before the last ``Assistant:``; it is never
guessed from what two texts have in common. Where the preferred one cannot be told, the row is bad.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dpo_lite.data.calls import without_ids
from dpo_lite.data.cells import ASSISTANT, HUMAN, is_messages, weightless
from dpo_lite.data.examples import BadRow, DataRow, Message, Ranked, Reason
from dpo_lite.data.fields import (
    answer,
    answers_behind_shared_turns,
    boolean,
    dialogue,
    ending,
    items,
    mapping,
    message,
    messages,
    number,
    optional_text,
    prompt,
    spoken,
    text,
    user,
    with_system,
)
from dpo_lite.data.prompts import instruction, marked_turns, only_round, post, template
from dpo_lite.data.ratings import mean_rating, refuse_tie

Converter = Callable[[DataRow], Ranked]
WEAK_RATIO = 2


# --- the columns say which is better -------------------------------------------------------------


def columns(asked: str, better: str, worse: str) -> Converter:
    """A prompt and two answers in columns of their own."""

    def convert(row: DataRow) -> Ranked:
        refuse_tie(row)
        return Ranked(prompt(row, asked), [answer(row, better), answer(row, worse)])

    return convert


def alpaca_ranking(row: DataRow) -> Ranked:
    refuse_tie(row)
    return Ranked(instruction(row), [answer(row, "chosen"), answer(row, "rejected")])


def distilabel_orca(row: DataRow) -> Ranked:
    if optional_text(row, "status").strip().lower() == "tie":
        raise BadRow(Reason.TIE)
    return columns("input", "chosen", "rejected")(row)


def hh_rlhf(row: DataRow) -> Ranked:
    """Two dialogues that share all but the last answer."""
    before, answers = [], []
    for key in ("chosen", "rejected"):
        head, _, tail = text(row, key).rpartition(ASSISTANT)
        if HUMAN in tail:
            raise BadRow(Reason.UNANSWERED, f"{key}: its last turn is of the user")
        before.append(head)
        answers.append(tail)
    if before[0] != before[1]:
        raise BadRow(Reason.PROMPTS_DIFFER)
    return Ranked(with_system(row, dialogue(before[0])), answers)


def conversations(row: DataRow) -> Ranked:
    """Whole conversations; a ``prompt`` beside them says nothing that they do not say."""
    refuse_tie(row)
    return _conversations(row, messages(row, "chosen"), messages(row, "rejected"))


def conversational(row: DataRow) -> Ranked:
    """The turns of the prompt, then two answers, which some data put behind the prompt again."""
    refuse_tie(row)
    turns = prompt(row)
    bare = messages(row, "prompt") if is_messages(row.get("prompt")) else turns
    whole = []
    for key in ("chosen", "rejected"):
        reply = _reply(row, key)
        starts = [s for s in (turns, bare) if without_ids(reply[: len(s)]) == without_ids(s)]
        behind = reply[len(starts[0]) :] if starts else reply
        if behind and behind[0]["role"] != "assistant":
            raise BadRow(Reason.PROMPTS_DIFFER, f"{key} does not go on where the prompt ends")
        whole.append([*turns, *behind] if behind else [])
    return _conversations(row, *whole)


def behind_turns(shared: str) -> Converter:
    """A conversation, and two messages that could come next."""

    def convert(row: DataRow) -> Ranked:
        refuse_tie(row)
        turns = messages(row, shared)
        replies = [message(row.get(key), key) for key in ("chosen", "rejected")]
        return _conversations(row, *([*turns, reply] for reply in replies))

    return convert


def ms_swift(row: DataRow) -> Ranked:
    """A conversation with the preferred answer, and another answer or another conversation."""
    chosen = messages(row, "messages")
    if row.get("rejected_messages") is not None:
        return _conversations(row, chosen, messages(row, "rejected_messages"))
    rejected = {"role": "assistant", "content": text(row, "rejected_response")}
    return _conversations(row, chosen, [*chosen[:-1], rejected])


def openai_preference(row: DataRow) -> Ranked:
    asked = mapping(row.get("input"), "input")
    answers = [answer(row, key) for key in ("preferred_output", "non_preferred_output")]
    return Ranked(messages(asked, "messages"), answers, template=template(asked))


# --- a label says which is better ----------------------------------------------------------------


def shp(row: DataRow) -> Ranked:
    """``labels`` 1 prefers A; votes under ``WEAK_RATIO`` to 1 say too little."""
    if row.get("score_ratio") is not None and number(row, "score_ratio") < WEAK_RATIO:
        raise BadRow(Reason.WEAK)
    answers = [text(row, key) for key in ("human_ref_A", "human_ref_B")]
    return _in_order(user(text(row, "history")), answers, first=boolean(row, "labels"))


def pku_saferlhf(row: DataRow) -> Ranked:
    answers = [text(row, key) for key in ("response_0", "response_1")]
    return _in_order(prompt(row), answers, first=not boolean(row, "better_response_id"))


def helpsteer2(row: DataRow) -> Ranked:
    """A negative strength prefers the first answer."""
    answers = [text(row, key) for key in ("response_1", "response_2")]
    return _by_sign(marked_turns(row), answers, number(row, "preference_strength"))


def helpsteer3(row: DataRow) -> Ranked:
    answers = [text(row, key) for key in ("response1", "response2")]
    return _by_sign(messages(row, "context"), answers, number(row, "overall_preference"))


def arena(row: DataRow) -> Ranked:
    winner = text(row, "winner").strip().lower()
    if winner.startswith("tie") or winner in ("both_bad", "bothbad"):
        raise BadRow(Reason.TIE)
    if winner not in ("model_a", "model_b"):
        raise BadRow(Reason.MALFORMED, f"winner is {winner[:40]!r}")
    both = [messages(row, key) for key in ("conversation_a", "conversation_b")]
    shared, answers = answers_behind_shared_turns(*both)
    return _in_order(shared, answers, first=winner == "model_a")


def arena_pairwise(row: DataRow) -> Ranked:
    """Three flags, and every text in a list of one per round; only one round can be compared."""
    first, second = boolean(row, "winner_model_a"), boolean(row, "winner_model_b")
    tie = row.get("winner_tie") is not None and boolean(row, "winner_tie")
    if first + second + tie != 1:
        raise BadRow(Reason.MALFORMED, "the winner_… columns do not name one winner")
    if tie:
        raise BadRow(Reason.TIE)
    asked, *answers = [only_round(row, key) for key in ("prompt", "response_a", "response_b")]
    return _in_order(user(asked), answers, first)


def tldr_comparisons(row: DataRow) -> Ranked:
    answers = [text(mapping(item, "summaries"), "text") for item in items(row, "summaries")]
    if len(answers) != 2:
        raise BadRow(Reason.MALFORMED, f"{len(answers)} summaries, not two")
    return _in_order(post(row), answers, first=not boolean(row, "choice"))


def kto(row: DataRow) -> Ranked:
    """One answer, good or bad."""
    asked = Ranked(prompt(row), [answer(row, "completion")], template=template(row))
    return asked._replace(scores=[_label(row)])


def kto_messages(row: DataRow) -> Ranked:
    return _last_answer(row)._replace(scores=[_label(row)])


def kto_alpaca(row: DataRow) -> Ranked:
    return Ranked(instruction(row), [text(row, "output")], [_label(row)])


# --- grades say which is better ------------------------------------------------------------------


def ranking(row: DataRow) -> Ranked:
    """Scores (higher is better) or ranks (1 is best) for any number of answers."""
    if row.get("scores") is not None and row.get("ranks") is not None:
        raise BadRow(Reason.MALFORMED, "both scores and ranks")
    key, sign = ("ranks", -1) if row.get("scores") is None else ("scores", 1)
    grades = [sign * number({key: grade}, key) for grade in items(row, key)]
    answers = [answer({"responses": item}, "responses") for item in items(row, "responses")]
    return _graded(prompt(row), answers, grades, template(row))


def nectar(row: DataRow) -> Ranked:
    answers = [mapping(item, "answers") for item in items(row, "answers")]
    grades = [-number(item, "rank") for item in answers]
    return _graded(prompt(row), [text(item, "answer") for item in answers], grades)


def ultrafeedback(row: DataRow) -> Ranked:
    answers = [mapping(item, "completions") for item in items(row, "completions")]
    grades = [mean_rating(item) for item in answers]
    asked = prompt(row, "instruction")
    return _graded(asked, [text(item, "response") for item in answers], grades)


# --- nothing is better: demonstrations -----------------------------------------------------------


def sft_messages(row: DataRow) -> Ranked:
    """Everything up to the last answer."""
    _refuse_bad(row)
    return _last_answer(row)


def sft_completion(row: DataRow) -> Ranked:
    _refuse_bad(row)
    return Ranked(prompt(row), [answer(row, "completion")], template=template(row))


def sft_alpaca(row: DataRow) -> Ranked:
    _refuse_bad(row)
    return Ranked(instruction(row), [text(row, "output")])


# --- parts ---------------------------------------------------------------------------------------


def _label(row: DataRow) -> float:
    """1 for an answer that is marked good, 0 for a bad one."""
    return float(boolean(row, "label" if row.get("label") is not None else "kto_tag"))


def _refuse_bad(row: DataRow) -> None:
    """Whoever names a format of demonstrations may not know that some are marked as bad."""
    marks = [str(row.get(key)).strip().lower() for key in ("label", "kto_tag")]
    if "false" in marks:
        raise BadRow(Reason.BAD)


def _last_answer(row: DataRow) -> Ranked:
    key = "messages" if row.get("messages") is not None else "conversations"
    turns = messages(row, key)
    answers = [place for place, turn in enumerate(turns) if turn["role"] == "assistant"]
    if not answers:
        raise BadRow(Reason.MALFORMED, f"{key} holds no answer")
    silent = weightless(row[key])
    places = [place for place in answers if place not in silent]
    if not places:
        raise BadRow(Reason.MALFORMED, f"{key}: every answer has weight 0")
    asked, last = turns[: places[-1]], turns[places[-1]]
    found = Ranked(with_system(row, asked), [spoken(last)], template=template(row))
    skipped = f"{key}: its last answer has weight 0" if answers[-1] != places[-1] else ""
    return found._replace(behind=skipped or ending(row, key))


def _conversations(row: DataRow, chosen: list[Message], rejected: list[Message]) -> Ranked:
    shared, answers = answers_behind_shared_turns(chosen, rejected)
    return Ranked(with_system(row, shared), answers, template=template(row))


def _in_order(asked: list[Message], answers: Sequence[str], first: bool) -> Ranked:
    """Two answers, of which ``first`` says whether the first is the better one."""
    return Ranked(asked, list(answers if first else answers[::-1]))


def _by_sign(asked: list[Message], answers: Sequence[str], strength: float) -> Ranked:
    if strength == 0:
        raise BadRow(Reason.TIE)
    return _in_order(asked, answers, first=strength < 0)


def _graded(
    asked: list[Message],
    answers: list[str],
    grades: list[float],
    template: dict[str, Any] | None = None,
) -> Ranked:
    if len(answers) != len(grades) or len(answers) < 2:
        raise BadRow(Reason.MALFORMED, f"{len(answers)} responses with {len(grades)} grades")
    return Ranked(asked, answers, grades, template)


def _reply(row: DataRow, key: str) -> list[Message]:
    """An answer as a list of turns, whatever it is written as."""
    if is_messages(row.get(key)):
        return messages(row, key)
    return [{"role": "assistant", "content": answer(row, key)}]
