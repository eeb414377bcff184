"""Which keys differ between a run as it was begun and as it would go on, in words."""

from dpo_lite.jobs.same import (
    BASE,
    DATA,
    REWARD,
    REWARD_AS,
    START,
    START_AS,
    deciding_keys,
    differences,
    in_words,
)
from dpo_lite.recipe import load_recipe

BEGUN = {
    "keys": {"train.lr": 0.001, "train.seed": 42},
    "beside": {"data.train": "a.jsonl", "data.limit": None, "model.base": "b"},
    DATA: "aaaa",
    BASE: {"files": "b" * 64},
    START: None,
    REWARD: None,
    START_AS: None,
    REWARD_AS: ["e" * 64, "f" * 64],
}


def said(now, before=BEGUN):
    return in_words(differences(before, BEGUN | now))


def test_the_same_is_no_difference():
    assert differences(BEGUN, BEGUN) == []
    newer = {"keys": BEGUN["keys"] | {"train.new": 1}, "beside": BEGUN["beside"] | {"data.new": 1}}
    assert differences(BEGUN, BEGUN | newer) == []  # a key of a later version
    assert differences({DATA: "aaaa"}, BEGUN) == []  # what an older version kept


def test_a_key_is_named_with_both_values():
    assert said({"keys": {"train.lr": 0.002, "train.seed": 42}}) == (
        "train.lr was 0.001 and is 0.002"
    )
    many = {f"train.k{n}": n for n in range(7)}
    other = {key: -1 for key in many}
    words = in_words(differences(BEGUN | {"keys": many}, BEGUN | {"keys": other}))
    assert words.count(" was ") == 4
    assert words.endswith(" and 3 more")


def test_where_data_lie_does_not_matter_and_what_they_hold_does():
    moved = BEGUN["beside"] | {"data.train": "elsewhere/a.jsonl"}
    assert said({"beside": moved}) == ""
    assert said({DATA: "cccc"}) == "the data (a.jsonl) was aaaa and is cccc"
    assert said({DATA: "cccc", "beside": moved}) == (
        "data.train was a.jsonl and is elsewhere/a.jsonl"
    )
    fewer = BEGUN["beside"] | {"data.limit": 9}
    assert said({DATA: "cccc", "beside": fewer}) == "data.limit was null and is 9"


def test_hashes_are_shown_by_their_first_letters():
    assert said({BASE: {"files": "c" * 64}}) == (
        f"the base's weights (b) was {'b' * 12} and is {'c' * 12}"
    )
    assert said({START: "d" * 64}) == f"the start adapter was null and is {'d' * 12}"


def test_what_a_reward_model_s_weights_are_used_with_decides_too():
    """Its scale and layers, and the mean that is taken off, each a hash of a file in the run."""
    words = f"the reward model's settings was {'e' * 12} {'f' * 12} and is {'e' * 12} missing"
    assert said({REWARD_AS: ["e" * 64, None]}) == words
    older = {name: value for name, value in BEGUN.items() if name not in (REWARD_AS, START_AS)}
    assert said({REWARD_AS: None, START_AS: "a" * 64}, older) == ""


def test_when_evaluations_are_decides_where_they_choose_what_is_kept():
    plain = deciding_keys(load_recipe("quickstart", ["train.eval_steps=5"]))
    assert {"train.lr", "train.keep"} <= set(plain)
    assert not {"train.eval_steps", "train.save_steps", "hub.repo"} & set(plain)
    choosing = load_recipe("quickstart", ["train.eval_steps=5", "train.keep=best"])
    assert set(deciding_keys(choosing)) - set(plain) == {"train.eval_steps"}
