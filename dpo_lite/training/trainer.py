"""The training loop: transformers' Trainer, with our own update.

Trainer keeps what it does well (order of the data, optimiser, schedule, checkpoints, resuming). It
hands over one update's examples at a time; the split into packed micro-batches and the gradient
are in dpo_lite.training.update.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from datasets import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from dpo_lite.errors import UserError
from dpo_lite.files import read_json, write_json
from dpo_lite.memory.of_model import tile
from dpo_lite.model.checkpoints import load_checkpoint, write_start
from dpo_lite.model.device_memory import until_it_fits
from dpo_lite.model.precision import to_fp32
from dpo_lite.model.recompute import decoder_layers, recompute
from dpo_lite.model.roles import trainable_parameters
from dpo_lite.model.scoring import batch_tokens
from dpo_lite.model.tiles import TILE
from dpo_lite.objectives.preference import moved_mean
from dpo_lite.recipe import Recipe
from dpo_lite.runs.checkpoints import rotate
from dpo_lite.training import ranks
from dpo_lite.training.checkpoints import checkpoint_written
from dpo_lite.training.keeping import Keeper
from dpo_lite.training.loss_scale import LossScale
from dpo_lite.training.method import Objective, Scored
from dpo_lite.training.parameter_groups import groups
from dpo_lite.training.reference_cache import ReferenceCache
from dpo_lite.training.schedule import rates_as_asked, schedule
from dpo_lite.training.update import evaluate_examples, update_gradient

SCALE_FILE = "loss_scale.json"  # in a checkpoint, of a run in fp16
MOVING_FILE = "moving_beta.json"  # and of one whose beta moves

# A run's recipe says which; `auto` is only met where no plan was made, in tests.
OPTIMIZERS = {
    "auto": "adamw_torch_fused",
    "adamw": "adamw_torch_fused",
    "adamw_8bit": "adamw_8bit",
}


def training_arguments(recipe: Recipe, folder: Path, device: torch.device) -> dict:
    """The recipe's `train` section in the words of TrainingArguments."""
    train = recipe.train
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": train.batch_size,
        "num_train_epochs": train.epochs,
        "max_steps": train.max_steps or -1,
        "learning_rate": train.lr,
        "lr_scheduler_type": train.scheduler,
        "warmup_steps": train.warmup,  # below 1: a share of all updates
        "weight_decay": train.weight_decay,
        "max_grad_norm": train.max_grad_norm,
        "optim": OPTIMIZERS[train.optimizer],
        "seed": train.seed,
        "save_strategy": "steps",
        "save_steps": train.save_steps,
        "save_total_limit": None,  # Trainer goes by time: see dpo_lite.runs.checkpoints
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "eval_strategy": "steps" if train.eval_steps else "no",
        "eval_steps": train.eval_steps,
        "report_to": "none",
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "use_cpu": device.type == "cpu",
        "dataloader_pin_memory": False,
        # Checkpointing is switched on when the model is built, not by Trainer.
        "gradient_checkpointing": False,
    }


def on_one_card(arguments: TrainingArguments) -> TrainingArguments:
    """The same with one card for the process, also where more are visible.

    Else Trainer takes the batch once for each of them, and copies the model to each for every pass.
    """
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments


