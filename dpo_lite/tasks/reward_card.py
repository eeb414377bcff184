"""What the card of a reward model says otherwise than that of a policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dpo_lite.objectives.losses import LOSSES
from dpo_lite.tasks.card import Card, Facts


class RewardCard(Card):
    tags = ("reward-model", "preference")
    pipeline = "text-classification"
    gives = "rewards"
    limits = (
        "It scores what its data prefer, and what else goes along with that, such as length; a "
        "policy that is trained hard against it will find what it overrates. Rewards of answers to "
        "different prompts are not comparable. The numbers above were measured on the held-out "
        "data named above and say nothing about other data, other languages or safety. What the "
        "base must not be used for, this must not either."
    )

    def how(self, recipe: Any) -> str:
        return "on preferences as a reward model, which scores answers and gives none,"

    def objective_rows(self, facts: Facts) -> list[tuple[str, str]]:
        train, mean = facts.recipe.train, facts.mean_reward
        loss = LOSSES[train.loss]
        smoothed, centred = train.label_smoothing, train.centering
        return [
            ("objective", f"`{loss.name}`: {loss.formula} ({loss.reward_model})"),
            ("reward r", "a linear head without bias on the last token's hidden state"),
            ("label smoothing", f"ε = {smoothed:g}" if smoothed else ""),
            ("centering", f"{centred:g} · (r_chosen + r_rejected)²" if centred else ""),
            ("mean reward", "" if mean is None else f"{mean:+.4f}, over the training data"),
        ]

    def measures(self, metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
        *scores, loss = super().measures(metrics)
        error = metrics.get("calibration", {}).get("error")
        yield from scores
        yield "expected_calibration_error", "Expected calibration error", error
        yield loss

    def use(self, facts: Facts, repo: str, tokenizer: str) -> str:
        """With the ids that it was trained on."""
        if facts.recipe.data.raw:
            made, begins = 'text = "..." + "..." + tokenizer.eos_token', ""
            ends = "prompt, answer and the end-of-text token"
        else:
            made = (
                'chat = [{"role": "user", "content": "..."}, '
                '{"role": "assistant", "content": "..."}]\n'
                "text = tokenizer.apply_chat_template(chat, tokenize=False).rstrip()"
            )
            begins, ends = "add_special_tokens=False, ", "the answer's end of turn"
        mean = facts.mean_reward
        centred = (
            ""
            if mean is None
            else f" Less the mean over the training data, {mean:+.4f}, rewards are centred around "
            "0."
        )
        classes = facts.manifest.get("loads_as")
        if classes and not classes["scalar"]:
            return f"""## Use

transformers has no class with a scalar head for this base, so the adapter is used with dpo_lite:
`dpo-lite best-of` ranks answers by it, and `ppo.reward` of a recipe takes it.{centred}"""
        return f"""## Use

```python
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

base = AutoModelForSequenceClassification.from_pretrained("{facts.base}", num_labels=1)
model = PeftModel.from_pretrained(base, "{repo}").eval()
model.config.pad_token_id = None  # one text at a time: the reward stands at its last token
tokenizer = AutoTokenizer.from_pretrained("{tokenizer}")
{made}
print(model(**tokenizer(text, {begins}return_tensors="pt")).logits.item())
```

The text must end with {ends}, as in training.{centred} Only differences between answers to the same
prompt were learned: σ(r_a − r_b) is the probability that a is preferred to b. To batch, set
`pad_token_id` to a token that ends no text."""
