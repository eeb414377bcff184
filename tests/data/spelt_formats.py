"""The same preference spelt in every format of dpo_lite/data/formats.py.

Each entry takes what is said (Said) and gives the row, or rows, of a file. Not every format has
room for all of it; SPELT says for what.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from tests.data.row_kinds import assistant, system, user


@dataclass(frozen=True)
class Said:
    """``turns``: (question, answer, …, question); ``answers``: best first."""

    turns: tuple[str, ...]
    answers: tuple[str, ...]
    system: str | None = None

    @property
    def messages(self):
        first = [] if self.system is None else [system(self.system)]
        pairs = enumerate(self.turns)
        return first + [assistant(t) if place % 2 else user(t) for place, t in pairs]

    def held(self, turns: bool, system: bool, answers: int) -> Said:
        """What of it a format has room for."""
        return replace(
            self,
            turns=self.turns if turns else self.turns[-1:],
            system=self.system if system else None,
            answers=self.answers[:answers],
        )


def dialogue(said, answer):
    """Anthropic's spelling."""
    names = ("\n\nHuman: ", "\n\nAssistant: ")
    turns = [names[place % 2] + text for place, text in enumerate(said.turns)]
    return "".join(turns) + names[1] + answer


def sharegpt(messages):
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return [{"from": names[m["role"]], "value": m["content"]} for m in messages]


def columns(asked, good, bad, **more):
    return lambda s: {asked: s.turns[-1], good: s.answers[0], bad: s.answers[1], **more}


def beside(said, row):
    return row if said.system is None else {"system": said.system, **row}


def labelled(key, spelt):
    """Two rows for one preference: an answer marked good, and one marked bad."""
    return lambda s: [{**spelt(s, a), key: a == s.answers[0]} for a in s.answers[:2]]


def rated(answer, grade):
    return {"response": answer, "annotations": {"honesty": {"Rating": str(grade)}}}


