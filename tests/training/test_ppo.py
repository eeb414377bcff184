"""PPO's rollouts: judged in packed rows as alone, learned from in any split."""

import pytest
import torch
from safetensors.torch import load_file

from dpo_lite.data.packing import pad
from dpo_lite.errors import UserError
from dpo_lite.model import roles
from dpo_lite.model.base import load_base
from dpo_lite.model.choosing import true_token_logps
from dpo_lite.model.scoring import causal_lm
from dpo_lite.recipe import ModelSection, PPOSection, validate_recipe
from dpo_lite.training.ppo import (
    pieces,
    prompts_of_rollout,
    rollout_metrics,
)
from dpo_lite.training.ppo_learning import Credit, credit, learn, minibatch_gradient
from dpo_lite.training.reward_source import rewarder
from tests.training.rollouts import (
    END,
    OBJECTIVE,
    PPO,
    four_roles,
    gradients,
    head_rewards,
    relative,
    rolled,
    stir,
)


def test_four_roles_on_one_base(ppo_base, reward_folder):
    """What is trained is fp32 and is the policy's or the value function's; nothing else moves."""
    model = four_roles(ppo_base, reward_folder, "nf4")
    assert set(model.peft_config) == {roles.POLICY, roles.REWARD, roles.VALUE}
    for name in (roles.POLICY, roles.VALUE, roles.REWARD):
        assert {p.dtype for p in roles.parameters(model, name)} == {torch.float32}
    saved = load_file(reward_folder / "adapter_model.safetensors")
    assert len(roles.parameters(model, roles.VALUE)) == len(saved)  # its head included
    assert len(roles.parameters(model, roles.POLICY)) == len(saved) - 1
    known = {id(p) for name in (roles.POLICY, roles.VALUE) for p in roles.parameters(model, name)}
    before = {n: p.clone() for n, p in model.named_parameters() if id(p) not in known}
    rollout = rolled(model)
    minibatch_gradient(model, rollout, range(5), credit(rollout, PPO, 0.1), PPO, OBJECTIVE, 200)
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == (id(parameter) in known), name
        if name in before:
            assert torch.equal(parameter, before[name])
    assert model.active_adapter == roles.POLICY


def test_judged_in_packed_rows_as_each_alone(ppo_base, reward_folder):
    model = four_roles(ppo_base, reward_folder)
    rollout = rolled(model)
    lm, mask = causal_lm(model), rollout.mask
    with roles.policy(model):
        truth = true_token_logps(model, rollout.examples)
    assert torch.allclose(rollout.policy_logps[mask], truth, atol=1e-4)
    with roles.reference(model):
        truth = true_token_logps(model, rollout.examples)
    assert torch.allclose(rollout.reference_logps[mask], truth, atol=1e-4)
    values = []
    with roles.value(model), torch.no_grad():
        for example in rollout.examples:
            for answer in example["response_ids"]:
                batch = pad([{**example, "response_ids": [answer]}])
                hidden = lm.base_model(batch.input_ids).last_hidden_state.flatten(0, 1)
                values.append(lm.score(hidden[batch.source]).squeeze(-1))
    assert torch.allclose(rollout.values[mask], torch.cat(values), atol=1e-4)
    assert (rollout.policy_logps != rollout.reference_logps)[mask].any()
    assert torch.allclose(rollout.rewards, head_rewards(model)(rollout.examples, 0).total)
    # A value stands before its token, a reward behind the last one: they are other numbers.
    last = mask.sum(-1) - 1
    assert (rollout.values[torch.arange(len(last)), last] - rollout.rewards).abs().min() > 1e-5
    lengths = [len(a) for e in rollout.examples for a in e["response_ids"]]
    assert mask.sum(-1).tolist() == lengths
    ended = [a[-1] == END for e in rollout.examples for a in e["response_ids"]]
    assert rollout.ended.tolist() == ended


