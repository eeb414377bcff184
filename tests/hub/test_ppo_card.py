"""The card of a policy that was trained on rewards: what it says, and what of this machine not."""

import pytest
from huggingface_hub import ModelCard

from dpo_lite.files import write_json
from dpo_lite.hub.push import preview
from dpo_lite.hub.staging import stage
from dpo_lite.recipe import parse_yaml
from dpo_lite.tasks.ppo_card import reward_name

REWARD = "/home/somebody/runs/judge-1/adapter"
DRAWN = {
    "reference": {"reward": -0.5, "kl": 0.0, "kl_error": 0.0, "ended": 1.0, "truthful": 0.25},
    "policy": {"reward": 1.5, "kl": 3.25, "kl_error": 0.2, "ended": 1.0, "truthful": 0.75},
}
for role in DRAWN.values():
    role |= {"prompts": 20, "answers": 20}


@pytest.fixture
def make(make_run):
    """A finished run of PPO; keywords are keys of its section."""

    def make(name="demo-1", **ppo):
        run = make_run(
            name=name,
            task="ppo",
            ppo={"reward": REWARD} | ppo,
            train={"batch_size": 64, "max_steps": 24},
        )
        generation = {"reference": 0.3, "policy": 0.8}
        write_json(
            run.path / "results.json",
            {"sets": {"test": {"drawn": DRAWN, "generation": generation}}},
        )
        (run.path / "metrics.jsonl").unlink()
        for step in (1, 2):
            run.append("metrics.jsonl", {"step": step, "loss": 0.1, "reward": step, "kl": 0.5})
        return run

    return make


def card(run, **options):
    return ModelCard(preview(run, repo="me/demo", **options).card)


def test_the_metadata(make):
    data = card(make()).data
    assert data.pipeline_tag == "text-generation"
    assert {"ppo", "lora"} <= set(data.tags)
    assert "dpo" not in data.tags
    found = {result.metric_type: result.metric_value for result in data.eval_results}
    assert found == {"chosen_claim": 0.75, "reward": 1.5, "kl": 3.25}
    (truth, *_) = data.eval_results
    assert truth.metric_args == {"n": 20, "interval_95": [0.5313, 0.8881]}
    assert {"rloo", "lora"} <= set(card(make("demo-2", estimator="rloo")).data.tags)


FACTS = (
    "max E[r(x, y)] − β · KL(π ‖ π_ref)",
    "arXiv:1707.06347",
    "arXiv:2203.02155",
    "on rewards by Proximal Policy Optimization",
    "the reward model `judge-1` (of the author)",
    "| β | 0.1, fixed |",
    "64 prompts per rollout",
    "2 passes over a rollout, 32 answers per step",
    "| rollouts | 24 rollouts |",
    "base, adapters off",
    "| test | chosen claim, drawn, of 20 | 25% (11–47%) | 75% (53–89%) |",
    "| test | reward, drawn | -0.50 | +1.50 |",
    "| test | KL, nats per answer | 0 | 3.25 ± 0.20 |",
    "a policy finds what a reward model overrates",
    "AutoPeftModelForCausalLM",
)


@pytest.mark.parametrize("fact", FACTS)
def test_the_card_says(make, fact):
    assert fact in card(make()).text


def test_what_is_said_otherwise_of_rloo_and_of_a_steered_beta(make):
    text = card(make(estimator="rloo", kl_target=4.0)).text
    assert "arXiv:2402.14740" in text
    assert "4 per prompt at temperature 1" in text
    assert "from 0.1 on, steered to a KL of 4 nats per answer" in text
    assert "Proximal" not in text


def test_what_tells_the_variants_of_grpo_apart(make):
    text = card(make(estimator="grpo", ratio="sequence", clip_high=0.28)).text
    for words in ("arXiv:2402.03300", "8 per prompt", "GSPO", "0.2 down, 0.28 up", "in the loss"):
        assert words in text


def test_nothing_of_dpo_and_no_path_of_this_machine(make):
    staged = preview(make(), repo="me/demo")
    for word in ("implicit", "r_chosen", "/home", "somebody", "examples per update"):
        assert word not in staged.card
    assert "ppo.reward: a path on this machine, published as judge-1/adapter" in staged.notes


def test_the_recipe_goes_up_without_this_machines_paths(make, tmp_path):
    folder = tmp_path / "staged"
    folder.mkdir()
    stage(make(), folder, repo="me/demo")
    text = (folder / "recipe.yaml").read_text()
    assert parse_yaml(text, "it")["ppo"]["reward"] == "judge-1/adapter"
    assert "/home" not in text


def test_a_checkpoint_is_so_many_rollouts(make):
    run = make()
    folder = run.checkpoints / "checkpoint-2"
    folder.mkdir(parents=True)
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (folder / name).write_bytes((run.adapter / name).read_bytes())
    (folder / "value.safetensors").write_bytes(b"the value function stays at home")
    (folder / "trainer_state.json").write_text("{}")
    staged = preview(run, repo="me/demo", checkpoint="2")
    assert "after 2 rollouts" in staged.card
    assert "value.safetensors" not in {name for name, _ in staged.files}


@pytest.mark.parametrize(
    ("reward", "told"),
    [
        ("someone/judge", "the reward model [someone/judge]("),
        ("rewards/polite.py:score", "the Python function `polite.py:score`"),
        ("runs/judge-1/adapter", "the reward model `judge-1` (of the author)"),
        ("judge-1", "the reward model `judge-1` (of the author)"),
    ],
)
def test_how_a_reward_is_named(reward, told):
    assert reward_name(reward).startswith(told)