TURNS, SYSTEM, MANY, ONE = "turns", "system", "many", "one"
# name -> what it has room for, how it is spelt
SPELT = {
    "triples": ({SYSTEM}, lambda s: beside(s, columns("prompt", "chosen", "rejected")(s))),
    "conversational": (
        {TURNS, SYSTEM},
        lambda s: {
            "prompt": s.messages,
            "chosen": [assistant(s.answers[0])],
            "rejected": [assistant(s.answers[1])],
        },
    ),
    "conversations": (
        {TURNS, SYSTEM},
        lambda s: {
            "chosen": [*s.messages, assistant(s.answers[0])],
            "rejected": [*s.messages, assistant(s.answers[1])],
        },
    ),
    "hh-rlhf": (
        {TURNS},
        lambda s: {"chosen": dialogue(s, s.answers[0]), "rejected": dialogue(s, s.answers[1])},
    ),
    "ranking": (
        {TURNS, SYSTEM, MANY},
        lambda s: {
            "prompt": s.messages,
            "responses": list(s.answers),
            "scores": [-i for i in range(len(s.answers))],
        },
    ),
    "kto": (
        {TURNS, SYSTEM},
        labelled("label", lambda s, a: {"prompt": s.messages, "completion": [assistant(a)]}),
    ),
    "kto-messages": (
        {TURNS, SYSTEM},
        labelled("label", lambda s, a: {"messages": [*s.messages, assistant(a)]}),
    ),
    "kto-alpaca": (
        set(),
        labelled("kto_tag", lambda s, a: {"instruction": s.turns[-1], "output": a}),
    ),
    "sft-completion": ({SYSTEM, ONE}, lambda s: {"prompt": s.messages, "completion": s.answers[0]}),
    "sft-messages": (
        {TURNS, SYSTEM, ONE},
        lambda s: {"messages": [*s.messages, assistant(s.answers[0])]},
    ),
    "sft-alpaca": ({ONE}, lambda s: {"instruction": s.turns[-1], "output": s.answers[0]}),
    "orca": ({SYSTEM}, lambda s: beside(s, columns("question", "chosen", "rejected")(s))),
    "distilabel-orca": (set(), columns("input", "chosen", "rejected", status="unchanged")),
    "argilla-instruction": (set(), columns("instruction", "chosen_response", "rejected_response")),
    "alpaca-ranking": (
        {TURNS, SYSTEM},
        lambda s: beside(
            s,
            {
                "instruction": s.turns[-1],
                "history": [list(s.turns[i : i + 2]) for i in range(0, len(s.turns) - 1, 2)],
                "chosen": s.answers[0],
                "rejected": s.answers[1],
            },
        ),
    ),
    "sharegpt-ranking": (
        {TURNS, SYSTEM},
        lambda s: {
            "conversations": sharegpt(s.messages),
            "chosen": sharegpt([assistant(s.answers[0])])[0],
            "rejected": sharegpt([assistant(s.answers[1])])[0],
        },
    ),
    "messages-ranking": (
        {TURNS, SYSTEM},
        lambda s: {
            "messages": s.messages,
            "chosen": assistant(s.answers[0]),
            "rejected": assistant(s.answers[1]),
        },
    ),
    "ms-swift": (
        {TURNS, SYSTEM},
        lambda s: {
            "messages": [*s.messages, assistant(s.answers[0])],
            "rejected_response": s.answers[1],
        },
    ),
    "openai-preference": (
        {TURNS, SYSTEM},
        lambda s: {
            "input": {"messages": s.messages},
            "preferred_output": [assistant(s.answers[0])],
            "non_preferred_output": [assistant(s.answers[1])],
        },
    ),
    "stack-exchange-paired": (set(), columns("question", "response_j", "response_k")),
    "shp": (set(), columns("history", "human_ref_B", "human_ref_A", labels=0, score_ratio=4)),
    "tldr-comparisons": (
        set(),
        lambda s: {
            "info": {"article": s.turns[-1]},
            "summaries": [{"text": text} for text in reversed(s.answers[:2])],
            "choice": 1,
        },
    ),
    "helpsteer2-preference": (
        set(),
        columns("prompt", "response_1", "response_2", preference_strength=-2),
    ),
    "helpsteer3-preference": (
        {TURNS, SYSTEM},
        lambda s: {
            "context": s.messages,
            "response1": s.answers[1],
            "response2": s.answers[0],
            "overall_preference": 3,
        },
    ),
    "pku-saferlhf": (set(), columns("prompt", "response_1", "response_0", better_response_id=1)),
    "arena": (
        {TURNS, SYSTEM},
        lambda s: {
            "conversation_a": [*s.messages, assistant(s.answers[1])],
            "conversation_b": [*s.messages, assistant(s.answers[0])],
            "winner": "model_b",
        },
    ),
    "arena-pairwise": (
        set(),
        lambda s: {
            "prompt": json.dumps(s.turns[-1:]),
            "response_a": json.dumps(s.answers[:1]),
            "response_b": json.dumps(s.answers[1:2]),
            "winner_model_a": 1,
            "winner_model_b": 0,
        },
    ),
    "nectar": (
        {MANY},
        lambda s: {
            "prompt": s.turns[-1],
            "answers": [{"answer": a, "rank": i + 1.0} for i, a in enumerate(s.answers)],
        },
    ),
    "ultrafeedback": (
        {MANY},
        lambda s: {
            "instruction": s.turns[-1],
            "completions": [rated(a, 5 - i) for i, a in enumerate(s.answers)],
        },
    ),
    "prompts": ({TURNS, SYSTEM}, lambda s: {"prompt": s.messages}),
}


def room(name: str, said: Said) -> Said:
    """What of it the format has room for."""
    has = SPELT[name][0]
    answers = 0 if name == "prompts" else 1 if ONE in has else 3 if MANY in has else 2
    return said.held(TURNS in has, SYSTEM in has, answers)


def rows_of(name: str, said: Said) -> list[dict]:
    spelt = SPELT[name][1](said)
    return spelt if isinstance(spelt, list) else [spelt]