@pytest.mark.parametrize("budget", [1, 30, 1000])
def test_rewards_in_packed_rows_as_each_alone(ppo_base, reward_folder, budget):
    """Also where the answers to one prompt do not fit into one row."""
    model = four_roles(ppo_base, reward_folder, value=False)
    examples = rolled(model, ppo=PPOSection(answers=3, max_new_tokens=6)).examples
    recipe = validate_recipe(
        {
            "task": "ppo",
            "model": {"base": ppo_base, "quantization": "none"},
            "data": {"train": "d"},
            "ppo": {"reward": str(reward_folder)},
        },
        "test",
    )
    found = rewarder(model, recipe, OBJECTIVE, None)(examples, budget)
    assert torch.allclose(found.total, head_rewards(model)(examples, 0).total, atol=1e-4)
    assert found.parts is None


@pytest.mark.slow
@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize(
    ("estimator", "own"),
    [
        ("ppo", {}),
        ("rloo", {}),
        ("grpo", {"kl_in": "loss"}),
        ("grpo", {"ratio": "sequence", "average": "answers", "kl_in": "loss"}),
        ("grpo", {"average": "constant", "scale_rewards": "none", "clip_high": 0.3}),
    ],
)
def test_the_split_changes_no_gradient(ppo_base, reward_folder, quantization, estimator, own):
    ppo = PPOSection(answers=2, max_new_tokens=6, estimator=estimator, **own)
    model = four_roles(ppo_base, reward_folder, quantization, estimator == "ppo")
    rollout = rolled(model, ppo=ppo)
    earned = credit(rollout, ppo, 0.1)
    stir(roles.parameters(model, roles.POLICY), 0.02)  # no longer the policy that drew them
    found = []
    for budget in (1, 30, 10_000):
        model.zero_grad(set_to_none=True)
        metrics = minibatch_gradient(model, rollout, [3, 0, 4], earned, ppo, OBJECTIVE, budget)
        found.append((gradients(model), metrics))
    *splits, (whole, whole_metrics) = found
    for split, metrics in splits:
        for name in whole:
            assert relative(split[name], whole[name]) < 1e-5, name
        assert metrics == pytest.approx(whole_metrics, abs=1e-5)


def test_answers_to_one_prompt_that_are_over_the_budget_are_split():
    examples = [{"prompt_ids": [1] * 10, "response_ids": [[2] * n for n in (5, 3, 4, 1)]}]
    whole = [((5, 3, 4, 1), [0, 1, 2, 3])]
    assert [cut(p) for p in pieces(examples, [0], "forest", 23)] == whole
    split = [((5, 3), [0, 1]), ((4, 1), [2, 3])]
    assert [cut(p) for p in pieces(examples, [0], "forest", 20)] == split
    assert [cut(p) for p in pieces(examples, [0], "separate", 30)] == split
    alone = [((n,), [row]) for row, n in enumerate((5, 3, 4, 1))]
    assert [cut(p) for p in pieces(examples, [0], "forest", 1)] == alone


def cut(piece):
    return tuple(map(len, piece.example["response_ids"])), piece.rows


def test_a_gradient_that_is_not_finite_changes_no_weight():
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight])

    def gradient(places):
        weight.grad = torch.tensor([1.0, float("nan")])
        return {"loss": 0.0}

    with pytest.raises(UserError, match="not finite"):
        learn(4, 2, 1, gradient, optimizer, 1.0)
    assert weight.tolist() == [1.0, 1.0]


@pytest.mark.slow
def test_drawing_leaves_nf4_gradients_right(ppo_base, reward_folder):
    """bitsandbytes repacks 4-bit weights in eval mode on some CPUs; ours must not."""
    model = four_roles(ppo_base, reward_folder, "nf4")
    rollout = rolled(model)
    earned = credit(rollout, PPO, 0.1)
    minibatch_gradient(model, rollout, range(5), earned, PPO, OBJECTIVE, 200)
    expected = gradients(model)
    rolled(model, seed=1)
    model.zero_grad(set_to_none=True)
    minibatch_gradient(model, rollout, range(5), earned, PPO, OBJECTIVE, 200)
    for name, gradient in gradients(model).items():
        assert relative(gradient, expected[name]) < 1e-6


def answer_logps(model, example, answer):
    """log pi of an answer's tokens by the plain model, with its graph."""
    ids = torch.tensor([example["prompt_ids"] + answer])
    start = len(example["prompt_ids"])
    logits = causal_lm(model)(ids).logits[0, start - 1 : -1].log_softmax(-1)
    return logits.gather(-1, ids[0, start:, None]).squeeze(-1)


