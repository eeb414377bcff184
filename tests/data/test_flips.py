"""A label that is turned round says the opposite in every format that can, and nothing else."""

import pytest

from dpo_lite.data.flips import TURNS, can_be_turned, turned
from dpo_lite.data.formats import FORMATS
from dpo_lite.data.renaming import renamed
from dpo_lite.errors import UserError
from tests.data.spelt_formats import SPELT, Said, room, rows_of

SAID = Said(
    ("Hello?", "Yes.", "Are bats blind?"), ("No, they see.", "Yes.", "Perhaps."), "Be fair."
)
BY_NAME = {one.name: one for one in FORMATS}


def row_of(form):
    (row,) = rows_of(form, room(form, SAID))
    return row


@pytest.mark.parametrize("form", sorted(TURNS))
def test_the_other_answer_is_preferred_and_twice_is_as_it_was(form):
    row = row_of(form)
    convert = BY_NAME[form].convert
    other = turned(row, 0, form, None)
    assert convert(other).responses == convert(row).responses[::-1]
    assert convert(other).prompt == convert(row).prompt
    assert list(other) == list(row)
    assert turned(other, 0, form, None) == row


def test_what_is_no_pair_is_not_turned():
    others = {name for name in SPELT if name not in TURNS}
    assert {"ranking", "nectar", "ultrafeedback", "kto", "prompts", "sft-messages"} <= others
    assert not any(map(can_be_turned, others))
    with pytest.raises(UserError, match="Row 7 is of the format ranking"):
        turned(row_of("ranking"), 7, "ranking", None)


def test_markers_go_with_their_answers_and_ratings_that_say_the_opposite_go():
    row = {
        **row_of("triples"),
        "score_chosen": 5,
        "score_rejected": 2,
        "chosen_markers": ["see"],
        "rejected_markers": ["Yes"],
    }
    other = turned(row, 0, "triples", None)
    assert (other["score_chosen"], other["score_rejected"]) == (None, None)
    assert (other["chosen_markers"], other["rejected_markers"]) == (["Yes"], ["see"])


def test_the_file_keeps_its_own_column_names():
    columns = {"prompt": "Frage", "chosen": "gut", "rejected": "schlecht"}
    row = {"Frage": "What?", "gut": "so", "schlecht": "no", "chosen": "of another kind", "id": 3}
    other = turned(row, 0, "triples", columns)
    assert other == row | {"gut": "no", "schlecht": "so"}
    assert BY_NAME["triples"].convert(renamed(other, columns)).responses == ["no", "so"]


@pytest.mark.parametrize(
    ("form", "change", "why"),
    [
        ("triples", {"margin": 2.0}, "has a margin"),
        ("triples", {"chosen": None}, "would not say the opposite"),
        ("ms-swift", {"messages": "no list"}, "would not say the opposite"),
        ("arena", {"winner": "tie"}, "would not say the opposite"),
    ],
)
def test_a_row_that_cannot_say_the_opposite_is_refused(form, change, why):
    with pytest.raises(UserError, match=why):
        turned(row_of(form) | change, 0, form, None)
