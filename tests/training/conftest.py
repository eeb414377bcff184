"""The base and the reward model that tests of PPO share."""

import pytest

from dpo_lite.model import roles
from dpo_lite.model.base import load_base
from dpo_lite.recipe import AdapterSection, ModelSection
from tests.model.small_models import small_model
from tests.training.rollouts import stir


@pytest.fixture(scope="module")
def ppo_base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    small_model("llama", hidden_size=128, intermediate_size=128).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def reward_folder(ppo_base, tmp_path_factory):
    """A reward model with numbers that matter."""
    folder = tmp_path_factory.mktemp("reward")
    base = load_base(ModelSection(base=ppo_base, quantization="none"))
    model = roles.add_policy(base, AdapterSection(r=4, alpha=8), seed=3, head=True)
    stir(roles.trainable_parameters(model))
    roles.save_policy(model, folder, ppo_base, None)
    return folder
