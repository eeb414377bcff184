"""GRPO held to TRL's GRPOTrainer on the same answers: advantages, loss and gradient."""

import pytest
import torch
from datasets import Dataset
from torch.nn.utils.rnn import pad_sequence

from dpo_lite.model import roles
from dpo_lite.objectives.policy_gradient import group_advantages
from dpo_lite.recipe import PPOSection
from dpo_lite.training.ppo_learning import credit, minibatch_gradient
from tests.training.rollouts import OBJECTIVE, four_roles, gradients, relative, rolled, stir

VARIANTS = [  # beta, ours, TRL's
    (0.3, {"average": "answers"}, {"loss_type": "grpo"}),
    (0.3, {"average": "tokens"}, {"loss_type": "bnpo"}),
    (
        0.3,
        {"average": "constant", "scale_rewards": "none"},
        {"loss_type": "dr_grpo", "scale_rewards": "none"},
    ),
    (
        0.0,  # TRL would weigh the KL of a token by the ratio of its answer
        {"average": "answers", "ratio": "sequence", "clip_high": 0.1},
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon_high": 0.1},
    ),
    (
        0.3,
        {"clip_high": 0.05, "clip": 0.02},
        {"loss_type": "bnpo", "epsilon": 0.02, "epsilon_high": 0.05},
    ),
]


def trls(model, folder, chat_tokenizer, **options):
    from trl import GRPOConfig, GRPOTrainer

    arguments = GRPOConfig(
        output_dir=str(folder),
        num_generations=2,
        per_device_train_batch_size=10,
        max_completion_length=6,
        report_to="none",
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        **options,
    )
    rows = Dataset.from_list([{"prompt": "a"}] * 10)
    return GRPOTrainer(model, lambda **_: [0.0], arguments, rows, processing_class=chat_tokenizer)


def inputs_of(rollout, advantages):
    """The rollout as TRL lays it out: prompts padded on the left, answers on the right."""
    prompts, answers = [], []
    for example in rollout.examples:
        for answer in example["response_ids"]:
            prompts.append(torch.tensor(example["prompt_ids"]))
            answers.append(torch.tensor(answer))
    left = pad_sequence([p.flip(0) for p in prompts], batch_first=True, padding_value=-1).flip(1)
    right = pad_sequence(answers, batch_first=True)
    return {
        "prompt_ids": left.clamp(min=0),
        "prompt_mask": (left >= 0).long(),
        "completion_ids": right,
        "completion_mask": rollout.mask.long(),
        "advantages": advantages,
        "old_per_token_logps": rollout.policy_logps,
        "ref_per_token_logps": rollout.reference_logps,
        "num_items_in_batch": rollout.mask.sum(),
    }


@pytest.mark.slow
@pytest.mark.parametrize(("beta", "own", "theirs"), VARIANTS)
def test_as_trl(ppo_base, reward_folder, chat_tokenizer, tmp_path, beta, own, theirs):
    ppo = PPOSection(answers=2, max_new_tokens=6, estimator="grpo", kl_in="loss", **own)
    model = four_roles(ppo_base, reward_folder, value=False)
    rollout = rolled(model, ppo=ppo)
    earned = credit(rollout, ppo, beta)
    stir(roles.parameters(model, roles.POLICY), 0.02)  # no longer the policy that drew them
    metrics = minibatch_gradient(model, rollout, range(5), earned, ppo, OBJECTIVE, 60)
    found = gradients(model)[roles.POLICY]
    assert 0 < metrics["clip_fraction"] < 1
    model.zero_grad(set_to_none=True)

    model.warnings_issued = {}
    trainer = trls(model, tmp_path, chat_tokenizer, beta=beta, **theirs)
    trainer.current_gradient_accumulation_steps = 1
    with roles.policy(model):
        loss = trainer._compute_loss(model, inputs_of(rollout, earned.advantages))
        loss.backward()
    assert metrics["loss/policy"] == pytest.approx(loss.item(), abs=1e-5)
    assert relative(found, gradients(model)[roles.POLICY]) < 1e-4


def test_advantages_of_a_prompt_do_not_depend_on_others():
    rewards = torch.randn(4, 3)
    assert torch.equal(group_advantages(rewards)[:2], group_advantages(rewards[:2]))
