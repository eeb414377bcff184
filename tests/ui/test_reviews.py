"""A review of doubted labels: on disk, at a key, as HTML."""

import json
from types import SimpleNamespace

import pytest

from dpo_lite.errors import UserError
from dpo_lite.ui import data_review, review_views, reviews
from dpo_lite.ui.start import sources

ROWS = [{"prompt": f"Q{n}?", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(9)]
LISTED = (7, 2, 4)  # the most doubted first


def found(source, content):
    doubtful = [
        {
            "row": row,
            "other_way": 0.93,
            "turns": [["user", f"<b>Q{row}?</b>"]],
            "chosen": ROWS[row]["chosen"],
            "rejected": ROWS[row]["rejected"],
            "why": "It is 93% likely.",
            "no_flip": "Row 4 has a margin." if row == 4 else "",
        }
        for row in LISTED
    ]
    length = {"name": "length", "points": "the longer", "pairs": 9, "share": 0.78}
    return {
        "content": content,
        "section": {"train": str(source)},
        "form": "triples",
        "pairs": 9,
        "shortcuts": [
            length | {"interval": [0.7, 0.85]},
            {"name": "markdown", "points": "more of it", "pairs": 0},
        ],
        "words": ["50 % is chance.", "78% of the labels follow from the length alone."],
        "rows": 5,
        "doubtful": doubtful,
    }


@pytest.fixture
def opened(tmp_path):
    """The folder of recipes and the name of a review in it."""
    from dpo_lite.data.files import content_hash

    source = tmp_path / "my pairs.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    content = content_hash([source])
    recipes = tmp_path / "my-recipes"
    name = reviews.begin(recipes, str(source), ["data.encoding=utf-8"], found(source, content))
    assert reviews.load(recipes, name).decisions.content == content
    return recipes, name


def part_of():
    fields = data_review.ReviewPart.__dataclass_fields__
    return data_review.ReviewPart(**{name: name for name in fields})


def act(opened, what, place):
    page = SimpleNamespace(recipes=opened[0])
    return data_review.act(page, part_of(), opened[1], what, place)


def test_decisions_lead_to_the_next_open_pair_and_are_taken_back(opened):
    assert act(opened, "keep", 0)["place"] == 1
    assert act(opened, "forth", 1)["place"] == 2
    last = act(opened, "drop", 2)
    assert last["place"] == 1  # the one that was passed over
    assert "2 of 3 looked at: 1 kept, 1 dropped" in last["progress"]
    assert "The 2 least doubted ones are not listed" in last["progress"]
    end = act(opened, "flip", 1)
    assert end["place"] is None
    assert "All doubtful labels are looked at" in end["arena"]
    assert reviews.load(*opened).counts == {"keep": 1, "drop": 1, "flip": 1}
    back = act(opened, "undo", 3)
    assert back["place"] == 1
    assert reviews.load(*opened).counts == {"keep": 1, "drop": 1}
    assert act(opened, "back", 1)["place"] == 0
    act(opened, "keep", 9)  # of no pair
    assert reviews.load(*opened).counts == {"keep": 1, "drop": 1}


def test_what_is_decided_is_there_after_a_reload(opened):
    act(opened, "drop", 0)
    recipes, name = opened
    assert reviews.latest(recipes) == name
    assert reviews.load(recipes, name).next_open() == 1
    # the same data audited again
    review = reviews.load(recipes, name)
    source, keys = review.found["source"], review.found["keys"]
    assert reviews.begin(recipes, source, keys, found(source, review.found["content"])) == name
    assert reviews.load(recipes, name).counts == {"drop": 1}
    with pytest.raises(UserError, match="no such review"):
        reviews.load(recipes, "../x")


def test_a_label_that_cannot_be_turned_is_not_offered_to_be(opened):
    said = act(opened, "flip", 2)
    assert "has a margin" in said["message"]
    assert reviews.load(*opened).counts == {}
    html = review_views.arena(reviews.load(*opened), 2)
    assert 'data-act="flip" data-key="f" disabled' in html
    assert 'data-act="flip" data-key="f">' in review_views.arena(reviews.load(*opened), 0)


def test_a_new_file_beside_the_uploads_which_the_menu_of_data_has(opened):
    recipes, name = opened
    act(opened, "drop", 0)
    act(opened, "flip", 1)
    review = reviews.load(recipes, name)
    out, facts = reviews.save(recipes, review)
    assert (out.name, facts["kept"]) == ("my-pairs-reviewed-1.jsonl", 8)
    kept = [json.loads(line) for line in out.read_text().splitlines()]
    assert kept[2] == ROWS[2] | {"chosen": "bad 2", "rejected": "good 2"}
    assert ROWS[7] not in kept
    assert facts["doubtful_not_looked_at"] == 1
    assert reviews.free_file(recipes, review).name == "my-pairs-reviewed-2.jsonl"
    assert sources(recipes)[0] == str(out)
    assert not any(path.endswith(".jsonl.json") for path in sources(recipes))
    assert reviews.keys_of_new(review) == []  # it is written in UTF-8
    line = reviews.save_words(review, out)
    assert line[3:] == [
        "data.encoding=utf-8",
        "--decisions",
        str(review.decisions_file),
        "--out",
        str(out),
    ]


def test_shortcuts_as_bars_and_texts_as_text(opened):
    review = reviews.load(*opened)
    html = review_views.audit_report(review.found)
    assert "78% (70% to 85%)" in html
    assert html.count("dl-interval") == 1
    assert "tells no pair apart" in html
    arena = review_views.arena(review, 0)
    assert "&lt;b&gt;Q7?" in arena
    assert "<b>Q7" not in arena
    assert "1 of 3, row 7" in arena


@pytest.mark.parametrize(
    "change",
    [
        {"doubtful": [{"row": "x"}]},
        {"doubtful": 3},
        {"content": None},
        {"section": {"train": 3}},
        {"shortcuts": [{"name": "a", "points": "b", "pairs": 1, "share": 0.5}]},
        {"words": []},
    ],
)
def test_a_damaged_review_is_one_sentence(opened, change):
    recipes, name = opened
    path = recipes / reviews.FOLDER / f"{name}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match="audit the labels again"):
        reviews.load(recipes, name)
    path.write_text("[" * 5000)
    with pytest.raises(UserError, match="audit the labels again"):
        reviews.load(recipes, name)
