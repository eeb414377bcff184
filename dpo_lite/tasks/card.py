"""What the model card says of a task; the defaults are those of a policy trained on preferences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dpo_lite.objectives.losses import LOSSES
from dpo_lite.rates import rate_at


@dataclass(frozen=True)
class Facts:
    """What is known of an adapter that is published; ``recipe`` is a dpo_lite.recipe.Recipe."""

    recipe: Any
    manifest: Mapping[str, Any]
    base: str  # public id
    mean_reward: float | None = None  # of a reward model, over the training data


class Card:
    tags: tuple[str, ...] = ("preference",)
    pipeline = "text-generation"  # the Hub's word for what the model does
    measured_as = "Preference"  # the Hub's name for the task that results are of
    gives = "answers"
    limits = (
        "The adapter prefers what its data prefer, and knows no facts that the base did not know. "
        "The numbers above were measured on the held-out data named above and say nothing about "
        "other data, other languages or safety. What the base must not be used for, this must not "
        "either."
    )

    def all_tags(self, recipe: Any) -> tuple[str, ...]:
        return self.tags

    def how(self, recipe: Any) -> str:
        """How it was trained: a clause behind "trained"."""
        return "on preferences by Direct Preference Optimization"

    def objective_rows(self, facts: Facts) -> list[tuple[str, str]]:
        """What was minimised; rows with an empty value are left out."""
        train, loss = facts.recipe.train, LOSSES[facts.recipe.train.loss]
        per_token = " per token" if loss.per_token else ""
        reward = "r = β · log π" if loss.reference_free else "r = β · log(π / π_ref)"
        reference = facts.manifest.get("reference", facts.recipe.reference)
        return [
            ("objective", f"`{loss.name}`: {loss.formula} ({loss.source})"),
            ("implicit reward", f"{reward}{per_token}, β = {train.beta:g}"),
            *((f"`{key}`", f"{value:g}") for key, value in train.loss_options.items()),
            ("LD-DPO", f"α = {train.ld_alpha:g}" if train.ld_alpha is not None else ""),
            ("β moves by", f"{train.dynamic_beta:g}" if train.dynamic_beta else ""),
            ("label smoothing", f"ε = {train.label_smoothing:g}" if train.label_smoothing else ""),
            ("reference π_ref", "" if loss.reference_free else reference),
            ("SFT term", f"weight {train.sft_weight:g}" if train.sft_weight else ""),
        ]

    def length_rows(self, recipe: Any) -> list[tuple[str, str]]:
        """How much it was trained."""
        train = recipe.train
        return [
            ("batch", f"{train.batch_size} examples per update"),
            (
                "passes",
                f"{train.epochs:g} epoch{'s' * (train.epochs != 1)}"
                + (f", {train.max_steps} updates" * bool(train.max_steps)),
            ),
        ]

    def measures(self, metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
        """Kind, title and value (a number or a Rate) of what was measured on a held-out set, for
        the Hub's index."""
        yield "accuracy", "Reward accuracy", rate_at(metrics, "rewards/accuracies")
        yield "rewards/margins", "Reward margin", metrics.get("rewards/margins")
        yield "loss", "Loss", metrics.get("loss")

    def use(self, facts: Facts, repo: str, tokenizer: str) -> str:
        """How it is loaded and asked without dpo_lite; ``tokenizer``: the id that has it."""
        published = (facts.manifest.get("loads_as") or {}).get("answers")
        if published:  # whose names the adapter's are; the class for text alone has others
            load = f"""from peft import PeftModel
from transformers import AutoTokenizer, {published}

base = {published}.from_pretrained("{facts.base}", dtype="auto", device_map="auto")
model = PeftModel.from_pretrained(base, "{repo}")"""
        else:
            load = f"""from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("{repo}", dtype="auto", device_map="auto")"""
        return f"""## Use

```python
{load}
tokenizer = AutoTokenizer.from_pretrained("{tokenizer}")
chat = [{{"role": "user", "content": "..."}}]
ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
print(tokenizer.decode(model.generate(**ids.to(model.device), max_new_tokens=200)[0]))
```"""
