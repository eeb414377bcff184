"""What methods share whose updates are examples of the data: the loop, the held-out scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from dpo_lite.data.packing import Encoded
from dpo_lite.training.method import Loaded, Method, Objective, Rehearsal, Sets
from dpo_lite.training.trainer import PreferenceTrainer
from dpo_lite.training.update import evaluate_examples


class Offline(Method):
    def trainer(
        self,
        loaded: Loaded,
        objective: Objective,
        budget: int,
        folder: Path,
        recorder: Any,
        references: Any,
        held_out: Sets,
        rehearsal: Rehearsal | None,
    ) -> Any:
        return PreferenceTrainer(
            model=loaded.model,
            recipe=loaded.recipe,
            objective=objective,
            budget=budget,
            folder=folder,
            train=loaded.data.train,
            evals=held_out,
            callbacks=[recorder],
            say=recorder.console.print,
            references=references,
            keeper=recorder.keeper,
        )

    def evaluate(
        self,
        loaded: Loaded,
        held_out: Sets,
        objective: Objective,
        budget: int,
        references: Any,
        progress: Callable[[int], None],
    ) -> dict[str, dict[str, Any]]:
        model, sets = loaded.model, {}
        for name, rows in held_out.items():
            outcome = evaluate_examples(model, rows, objective, budget, progress, references)
            beside = self.measured_beside(model, rows, objective, budget, outcome)
            sets[name] = outcome.metrics() | beside
            if wrong := self.most_wrong(rows, outcome, loaded.tokenizer):
                sets[name]["most_wrong"] = wrong
        return sets

    def most_wrong(self, rows: Sequence[Encoded], outcome: Any, tokenizer: Any) -> Any:
        """The pair that is ranked most wrongly; None where none is, or nothing is ranked."""
        return None

    def measured_beside(
        self,
        model: torch.nn.Module,
        rows: Sequence[Encoded],
        objective: Objective,
        budget: int,
        outcome: Any,
    ) -> dict[str, Any]:
        """What a held-out set is measured by besides the metrics of training; ``outcome``: what its
        examples scored, as ``score`` returns it."""
        return {}
