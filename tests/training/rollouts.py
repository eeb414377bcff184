"""Small models with all roles of PPO, and rollouts of theirs."""

import torch

from dpo_lite.model import roles
from dpo_lite.model.base import load_base
from dpo_lite.model.scoring import causal_lm
from dpo_lite.recipe import AdapterSection, ModelSection, PPOSection
from dpo_lite.training.method import Objective
from dpo_lite.training.ppo import Earned, draw_answers, judge_answers
from tests.model.small_models import random_examples

END = 2
OBJECTIVE = Objective("sigmoid", 0.1, "forest")
PPO = PPOSection(answers=2, max_new_tokens=6)


def stir(parameters, scale=0.1):
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(torch.randn_like(parameter) * scale)


def four_roles(base_folder, reward_folder, quantization="none", value=True):
    base = load_base(ModelSection(base=base_folder, quantization=quantization))
    model = roles.add_policy(base, AdapterSection(r=4, alpha=8), seed=0)
    roles.add_reward(model, reward_folder)
    if value:
        roles.add_value(model, AdapterSection(r=4, alpha=8), reward_folder)
    stir(roles.parameters(model, roles.POLICY), 0.05)
    return model


def head_rewards(model):
    """The reward adapter's scores, each answer in a row of its own."""

    def rewards(examples, budget):
        found = []
        lm = causal_lm(model)
        with roles.reward(model), torch.no_grad():
            for example in examples:
                for answer in example["response_ids"]:
                    ids = torch.tensor([example["prompt_ids"] + answer])
                    found.append(lm.score(lm.base_model(ids).last_hidden_state[0, -1]).item())
        return Earned(torch.tensor(found))

    return rewards


def rolled(model, prompts=5, ppo=PPO, seed=0):
    torch.manual_seed(seed)
    drawn = draw_answers(model, random_examples(prompts, 1), ppo, {END}, at_once=4)
    return judge_answers(model, drawn, head_rewards(model), {END}, OBJECTIVE, budget=60)


def gradients(model):
    return {
        name: torch.cat([p.grad.flatten() for p in roles.parameters(model, name)])
        for name in (roles.POLICY, roles.VALUE)
        if name in model.peft_config
    }


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()
