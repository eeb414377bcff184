"""Random rows of every format through every step: their words are in the ids, or they are listed.

The rows are made of words of their own, of what breaks readers (line separators, signs above
letters, halves of marks, white space) and of the marks that templates write. Oracle: whole_rows.py.
"""

import json
import random
import re
from functools import cache

import pytest

from dpo_lite.data.encoding import Options, encode_source
from dpo_lite.data.examples import KEPT
from dpo_lite.data.formats import FORMATS
from dpo_lite.data.recognition import recognise
from dpo_lite.data.sources import read_source
from dpo_lite.data.tokens import Encoder
from tests.data import whole_rows as whole
from tests.data.spelt_formats import SPELT, Said, room, rows_of
from tests.data.test_template_matrix import ONE_OF_EACH, small_tokenizer

ODD = [
    "é", "e\u0301", "中文", "🙂", "👩\u200d👧", "नमस्ते", "\u200f", "\ufeff", "\x00", "\x1b[0m",
    "\ud83d", "ﬁ", "Ⅷ",
    "{{ x }}", "{% if %}", "&amp;", "<b>", "\\n", '"', "'", "`", "``", "%s", "$1", "None",
    "<think>", "</think>", "<tool_call>", "[INST]", "<<SYS>>", "###", "Human:", "<extra_id_1>",
    "<|im_end|>", "<|im_start|>user", "<|eot_id|>", "<eos>", "</s>", "<|channel|>final", "null",
]  # fmt: skip
BETWEEN = [" ", " ", " ", "\n", "\n\n", "\t", "  ", "    ", "\r\n"]
BETWEEN += ["\u2028", "\x85", "\xa0", "\u3000"]
AROUND = ["", "", "", " ", "\n", "\n\n", "\t", "    ", "\u2028"]
BROKEN = [None, "", " \n ", [], {}, {"role": "user"}]
LABELS = {"Human:", "<extra_id_1>"}  # which a format may take for its own
OWN = re.compile(r"w\d+q")
WAYS = sorted(ONE_OF_EACH - {"deepseek_r1_distill"})  # which wants reasoning in every answer
ALL = [pytest.param(share, marks=m) for share, m in ((1_000, ()), (20_000, pytest.mark.long))]


class Maker:
    """Random texts, the same ones for the same seed; no word is made twice."""

    def __init__(self, seed):
        self.random, self.count = random.Random(seed), 0

    def text(self):
        pieces = []
        for _ in range(self.random.randint(1, 8)):
            self.count += 1
            pieces.append(f"w{self.count}q")
            if self.random.random() < 0.06:
                pieces.append(self.random.choice(ODD))
        joined = pieces[0] + "".join(self.random.choice(BETWEEN) + p for p in pieces[1:])
        return self.random.choice(AROUND) + joined + self.random.choice(AROUND)

    def answer(self):
        thought = f"<think>\n{self.text()}\n</think>\n\n" if self.random.random() < 0.1 else ""
        return thought + self.text()

    def said(self):
        turns = [self.text() for _ in range(self.random.choice([1, 1, 3, 5]))]
        told = self.text() if self.random.random() < 0.3 else None
        answers = [self.answer() for _ in range(3)]
        if self.random.random() < 0.02:
            answers[1] = answers[0]
        if self.random.random() < 0.02:
            turns[self.random.randrange(len(turns))] = self.random.choice(["", " \n"])
        return Said(tuple(turns), tuple(answers), told)

    def broken(self, row):
        """The row, now and then with a cell that no format has."""
        if self.random.random() < 0.03:
            needed = [
                key for key in row if key not in ("system", "history")
            ]  # else nothing is lost
            row = {**row, self.random.choice(needed): self.random.choice(BROKEN)}
        return row


@cache
def small_encoder(template):
    return Encoder(small_tokenizer(template))


@pytest.mark.parametrize("share", ALL)
@pytest.mark.parametrize("name", SPELT)
def test_every_word_of_a_row_is_trained_or_the_row_is_listed(name, share, tmp_path):
    maker = Maker(f"{name} {share}")
    count = share // (len(SPELT) * len(WAYS)) + 1
    kept = [try_file(name, count, maker, small_encoder(way), tmp_path / way) for way in WAYS]
    assert sum(kept) > 0.5 * count * len(WAYS)


def try_file(name, count, maker, encoder, folder):
    """Encode a file of so many rows; how many are kept, of which the oracle has looked at each."""
    said = [room(name, maker.said()) for _ in range(count)]
    rows = [[maker.broken(row) for row in rows_of(name, one)] for one in said]
    per = len(rows[0])
    folder.mkdir()
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for some in rows for row in some))
    options = Options(format=name, pairs="prompts" if name == "prompts" else "keep")
    encoded = encode_source(read_source(str(path)), options, encoder)
    assert encoded.rows == per * count
    lost = {drop.row for drop in encoded.dropped if drop.reason not in KEPT}
    kept = {row["row"]: row for row in encoded.table}
    for place, one in enumerate(said):
        numbers = range(place * per, place * per + per)
        if numbers[0] in kept:
            assert not lost & set(numbers)
            hold_all(one, kept[numbers[0]], encoder.tokenizer)
        else:
            assert lost >= set(numbers)
    return len(kept)


def hold_all(said, row, tokenizer):
    for place, answer in enumerate(said.answers or [""]):
        answered = row["response_ids"][place] if said.answers else []
        text = whole.said(tokenizer, [*row["prompt_ids"], *answered])
        turns = [{**turn, "content": unlabelled(turn["content"])} for turn in said.messages]
        missing = whole.first_missing(text, turns, unlabelled(answer))
        assert missing is None, f"row {row['row']}: {missing} in {text!r}"
        own = OWN.findall(" ".join([*map(whole.spoken, turns), answer]))
        twice = [word for word in own if text.count(word) != 1]
        assert not twice, f"row {row['row']}: {twice} in {text!r}"


def unlabelled(text):
    return " ".join(word for word in text.split() if word not in LABELS)


def test_every_format_is_tried_and_recognised():
    """The fuzz names the format: a broken first row may look like another one's."""
    assert list(SPELT) == [one.name for one in FORMATS]
    maker = Maker(0)
    for name in SPELT:
        rows = [row for _ in range(20) for row in rows_of(name, room(name, maker.said()))]
        assert recognise(rows, prompts=name == "prompts").name == name
