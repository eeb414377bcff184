"""From a converted row to clean training examples: which responses are compared with which."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import combinations, product

from dpo_lite.data.calls import matched, without_ids
from dpo_lite.data.cells import (
    decoded,
    is_dialogue,
    is_messages,
    is_number,
    role_of,
    weightless,
)
from dpo_lite.data.examples import BadRow, DataRow, Dropped, Example, Message, Ranked, Reason
from dpo_lite.data.fields import spoken
from dpo_lite.data.texts import told_apart
from dpo_lite.tasks.spec import DEMONSTRATIONS, PROMPTS, UNPAIRED

PLACES = {
    "best_worst": lambda k: [(0, k - 1)],
    "adjacent": lambda k: [(i, i + 1) for i in range(k - 1)],
    "all": lambda k: list(combinations(range(k), 2)),
}


def examples_of(
    ranked: Ranked, row: DataRow, number: int, pairs: str = "best_worst"
) -> tuple[list[Example], list[Dropped]]:
    """The examples of one row, cleaned; ``pairs`` as in data.pairs.

    A pair that is tied, identical or half empty is left out. Raises BadRow where none is left. Of
    ``prompts`` there is one example without responses, of ``unpaired`` one for each response that
    is good or bad.
    """
    prompt = clean_prompt(ranked.prompt)
    common = {
        "row": number,
        "chosen_markers": _phrases(row, "chosen_markers"),
        "rejected_markers": _phrases(row, "rejected_markers"),
        "template": ranked.template or {},
        "dialogue": is_dialogue(row.get("prompt")) or is_dialogue(row.get("chosen")),
    }
    if pairs == PROMPTS:
        return [Example(prompt, [], **common)], _behind(ranked, number)
    answers, scores = _best_first(ranked)
    if pairs == UNPAIRED:
        labelled = _good_and_bad(answers, scores)
        examples = [
            Example(prompt, [answer], **common, desirable=good) for answer, good in labelled
        ]
        return examples, _behind(ranked, number)
    if pairs in DEMONSTRATIONS:
        answers, scores = answers[:1], None
    if len(answers) < 2:
        _check_distinct(answers, None)
        turns = _earlier_turns(prompt, common, row) if pairs == "turns" else []
        return [*turns, Example(prompt, answers, **common)], _behind(ranked, number)
    if pairs == "keep" or len(answers) == 2:
        _check_distinct(answers, scores)
        margin = _margin(row) if len(answers) == 2 else None
        return [Example(prompt, answers, **common, margin=margin)], []
    examples, faults = [], []
    for places in PLACES[pairs](len(answers)):
        pair = [answers[i] for i in places]
        try:
            _check_distinct(pair, scores and [scores[i] for i in places])
        except BadRow as bad:
            faults.append(bad)
        else:
            examples.append(Example(prompt, pair, **common))
    if not examples:
        raise faults[0]
    detail = f"{len(faults)} of {len(faults) + len(examples)} pairs"
    return examples, [Dropped(number, Reason.PART, detail)] if faults else []


def _good_and_bad(answers: list[str], scores: list[float] | None) -> list[tuple[str, bool]]:
    """A labelled answer with its label; of several the best one, which is good, and the worst."""
    if len(answers) == 1:
        _check_distinct(answers, None)
        if scores is None:
            raise BadRow(Reason.UNLABELLED)
        return [(answers[0], scores[0] > 0)]
    ends = [answers[0], answers[-1]]
    _check_distinct(ends, scores and [scores[0], scores[-1]])
    return [(ends[0], True), (ends[1], False)]


def _behind(ranked: Ranked, number: int) -> list[Dropped]:
    return [Dropped(number, Reason.BEHIND, ranked.behind)] if ranked.behind else []


def _earlier_turns(prompt: list[Message], common: dict, row: DataRow) -> list[Example]:
    """Every answer that stands in the prompt as an example of its own, with what came before; not
    one of weight 0."""
    turns = row.get("messages") if row.get("messages") is not None else row.get("conversations")
    ahead = int(not is_messages(turns) or role_of(decoded(turns)[0]) != prompt[0]["role"])
    silent = {place + ahead for place in weightless(turns)}  # behind the row's own system
    return [
        Example(prompt[:place], [spoken(turn)], **common)
        for place, turn in enumerate(prompt)
        if turn["role"] == "assistant" and told_apart(spoken(turn)) and place not in silent
        if _can_be_asked(prompt[:place])
    ]


def _can_be_asked(prompt: list[Message]) -> bool:
    try:
        return bool(clean_prompt(prompt))
    except BadRow:
        return False


def pair_labelled(
    rows: Iterable[tuple[int, DataRow, Ranked]], pairs: str
) -> tuple[list[Example], list[Dropped]]:
    """Pair good with bad answers to equal prompts (KTO's labels: score 1 or 0, one answer a row).

    The first good with the first bad one and so on, each used once; with ``pairs=all`` each good
    with each bad one.
    """
    if pairs in DEMONSTRATIONS:
        return _good_ones(rows, pairs)
    groups: dict[str, tuple[list, list]] = defaultdict(lambda: ([], []))
    examples: list[Example] = []
    dropped: list[Dropped] = []
    for number, row, ranked in rows:
        try:
            clean_prompt(ranked.prompt)
            _check_distinct(ranked.responses, None)
        except BadRow as bad:
            dropped.append(Dropped(number, bad.reason, bad.detail))
        else:
            groups[prompt_text(ranked.prompt)][ranked.scores[0] <= 0].append((number, row, ranked))
    for good, bad in groups.values():
        count = min(len(good), len(bad))
        every = pairs == "all" and count > 0
        for first, second in product(good, bad) if every else zip(good, bad, strict=False):
            number, row, better = first
            pair = better._replace(responses=better.responses + second[2].responses, scores=None)
            row = row | {"margin": None}  # of one answer alone it says nothing
            try:
                found, _ = examples_of(pair, row, number)
                partner = None if every else second[0]  # it may have others
                examples += [replace(example, partner=partner) for example in found]
            except BadRow as fault:
                dropped += [Dropped(n, fault.reason) for n in (number, second[0])]
        for label, others in (("good", good[count:]), ("bad", bad[count:])):
            other = {"good": "bad", "bad": "good"}[label]
            detail = f"{label}, and no {other} answer to the same prompt is left"
            left = [] if every else others
            dropped += [Dropped(number, Reason.UNPAIRED, detail) for number, _, _ in left]
        dropped += [d for number, _, ranked in (*good, *bad) for d in _behind(ranked, number)]
    return examples, dropped


def _good_ones(
    rows: Iterable[tuple[int, DataRow, Ranked]], pairs: str
) -> tuple[list[Example], list[Dropped]]:
    """Labelled answers as demonstrations: the good ones alone."""
    examples: list[Example] = []
    dropped: list[Dropped] = []
    for number, row, ranked in rows:
        if ranked.scores[0] <= 0:
            dropped.append(Dropped(number, Reason.BAD))
            continue
        try:
            found, kept = examples_of(ranked._replace(scores=None), row, number, pairs)
            examples += found
            dropped += kept
        except BadRow as bad:
            dropped.append(Dropped(number, bad.reason, bad.detail))
    return examples, dropped


def prompt_text(prompt: Sequence[Message]) -> str:
    """Equal for equal prompts, whatever white space stands around their turns."""
    turns = [
        (t["role"], t["content"].strip(), *(t.get("tool_calls") or [])) for t in without_ids(prompt)
    ]
    return repr(turns)


def clean_prompt(prompt: Sequence[Message]) -> list[Message]:
    """The prompt, where it is one that an answer can follow."""
    if not prompt or prompt[-1]["role"] == "system":
        raise BadRow(Reason.EMPTY_PROMPT)
    if prompt[-1]["role"] == "assistant":
        raise BadRow(Reason.MALFORMED, "the prompt ends with an answer")
    if prompt[-1]["role"] != "tool" and not prompt[-1]["content"].strip():
        raise BadRow(Reason.EMPTY_PROMPT)  # a tool may well have nothing to say
    return matched(prompt)


def _best_first(ranked: Ranked) -> tuple[list[str], list[float] | None]:
    if ranked.scores is None:
        return list(ranked.responses), None
    order = sorted(range(len(ranked.scores)), key=lambda i: -ranked.scores[i])
    return [ranked.responses[i] for i in order], [ranked.scores[i] for i in order]


def _check_distinct(answers: Sequence[str], scores: Sequence[float] | None) -> None:
    bare = [*map(told_apart, answers)]
    if not answers or not all(bare):
        raise BadRow(Reason.EMPTY_RESPONSE)
    if len(set(bare)) < len(bare):
        raise BadRow(Reason.IDENTICAL)
    if scores is not None and len(set(scores)) < len(scores):
        raise BadRow(Reason.TIE)


def _margin(row: DataRow) -> float | None:
    """By how much the better response is better, where the row says so."""
    value = row.get("margin")
    if value is None or value == "":
        return None
    return float(value) if is_number(value) else math.nan


def _phrases(row: DataRow, key: str) -> list[str]:
    """The phrases that tell a good answer from a bad one, where the data names some."""
    value = row.get(key)
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []
