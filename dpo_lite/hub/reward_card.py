"""What the card of a reward model says otherwise than that of a policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dpo_lite.files import read_json
from dpo_lite.model.adapter_files import REWARD_FILE

if TYPE_CHECKING:
    from dpo_lite.hub.subject import Subject

LOSSES = {
    "sigmoid": "−log σ(r_chosen − r_rejected) (Bradley-Terry; InstructGPT, arXiv:2203.02155)",
    "plackett_luce": "−Σ_k [r_k − log Σ_{j≥k} exp r_j], best first (Plackett-Luce)",
}


def mean_of(adapter: Path) -> float | None:
    """The mean reward of the training data; None of a checkpoint, where it is not known yet."""
    return (read_json(adapter / REWARD_FILE) or {}).get("mean")


def objective_rows(subject: Subject) -> list[tuple[str, str]]:
    train, mean = subject.recipe.train, mean_of(subject.adapter)
    return [
        ("objective", f"`{train.loss}`: {LOSSES[train.loss]}"),
        ("reward r", "a linear head without bias on the last token's hidden state"),
        ("label smoothing", f"ε = {train.label_smoothing:g}" if train.label_smoothing else ""),
        ("centering", f"{train.centering:g} · (r_chosen + r_rejected)²" if train.centering else ""),
        ("mean reward", "" if mean is None else f"{mean:+.4f}, over the training data"),
    ]


def use(subject: Subject, repo: str, tokenizer: str) -> str:
    """How it is loaded and asked without dpo_lite, with the ids that it was trained on."""
    mean = mean_of(subject.adapter)
    if subject.recipe.data.raw:
        made, begins = 'text = "..." + "..." + tokenizer.eos_token', ""
        ends = "prompt, answer and the end-of-text token"
    else:
        made = (
            'chat = [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]\n'
            "text = tokenizer.apply_chat_template(chat, tokenize=False).rstrip()"
        )
        begins, ends = "add_special_tokens=False, ", "the answer's end of turn"
    centred = (
        ""
        if mean is None
        else f" Less the mean over the training data, {mean:+.4f}, rewards are centred around 0."
    )
    return f"""## Use

```python
from peft import PeftModel
from transformers import AutoModelForSequenceClassification, AutoTokenizer

base = AutoModelForSequenceClassification.from_pretrained("{subject.base}", num_labels=1)
model = PeftModel.from_pretrained(base, "{repo}").eval()
model.config.pad_token_id = None  # one text at a time: the reward stands at its last token
tokenizer = AutoTokenizer.from_pretrained("{tokenizer}")
{made}
print(model(**tokenizer(text, {begins}return_tensors="pt")).logits.item())
```

The text must end with {ends}, as in training.{centred} Only differences between answers to the same
prompt were learned: σ(r_a − r_b) is the probability that a is preferred to b. To batch, set
`pad_token_id` to a token that ends no text."""


LIMITS = (
    "## Limits\n\nIt scores what its data prefer, and what else goes along with that, such as "
    "length; a policy that is trained hard against it will find what it overrates. Rewards of "
    "answers to different prompts are not comparable. The numbers above were measured on the "
    "held-out data named above and say nothing about other data, other languages or safety. What "
    "the base must not be used for, this must not either."
)
