"""Which recipes run code that is not ours, however deep it is asked for."""

import pytest

from dpo_lite.errors import UserError
from dpo_lite.recipe import validate_recipe
from dpo_lite.recipe.consent import code_in, refuse_code


def recipe(**sections):
    base = {"model": {"base": "builtin:myths"}, "data": {"train": "builtin:myths"}}
    return validate_recipe(base | sections, "r.yaml")


TRUSTED = {"base": "x", "trust_remote_code": True}
REWARD = {"reward": "judge.py:score"}


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"model": TRUSTED}, "model.trust_remote_code"),
        ({"task": "ppo", "ppo": REWARD}, "ppo.reward"),
        ({"task": "ppo", "ppo": {"reward": ["a-run", "judge.py:score"]}}, "ppo.reward"),
        ({"task": "ppo", "ppo": {"reward": [{"source": "judge.py:score"}]}}, "ppo.reward"),
        (
            {"task": "rlhf", "rlhf": {"ppo": {"ppo": {"reward": [{"source": "judge.py:score"}]}}}},
            "rlhf.ppo.ppo.reward",
        ),
        ({"task": "rlhf", "rlhf": {"ppo": {"ppo": REWARD}}}, "rlhf.ppo.ppo.reward"),
        ({"task": "rlhf", "rlhf": {"sft": {"model": TRUSTED}}}, "rlhf.sft.model.trust_remote_code"),
    ],
)
def test_code_is_found_and_refused_by_its_key(sections, key):
    assert code_in(recipe(**sections)) == key
    with pytest.raises(UserError, match=f"^{key}: .*--allow-code"):
        refuse_code(recipe(**sections))


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"task": "ppo", "ppo": {"reward": "a-reward-run"}},
        {"task": "rlhf", "rlhf": {"reward": {"train": {"epochs": 2}}}},
        {"model": {"base": "x", "trust_remote_code": False}},
    ],
)
def test_a_recipe_without_code_passes(sections):
    assert code_in(recipe(**sections)) is None
    refuse_code(recipe(**sections))


@pytest.mark.parametrize(
    ("sections", "key"),
    [
        ({"judge": {"url": "http://127.0.0.1:1/v1"}}, "judge.url"),
        ({"task": "rlhf", "rlhf": {"ppo": {"judge": {"url": "x"}}}}, "rlhf.ppo.judge.url"),
    ],
)
def test_an_address_that_a_recipe_names_is_not_asked(sections, key):
    assert code_in(recipe(**sections)) is None
    with pytest.raises(UserError, match=f"^{key}: .*asks no judge.*--allow-code"):
        refuse_code(recipe(**sections))