@pytest.mark.slow
@pytest.mark.parametrize("estimator", ["ppo", "rloo", "grpo"])
def test_the_first_gradient_is_the_policy_gradients(ppo_base, reward_folder, estimator):
    """While nothing has moved, ratios are 1: -A grad log pi, of tokens or of whole answers."""
    ppo = PPOSection(answers=2, max_new_tokens=6, estimator=estimator)
    model = four_roles(ppo_base, reward_folder, value=False)
    rollout = rolled(model, ppo=ppo)
    earned = credit(rollout, ppo, 0.1)
    metrics = minibatch_gradient(model, rollout, range(5), earned, ppo, OBJECTIVE, 200)
    found = gradients(model)[roles.POLICY]
    assert metrics["clip_fraction"] == 0
    model.zero_grad(set_to_none=True)
    answers = [(e, a) for e in rollout.examples for a in e["response_ids"]]
    with roles.policy(model):
        for row, (example, answer) in enumerate(answers):
            logps = answer_logps(model, example, answer)
            if estimator == "rloo":
                loss = -earned.advantages[row] * logps.sum() / len(answers)
            elif estimator == "grpo":
                loss = -earned.advantages[row] * logps.sum() / rollout.mask.sum()
            else:
                loss = -(earned.advantages[row, : len(answer)] * logps).sum() / rollout.mask.sum()
            loss.backward()
    assert relative(found, gradients(model)[roles.POLICY]) < 1e-4


def test_what_is_beyond_the_clip_has_no_gradient(ppo_base, reward_folder):
    model = four_roles(ppo_base, reward_folder, value=False)
    rollout = rolled(model)
    shape = rollout.policy_logps.shape
    # As if all had become twice as likely already, and were to become likelier still.
    rollout.policy_logps[:] -= torch.log(torch.tensor(2.0))
    all_good = Credit(torch.ones(shape), torch.zeros(shape))
    metrics = minibatch_gradient(model, rollout, range(5), all_good, PPO, OBJECTIVE, 200)
    assert metrics["clip_fraction"] == pytest.approx(1.0)
    assert metrics["loss/policy"] == pytest.approx(-1.2)
    assert gradients(model)[roles.POLICY].abs().max() == 0


def test_credit(ppo_base, reward_folder):
    """Of an answer that did not end something is taken off; the KL is paid for by beta."""
    model = four_roles(ppo_base, reward_folder)
    rollout = rolled(model)
    rloo = PPOSection(answers=2, estimator="rloo", no_end_penalty=3.0)
    earned = rollout.rewards - 3.0 * ~rollout.ended - 0.5 * rollout.kl
    pairs = earned.view(-1, 2)
    expected = torch.stack([pairs[:, 0] - pairs[:, 1], pairs[:, 1] - pairs[:, 0]], 1).flatten()
    assert torch.allclose(credit(rollout, rloo, 0.5).advantages, expected)
    metrics = rollout_metrics(rollout, rloo, 0.5)
    assert metrics["objective"] == pytest.approx(earned.mean().item(), abs=1e-5)
    # With lambda 1 and no value function's noise a return is what is still to come.
    found = credit(rollout, PPOSection(answers=2, lam=1.0, no_end_penalty=3.0), 0.5)
    assert torch.allclose(found.returns[:, 0], earned, atol=1e-4)
    of_tokens = found.advantages[rollout.mask]
    assert of_tokens.mean().abs() < 1e-5
    assert of_tokens.std(unbiased=False) == pytest.approx(1.0, abs=1e-4)


def test_every_epoch_takes_each_prompt_once():
    places = [p for step in range(5) for p in prompts_of_rollout(step, 10, 4, seed=7)]
    assert sorted(places[:10]) == list(range(10))
    assert sorted(places[10:]) == list(range(10))
    assert places[:10] != places[10:]
    assert prompts_of_rollout(3, 10, 4, seed=7) == places[12:16]


def test_a_reward_model_is_no_policy(ppo_base, reward_folder):
    base = load_base(ModelSection(base=ppo_base, quantization="none"))
    with pytest.raises(UserError, match="is a reward model"):
        roles.continue_policy(base, str(reward_folder), "start", ppo_base)
