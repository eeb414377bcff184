"""Whether token ids hold all that a row says: read from the decoded ids, word by word.

Nothing of the product's own checks is used: a row is what its author wrote (turns and answers), the
text is what the tokenizer makes of the ids that are trained.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter

from dpo_lite.data.encoding import Options, _examples
from dpo_lite.data.examples import Dropped
from dpo_lite.data.recognition import recognise

THINK = re.compile(r"(</?think>)")
ELSEWHERE = ("system", "developer")  # their turns may stand anywhere


def encoded(rows, encoder, **options):
    """Row number → what became of it, by detection, conversion, rendering and tokenising."""
    dropped: list[Dropped] = []
    matched = recognise(rows)
    examples = list(_examples(matched, enumerate(rows), Options(**options), dropped))
    texts = [encoder.render(example) for example in examples]
    texts, dropped = (
        [t for t in texts if not isinstance(t, Dropped)],
        [
            *dropped,
            *(t for t in texts if isinstance(t, Dropped)),
        ],
    )
    return {item.row: item for item in [*dropped, *encoder.tokenise(texts)]}


def said(tokenizer, ids) -> str:
    text = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return unicodedata.normalize("NFC", text)


def first_missing(text: str, turns, answer: str, calls=()) -> str | None:
    """The first word of the turns, or of the answer behind them, that is not in its place.

    What a template may do: put a system turn elsewhere, leave out the reasoning of earlier turns,
    spell a text as JSON. ``turns``: messages as they stand in the row.
    """
    place = 0
    for turn in turns:
        start = 0 if turn["role"] in ELSEWHERE else place
        lost, end = _walk(text, start, _words(turn["content"]))
        if spoken(turn) != turn["content"]:
            bare, sooner = _walk(text, start, _words(spoken(turn)))
            if not bare and (lost or sooner < end):
                lost, end = "", sooner
        for word in [] if lost else _words(" ".join(_called(turn))):
            lost = lost or _walk(text, start, [word])[0]
        if lost:
            return f"{lost!r} of the {turn['role']}"
        if turn["role"] not in ELSEWHERE:
            place = end
    lost, _ = _walk(text, place, _words(answer))
    for word in [] if lost else _words(" ".join(_called({"tool_calls": calls}))):
        lost = lost or _walk(text, place, [word])[0]
    return f"{lost!r} of the answer" if lost else None


def spoken(turn) -> str:
    """What of an earlier turn must stand there: not its reasoning, where it also says something."""
    words = turn["content"].rpartition("</think>")[2]
    says = words.strip() or turn.get("tool_calls")
    return words if turn["role"] == "assistant" and says else turn["content"]


def rewritten(text: str, contents) -> str | None:
    """The first text that does not stand there character for character, but for white space at its
    ends and for JSON's spelling. Of reasoning only the words are looked for: see above."""
    for content in contents:
        bare = unicodedata.normalize("NFC", content).strip()
        spelt = (bare, *(json.dumps(bare, ensure_ascii=ascii)[1:-1] for ascii in (True, False)))
        if not THINK.search(bare) and not any(spelling in text for spelling in spelt):
            return bare
    return None


def undescribed(text: str, tools) -> str | None:
    """The first word of the tools' descriptions that stands nowhere."""
    facts = [leaf for tool in tools for leaf in _leaves(tool)]
    words = [word for leaf in facts for word in leaf.split() if word not in SCHEMA_WORDS]
    return next((word for word in words if word not in text), None)


SCHEMA_WORDS = set("type function name description parameters object properties string".split())
SCHEMA_WORDS |= {"required"}


def marks_in(ids, marks) -> Counter:
    return Counter(i for i in ids if i in marks)


def harmless(row):
    """The same row in words of one letter: what stands between its turns then is the template's."""
    letters = iter("abcdefghijklmnopqrstuvwxyz" * 9)

    def plain(content: str) -> str:
        parts = THINK.split(content)
        return "".join(p if THINK.match(p) or not p.strip() else next(letters) for p in parts)

    def of(turn):
        return {**turn, "content": plain(turn["content"])}

    return {**row, **{key: [of(t) for t in row[key]] for key in ("prompt", "chosen", "rejected")}}


def _walk(text: str, place: int, words: list[str]) -> tuple[str, int]:
    """The first of the words that does not follow, or nothing and where the last one ends."""
    for word in words:
        spellings = (word, *(json.dumps(word, ensure_ascii=ascii)[1:-1] for ascii in (True, False)))
        found = [(text.find(spelt, place), len(spelt)) for spelt in spellings]
        ends = [at + length for at, length in found if at >= 0]
        if not ends:
            return word, place
        place = ends[0]
    return "", place


def _words(content: str) -> list[str]:
    return unicodedata.normalize("NFC", THINK.sub(" ", content)).split()


def _called(turn) -> list[str]:
    """The words of tool calls: names, and what is given to them."""
    words = []
    for call in turn.get("tool_calls") or []:
        function = call.get("function", call)
        given = function["arguments"]
        given = json.loads(given) if isinstance(given, str) else given
        words += [function["name"], *_leaves(given)]
    return words


def _leaves(value) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(leaf for inner in value.values() for leaf in _leaves(inner))]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in _leaves(inner)]
    return [value if isinstance(value, str) else json.dumps(value)]
