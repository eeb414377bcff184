"""The second engine: the same recipe and the same token ids through TRL's DPOTrainer.

What TRL would do to the data is skipped (the ids are ready), and its cast of QLoRA adapters to
bf16 is undone: at DPO's learning rates a bf16 master loses most updates. The learning rate is ours,
above 0 from the first update on. All else is TRL's.
"""

from __future__ import annotations

from pathlib import Path

import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer

from dpo_lite.errors import UserError
from dpo_lite.model import roles
from dpo_lite.model.precision import dtype_of
from dpo_lite.objectives.losses import LOSSES
from dpo_lite.objectives.sums import summands
from dpo_lite.training.callbacks import RunRecorder
from dpo_lite.training.method import Loaded, Objective, Sets
from dpo_lite.training.reference_cache import ReferenceCache
from dpo_lite.training.trainer import AdapterTrainer, on_one_card, training_arguments

LARGEST_MICRO_BATCH = 4


class TokenisedDPOTrainer(AdapterTrainer, DPOTrainer):
    """DPOTrainer on a data set whose ids are ready, with our schedule."""

    def _prepare_dataset(self, dataset, *args, **kwargs):
        return dataset


class TokensGoOn(TrainerCallback):
    """TRL counts the tokens of a session; those of the ones before are in the checkpoint's log."""

    def __init__(self, trainer: DPOTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        counts = [log["num_tokens"] for log in state.log_history if "num_tokens" in log]
        self.trainer._total_train_tokens = counts[-1] if counts else 0


def to_trl(examples: Dataset) -> Dataset:
    """Our columns in TRL's names: prompt_ids, chosen_ids, rejected_ids."""
    return Dataset.from_dict(
        {
            "prompt_ids": examples["prompt_ids"],
            "chosen_ids": [responses[0] for responses in examples["response_ids"]],
            "rejected_ids": [responses[1] for responses in examples["response_ids"]],
        }
    )


def trl_trainer(
    loaded: Loaded,
    objective: Objective,
    budget: int,
    folder: Path,
    recorder: RunRecorder,
    references: ReferenceCache | None,
    held_out: Sets,
) -> DPOTrainer:
    """Build TRL's trainer for a loaded run. The policy's adapter keeps its name and its weights.

    TRL computes the updates; held-out sets are scored as for the other engine.
    """
    recipe, model = loaded.recipe, loaded.model
    if recipe.model.adapter and recipe.reference == "base":
        raise UserError(
            "train.engine: trl holds a continued adapter to its start only; set reference=start, "
            "or train.engine=dpo_lite."
        )
    device = model.device
    arguments = training_arguments(recipe, folder, device)
    # TRL divides each micro-batch by its own size, so all must be equal.
    size = max(n for n in range(1, LARGEST_MICRO_BATCH + 1) if recipe.train.batch_size % n == 0)
    loss = LOSSES[recipe.train.loss]
    arguments |= {
        "per_device_train_batch_size": size,
        "gradient_accumulation_steps": recipe.train.batch_size // size,
        "beta": recipe.train.beta,
        "loss_type": [part.name for _, part in summands(loss)],  # of the same name there
        "loss_weights": [weight for weight, _ in summands(loss)],
        "ld_alpha": recipe.train.ld_alpha,
        "label_smoothing": recipe.train.label_smoothing,
        "max_length": None,
        "bf16": dtype_of(model) == torch.bfloat16,
        "fp16": dtype_of(model) == torch.float16,
    }
    train = to_trl(loaded.data.train)
    trainer = TokenisedDPOTrainer(
        model=model,
        args=on_one_card(DPOConfig(**arguments)),
        train_dataset=train,
        eval_dataset=train if recipe.train.eval_steps else None,  # evaluate() is our own
        processing_class=loaded.tokenizer,
        callbacks=[recorder],
    )
    trainer.objective, trainer.budget, trainer.references = objective, budget, references
    trainer.held_out, trainer.keeper = held_out, recorder.keeper
    trainer.lora_plus = recipe.adapter.lora_plus
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(TokensGoOn(trainer))
    for parameter in roles.trainable_parameters(model):
        parameter.data = parameter.data.to(torch.float32)
    return trainer