class AdapterTrainer(Trainer):
    """Trainer of an adapter: the first update learns, B may move faster, checkpoints go on, and
    held-out sets are scored as at the end of a run."""

    lora_plus = 1.0
    objective: Objective
    budget: int
    held_out: Mapping[str, Dataset]
    references: ReferenceCache | None = None
    keeper: Keeper | None = None

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        if self.optimizer is None and self.lora_plus != 1:
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, self.model)
            named = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
            moved = groups(named, self.args.learning_rate, self.lora_plus)
            self.optimizer = kind(moved, **options, weight_decay=self.args.weight_decay)
        return super().create_optimizer(model)

    def create_scheduler(self, num_training_steps: int, optimizer=None):
        if self.lr_scheduler is None:
            args = self.args
            self.lr_scheduler = schedule(
                optimizer or self.optimizer,
                str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)),
                args.warmup_steps,
                num_training_steps,
            )
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with rates_as_asked(self.optimizer, self.lr_scheduler):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _run_epoch(self, *args, **kwargs) -> None:
        """A run that was cut off behind its last update goes on without another one."""
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(*args, **kwargs)

    def evaluate(self, *args, **kwargs) -> dict[str, float]:
        """Metrics of every held-out set, as ``eval_<set>_<metric>``, and what decides beside."""
        metrics: dict[str, float] = {}
        for name, examples in self.held_out.items():
            outcome = evaluate_examples(
                self.model,
                list(examples),
                self.objective,
                self.budget,
                references=self.references,
            )
            metrics |= {f"eval_{name}_{key}": value for key, value in outcome.metrics().items()}
        if self.keeper:
            metrics |= self.keeper.beside(self.state.global_step)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _save_checkpoint(self, model, trial) -> None:
        """Of processes that train together one writes: all of them are in the same state."""
        if ranks.first():
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            with checkpoint_written(folder):
                super()._save_checkpoint(model, trial)
            rotate(folder, self.state.best_global_step)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.should_save:
            write_start(self.model, Path(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        load_checkpoint(self.model, Path(resume_from_checkpoint))


class PreferenceTrainer(AdapterTrainer):
    """Trainer whose batch is the list of one update's examples."""

    def __init__(
        self,
        model: torch.nn.Module,
        recipe: Recipe,
        objective: Objective,
        budget: int,
        folder: Path,
        train: Dataset,
        evals: Mapping[str, Dataset],
        callbacks: list[TrainerCallback],
        say: Callable[[str], None],
        references: ReferenceCache | None = None,
        keeper: Keeper | None = None,
    ):
        device = model.device
        super().__init__(
            model=model,
            args=on_one_card(TrainingArguments(**training_arguments(recipe, folder, device))),
            data_collator=list,
            train_dataset=train,
            eval_dataset=train if recipe.train.eval_steps else None,  # evaluate() is our own
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)
        self.lora_plus = recipe.adapter.lora_plus
        self.objective = objective
        self.budget = budget
        self.held_out = evals
        self.say = say
        self.references = references
        self.keeper = keeper
        self.scale = LossScale.of(objective.dtype)
        self.outcome: Scored | None = None
        self.offloaded = False  # after memory ran out with a single example

    def training_step(self, model, inputs, num_items_in_batch=None) -> torch.Tensor:
        """The gradient of one update; where memory runs out, it gives up more and is repeated.

        So it is in fp32 where fp16 does not hold what the model says of these examples. Processes
        that train together have the same examples, gradients and outcome, and decide the same.
        """
        model.train()

        def gradient() -> Scored:
            model.zero_grad()  # of an attempt that broke off
            scale = self.scale.scale if self.scale else 1.0
            return update_gradient(
                model, inputs, self.objective, self.budget, self.references, scale
            )

        def until_done() -> Scored:
            return until_it_fits(gradient, lambda error: self.give_up_more(model, inputs, error))

        self.outcome = until_done()
        if self.scale and not math.isfinite(self.outcome.loss):
            self.say("fp16 does not hold the model's numbers: going on in fp32")
            to_fp32(model)
            self.objective = replace(self.objective, dtype=torch.float32)
            self.scale = self.references = None  # what was kept is fp16's
            self.outcome = until_done()
        loss = self.outcome.loss
        if not math.isfinite(loss):
            raise UserError(
                f"The loss became {loss} at update {self.state.global_step + 1}; lower "
                "train.lr, or look at the data for broken rows."
            )
        if self.objective.dynamic_beta:
            margin = self.outcome.margin(self.objective.beta)
            mean = moved_mean(self.objective.mean_margin, margin)
            self.objective = replace(self.objective, mean_margin=mean)
        if self.scale:
            # An update without gradients changes neither weights nor moments; accelerate's mark of
            # an overflow keeps the schedule where it is.
            self.optimizer._is_overflow = not self.scale.settle(trainable_parameters(model))
        return torch.tensor(loss, device=self.args.device)

    def give_up_more(self, model, examples: list, error: torch.OutOfMemoryError) -> None:
        """Half the tokens per micro-batch; with a single example, recompute every layer."""
        longest = max(batch_tokens(example, self.objective.way) for example in examples)
        if self.budget > longest:
            self.budget //= 2
            self.say(f"out of memory: going on with {self.budget} tokens per micro-batch")
            return
        if self.offloaded or not decoder_layers(model):
            raise UserError(
                f"One example of {longest} tokens does not fit in the memory of the GPU; lower "
                "data.max_length."
            ) from error
        self.offloaded = True
        recompute(model, "offload")
        tile(model, TILE)
        self.say("out of memory: going on with every layer recomputed from the host's memory")

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self.outcome is not None:
            logs |= self.outcome.metrics() | (self.scale.metrics() if self.scale else {})
            if self.objective.dynamic_beta:
                logs["beta"] = self.outcome.betas[0].item()
        super().log(logs, start_time)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        super()._save(output_dir, state_dict)
        if self.scale and self.args.should_save:
            write_json(Path(output_dir or self.args.output_dir) / SCALE_FILE, self.scale.state())
        if self.objective.dynamic_beta and self.args.should_save:
            state = {"mean_margin": self.objective.mean_margin}
            write_json(Path(output_dir or self.args.output_dir) / MOVING_FILE, state)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        state = read_json(Path(resume_from_checkpoint) / SCALE_FILE)
        if self.scale and state:
            self.scale.load(state)
        if moving := read_json(Path(resume_from_checkpoint) / MOVING_FILE):
            self.objective = replace(self.objective, **moving)
