"""What the form calls the recipe's keys: plain words, with the key's own name in brackets."""

from __future__ import annotations

LABELS = {
    "task": "What is trained",
    "reference": "What the policy is held to",
    "run.name": "Name of the run",
    "run.folder": "Where runs are kept",
    "run.report_to": "Report to",
    "model.base": "Model to start from",
    "model.revision": "Version of the model",
    "model.adapter": "Adapter to start from",
    "model.quantization": "Bits of the frozen model",
    "model.embeddings": "Where its embedding lies",
    "model.trust_remote_code": "Run Python code that comes with the model",
    "adapter.r": "Capacity of the adapter",
    "adapter.alpha": "Scale of the adapter",
    "adapter.targets": "Layers that get an adapter",
    "adapter.experts": "Experts get one too",
    "adapter.kind": "Kind of adapter",
    "adapter.rslora": "Scale by the root of the capacity",
    "adapter.init": "How the adapter begins",
    "adapter.lora_plus": "How much faster B moves than A",
    "adapter.extra_r": "Capacity on top of the adapter",
    "data.train": "Data to learn from",
    "data.eval": "Held-out data",
    "data.eval_share": "Share that is held out",
    "data.revision": "Version of the data",
    "data.format": "Format of the rows",
    "data.columns": "Which column is what",
    "data.encoding": "Encoding of the file",
    "data.leave_out": "Lines to leave out",
    "data.where": "Rows to keep",
    "data.template": "Arguments of the chat template",
    "data.pairs": "What of a ranking is learned",
    "data.strip_prompt": "Take the prompt off the answers",
    "data.max_length": "Longest example in tokens",
    "data.on_long": "What is over it",
    "data.limit": "Only the first rows",
    "train.loss": "What is minimised",
    "train.beta": "Pull to the reference",
    "train.label_smoothing": "Share of wrong labels",
    "train.sft_weight": "Hold up the better answers",
    "train.simpo_gamma": "SimPO's margin",
    "train.dpop_lambda": "DPO-positive's weight",
    "train.centering": "Centre the rewards",
    "train.desirable_weight": "Weight of good answers",
    "train.undesirable_weight": "Weight of bad answers",
    "train.lr": "Learning rate",
    "train.scheduler": "How the rate falls",
    "train.warmup": "Warm-up",
    "train.batch_size": "Examples per update",
    "train.epochs": "Passes over the data",
    "train.max_steps": "Most updates",
    "train.save_steps": "Updates between checkpoints",
    "train.eval_steps": "Updates between evaluations",
    "train.seed": "Seed of what is drawn",
    "train.keep": "Which update is kept",
    "train.keep_by": "Best by what",
    "train.patience": "Evaluations without a better one",
    "train.kl_budget": "How far it may move",
    "train.engine": "Who trains",
    "train.optimizer": "Optimiser",
    "train.weight_decay": "Weight decay",
    "train.max_grad_norm": "Longest gradient",
    "train.token_budget": "Tokens computed at once",
    "train.checkpointing": "Compute again to save memory",
    "train.reference_cache": "Keep the reference's numbers",
    "ppo.reward": "Reward model",
    "ppo.estimator": "How good an answer is among others",
    "ppo.answers": "Answers per prompt",
    "ppo.max_new_tokens": "Longest drawn answer",
    "ppo.passes": "Passes over the answers",
    "ppo.minibatch": "Answers per step",
    "eval.prompts": "Prompts answered before and after",
    "eval.max_new_tokens": "Longest answer to them",
    "eval.generate": "Held-out prompts that are answered",
    "eval.sample_steps": "Updates between answers",
    "eval.limit": "Held-out rows at most",
    "hub.repo": "Repository",
    "hub.private": "Private",
    "hub.push": "Push while it trains",
    "hub.base_id": "The model's id on the Hub",
}

# Keys that are for some tasks alone; the sections of some tasks are dpo_lite.tasks' own.
PAIRS = ("dpo", "reward", "rlhf")
OF_TASKS = {
    "reference": ("dpo", "kto", "ppo", "rlhf"),
    "train.loss": PAIRS,
    "train.label_smoothing": PAIRS,
    "train.beta": ("dpo", "kto", "ppo", "rlhf"),
    "train.sft_weight": ("dpo", "rlhf"),
    "train.simpo_gamma": ("dpo", "rlhf"),
    "train.dpop_lambda": ("dpo", "rlhf"),
    "train.centering": ("reward", "rlhf"),
    "train.desirable_weight": ("kto",),
    "train.undesirable_weight": ("kto",),
    "train.engine": ("dpo",),
}


def label(key: str) -> str:
    """``Learning rate (lr)``; a key without words of its own is its name."""
    name = key.rpartition(".")[2]
    return f"{LABELS[key]} ({name})" if key in LABELS else name


def suits(key: str, task: str) -> bool:
    """Whether a key says something to a task."""
    return task in OF_TASKS.get(key, (task,))
