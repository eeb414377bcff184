"""Peak memory of PPO with its four roles against DPO's, on the same base in 4 bits.

    python benchmarks/ppo_memory.py [--model small|medium|0.5b|1.5b|8b] [--prompts 16]

A random Llama (shapes as in dpo_speed.py) in NF4, LoRA of rank 16 on all linear layers, prompts of
110 and answers of up to 45 tokens, micro-batches of at most 2,048 packed tokens. DPO: policy and
reference, updates on pairs. PPO: policy, value function, reward model and reference; whole
rollouts, from drawing to the optimiser's steps. Each is a process of its own. The peak is that of
the GPU, or on a CPU the growth of the process from before the base is loaded to the largest it ever
was. Prints Markdown for RESULTS.md and writes ppo_memory.json beside it.
"""

import argparse
import json
import multiprocessing
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.dpo_speed import GPU, MODELS, resident_bytes, save_model

PROMPT, ANSWER, BUDGET, STEPS = 110, 45, 2048, 2
ROLES = ("dpo", "ppo")
TARGET = 1.5


def recipe_of(task: str, folder: str, reward: str, prompts: int):
    from dpo_lite.recipe import validate_recipe

    values = {
        "task": task,
        "model": {"base": folder},
        "data": {"train": "generated"},
        "train": {"lr": 1e-4, "batch_size": prompts, "max_steps": STEPS, "token_budget": BUDGET},
    }
    if task == "ppo":
        values["ppo"] = {"reward": reward, "max_new_tokens": ANSWER, "minibatch": prompts}
    return validate_recipe(values, "benchmark")


def save_reward(folder: str, out: str) -> None:
    from dpo_lite.model import roles
    from dpo_lite.model.base import load_base

    recipe = recipe_of("dpo", folder, out, 1)
    model = roles.add_policy(load_base(recipe.model), recipe.adapter, 0, head=True)
    with torch.no_grad():
        for parameter in roles.trainable_parameters(model):
            parameter.add_(0.01 * torch.randn_like(parameter))  # untrained it would be refused
    roles.save_policy(model, Path(out), folder, None)


def measure(task: str, folder: str, reward: str, prompts: int, vocabulary: int):
    """Two updates or rollouts in this process; peak bytes, and seconds of the second."""
    import dpo_lite.jobs.train  # noqa: F401  all imports are over before the first look
    from dpo_lite.model import roles
    from dpo_lite.training.loaded import load_model
    from dpo_lite.training.method import Objective
    from dpo_lite.training.ppo import draw_answers, judge_answers
    from dpo_lite.training.ppo_learning import credit, learn, minibatch_gradient
    from dpo_lite.training.reward_source import rewarder
    from dpo_lite.training.update import update_gradient

    random = np.random.default_rng(0)

    def ids(length: int) -> list[int]:
        return random.integers(3, vocabulary, length).tolist()

    recipe = recipe_of(task, folder, reward, prompts)
    torch.zeros(1, device="cuda" if GPU else "cpu")
    before = 0 if GPU else resident_bytes("VmRSS")
    model = load_model(recipe)
    dtype = torch.bfloat16 if GPU else torch.float32
    objective = Objective.of(recipe, "forest", dtype)
    trained = list(roles.parameters(model, roles.POLICY))
    if task == "ppo":
        trained += roles.parameters(model, roles.VALUE)
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
    for _ in range(STEPS):
        started = time.perf_counter()
        if task == "dpo":
            pairs = [
                {"prompt_ids": ids(PROMPT), "response_ids": [ids(ANSWER), ids(ANSWER)]}
                for _ in range(prompts)
            ]
            model.train()
            update_gradient(model, pairs, objective, BUDGET)
            optimizer.step()
            optimizer.zero_grad()
        else:
            asked = [{"prompt_ids": ids(PROMPT), "prompt": ""} for _ in range(prompts)]
            judged_by = rewarder(model, recipe, objective, None)
            drawn = draw_answers(model, asked, recipe.ppo, {2}, 64)
            rollout = judge_answers(model, drawn, judged_by, {2}, objective, BUDGET)
            earned = credit(rollout, recipe.ppo, 0.1)
            learn(
                prompts,
                prompts,
                1,
                lambda places, r=rollout, e=earned: minibatch_gradient(
                    model, r, places, e, recipe.ppo, objective, BUDGET
                ),
                optimizer,
                1.0,
            )
        seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() if GPU else resident_bytes("VmHWM")
    return peak - before, seconds


def alone(work, *arguments):
    """Do it in a process of its own, which leaves no memory behind."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", choices=MODELS, default="small")
    parser.add_argument("--prompts", type=int, default=16)
    asked = parser.parse_args()
    vocabulary = MODELS[asked.model]["vocab_size"]
    found = {}
    with tempfile.TemporaryDirectory() as base, tempfile.TemporaryDirectory() as reward:
        alone(save_model, base, asked.model, None)
        alone(save_reward, base, reward)
        for task in ROLES:
            found[task] = alone(measure, task, base, reward, asked.prompts, vocabulary)
    ratio = found["ppo"][0] / found["dpo"][0]
    where = torch.cuda.get_device_name() if GPU else "CPU, fp32"
    print(f"{asked.model} on {where}, {asked.prompts} prompts of {PROMPT}, answers of {ANSWER}:\n")
    print("| | peak, MiB | seconds |\n| --- | --- | --- |")
    for task, (peak, seconds) in found.items():
        print(f"| {task.upper()} | {peak / 2**20:,.0f} | {seconds:.1f} |")
    print(f"\nPPO takes {ratio:.2f} times DPO's memory (target: at most {TARGET}).")
    file = Path(__file__).with_suffix(".json")
    known = json.loads(file.read_text()) if file.is_file() else {}
    known[f"{asked.model}, {where}"] = {"prompts": asked.prompts, "ratio": ratio, **found}
    file.write_text(json.dumps(known, indent=2) + "\n")


if __name__ == "__main__":
    main()
