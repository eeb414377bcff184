"""The model card, written from the facts of a run: nothing in it was typed by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dpo_lite.files import read_json
from dpo_lite.hub import ppo_card, reward_card
from dpo_lite.hub.licence import base_licence
from dpo_lite.names import is_public, repository
from dpo_lite.report.run import result_rows, sample_pairs, table_head

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

    from dpo_lite.hub.subject import Subject

SHOWN_SAMPLES = 4
FORMULAS = {
    "sigmoid": "−log σ(r_chosen − r_rejected)",
    "sigmoid_norm": "−log σ(r_chosen − r_rejected), r per token",
    "robust": "[(1 − ε)·ℓ(m) − ε·ℓ(−m)] / (1 − 2ε), ℓ(m) = −log σ(m), m = r_chosen − r_rejected",
    "hinge": "max(0, 1 − (r_chosen − r_rejected))",
    "ipo": "(h_chosen − h_rejected − 1/(2β))², h = log π/π_ref per token",
    "plackett_luce": "−Σ_k [r_k − log Σ_{j≥k} exp r_j], best first",
}
SOURCES = {
    "sigmoid": "DPO, arXiv:2305.18290, Eq. 7",
    "sigmoid_norm": "length-normalised DPO, Tülu 3, arXiv:2411.15124",
    "robust": "robust DPO, arXiv:2403.00409",
    "hinge": "SLiC-HF, arXiv:2305.10425",
    "ipo": "IPO, arXiv:2310.12036, Eq. 17",
    "plackett_luce": "DPO, arXiv:2305.18290, Appendix A.3",
}


def model_card(subject: Subject, repo: str, own_tokenizer: bool = False) -> str:
    """README.md of the repository: metadata for the Hub, then what a reader wants to know."""
    sections = [
        f"---\n{metadata(subject, repo).to_yaml()}\n---",
        _what(subject, repo),
        _training(subject),
        _results(subject),
        _samples(subject),
        _use(subject, repo, own_tokenizer),
        _versions(subject),
        _limits(subject),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


TAGS = {
    "dpo": ("dpo", "preference"),
    "sft": ("sft",),
    "reward": ("reward-model", "preference"),
    "ppo": ("ppo",),
    "rloo": ("rloo",),
}
KINDS = {"reward": "text-classification"}  # else text-generation


def metadata(subject: Subject, repo: str):
    """The block at the card's top that the Hub reads, as huggingface_hub's ``ModelCardData``."""
    from huggingface_hub import ModelCardData

    results = eval_results(subject)
    return ModelCardData(
        base_model=true_base(subject),
        base_model_relation="adapter",
        library_name="peft",
        pipeline_tag=KINDS.get(subject.recipe.task, "text-generation"),
        datasets=public_data(subject) or None,
        tags=["lora", "dpo_lite", *TAGS[_method(subject)]],
        model_name=repo.partition("/")[2] if results else None,
        eval_results=results or None,
        **base_licence(true_base(subject)),
    )


def _method(subject: Subject) -> str:
    """The task, of PPO how its advantages are found."""
    recipe = subject.recipe
    return recipe.ppo.estimator if recipe.task == "ppo" else recipe.task


def true_base(subject: Subject) -> str:
    """The base itself, where what was trained on is a quantised copy that names it."""
    return subject.run.manifest().get("quantised_from") or subject.base


def public_data(subject: Subject) -> list[str]:
    """Ids of the data sets that others can load, each once."""
    named = [repository(part.source) for part in subject.recipe.data.sources]
    return list(dict.fromkeys(name for name in named if is_public(name) and "/" in name))


def eval_results(subject: Subject) -> list[EvalResult]:
    """The held-out scores as the Hub's model-index has them."""
    from huggingface_hub import EvalResult

    data = public_data(subject)
    on_policy = subject.recipe.task == "ppo"
    measures = ppo_card.measures if on_policy else _measures
    found = []
    for name, metrics in subject.results["sets"].items():
        for kind, title, value in measures(metrics):
            if not isinstance(value, (int, float)) or value != value:  # a NaN is no result
                continue
            found.append(
                EvalResult(
                    task_type=KINDS.get(subject.recipe.task, "text-generation"),
                    task_name="Answers" if on_policy else "Preference",
                    dataset_type=data[0] if len(data) == 1 else "preferences",
                    dataset_name=f"held-out set {name}",
                    dataset_split=name,
                    metric_type=kind,
                    metric_name=title,
                    metric_value=round(float(value), 4),
                )
            )
    return found


def _measures(metrics: dict[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Kind, title and value of what was scored on a held-out set."""
    error = metrics.get("calibration", {}).get("error")
    values = metrics | {"calibration": error}
    for key, kind, title in (
        ("rewards/accuracies", "accuracy", "Reward accuracy"),
        ("rewards/margins", "rewards/margins", "Reward margin"),
        ("calibration", "expected_calibration_error", "Expected calibration error"),
        ("loss", "loss", "Loss"),
    ):
        yield kind, title, values.get(key)


def _what(subject: Subject, repo: str) -> str:
    base, loaded = true_base(subject), subject.base
    how = {
        "dpo": "on preferences by Direct Preference Optimization",
        "sft": "on demonstrations by supervised fine-tuning",
        "reward": "on preferences as a reward model, which scores answers and gives none,",
        **{name: f"on rewards by {told}" for name, told in ppo_card.HOW.items()},
    }
    text = (
        f"# {repo.partition('/')[2]}\n\n"
        f"A LoRA adapter for [{base}](https://huggingface.co/{base}), trained "
        f"{how[_method(subject)]} with dpo_lite."
    )
    if base != loaded:
        text += (
            f" It was trained on its quantised copy [{loaded}](https://huggingface.co/{loaded})."
        )
    if subject.step is not None:
        unit = "rollouts" if subject.recipe.task == "ppo" else "updates"
        text += f"\n\nThis is the state after {subject.step:,} {unit}, not the end of the training."
    return text


def _training(subject: Subject) -> str:
    recipe, manifest = subject.recipe, subject.run.manifest()
    train, adapter = recipe.train, _adapter_numbers(subject)
    data = manifest.get("data", {})
    sources = ", ".join(_source(part.source) for part in recipe.data.sources)
    held_out = ", ".join(f"{name} {count:,}" for name, count in data.get("held_out", {}).items())
    revision = f" at `{subject.revision}`" if subject.revision else ""
    if recipe.task == "sft":
        objective = [("objective", "supervised fine-tuning: −Σ log π(token) / tokens")]
    elif recipe.task == "reward":
        objective = reward_card.objective_rows(subject)
    elif recipe.task == "ppo":
        objective = ppo_card.objective_rows(subject)
    else:
        per_token = " per token" if train.loss == "sigmoid_norm" else ""
        objective = [
            ("objective", f"`{train.loss}`: {FORMULAS[train.loss]} ({SOURCES[train.loss]})"),
            ("implicit reward", f"r = β · log(π / π_ref){per_token}, β = {train.beta:g}"),
            ("label smoothing", f"ε = {train.label_smoothing:g}" if train.label_smoothing else ""),
            ("reference π_ref", manifest.get("reference", recipe.reference)),
            ("SFT term", f"weight {train.sft_weight:g}" if train.sft_weight else ""),
        ]
    length = [
        ("batch", f"{train.batch_size} examples per update"),
        (
            "passes",
            f"{train.epochs:g} epoch{'s' * (train.epochs != 1)}"
            + (f", {train.max_steps} updates" * bool(train.max_steps)),
        ),
    ]
    if recipe.task == "ppo":
        length = ppo_card.length_rows(subject)
    rows = [
        ("base", f"`{subject.base}`{revision}, in {manifest.get('quantization', 'nf4')}"),
        ("data", f"{sources}: {data.get('examples', 0):,} examples"),
        ("data fingerprint", f"`{data.get('fingerprint')}`"),
        ("held out", held_out),
        *objective,
        ("adapter", adapter),
        ("learning rate", f"{train.lr:g}, {train.scheduler}, warm-up {train.warmup:.0%}"),
        *length,
        ("length", f"up to {data['max_length']:,} tokens" if data.get("max_length") else ""),
        ("seed", str(train.seed)),
        ("device", manifest.get("device", "")),
    ]
    table = "\n".join(f"| {name} | {_cell(value)} |" for name, value in rows if value)
    return (
        f"## Training\n\n| setting | value |\n| --- | --- |\n{table}\n\n"
        "All keys are in [recipe.yaml](recipe.yaml), which runs again with `dpo-lite train`."
    )


def _adapter_numbers(subject: Subject) -> str:
    config = read_json(subject.adapter / "adapter_config.json") or {}
    adapter = subject.recipe.adapter
    rank, alpha = config.get("r", adapter.r), config.get("lora_alpha", adapter.alpha)
    text = f"LoRA, rank {rank}, alpha {alpha}"
    start = subject.recipe.model.adapter
    if start:
        known = is_public(start)
        text += ", continued from " + (f"`{start}`" if known else "an earlier adapter")
    return text


def _source(name: str) -> str:
    """A source in words: a link where others can follow it, else its file name."""
    if name.startswith("builtin:"):
        return f"{name} (ships with dpo_lite)"
    if is_public(name):
        return f"[{name}](https://huggingface.co/datasets/{repository(name)})"
    return f"{name.replace(chr(92), '/').rpartition('/')[2]} (a file of the author)"


def _results(subject: Subject) -> str:
    sets = subject.results["sets"]
    rows = [
        f"| {_cell(name)} | {' | '.join(row)} |"
        for name, metrics in sets.items()
        for row in result_rows(metrics)
    ]
    curves = "![training curves](curves.png)"
    if rows:
        if subject.recipe.task == "reward":
            curves += "\n\n![calibration](calibration.png)"
        table, head = "\n".join(rows), table_head(subject.recipe.task)
        return (
            f"## Results on held-out data\n\n| {' | '.join(head)} |\n"
            f"|{' --- |' * len(head)}\n{table}\n\n{curves}"
        )
    measured: dict[str, Any] = subject.results.get("held_out") or subject.results.get("training")
    lines = [
        f"| {_cell(key)} | {value:.4g} |"
        for key, value in (measured or {}).items()
        if isinstance(value, float)
    ]
    if not lines:
        return curves
    table = "\n".join(lines)
    return f"## Measured\n\n| measure | value |\n| --- | --- |\n{table}\n\n{curves}"


def _samples(subject: Subject) -> str:
    pairs = sample_pairs(subject.run, SHOWN_SAMPLES) if subject.step is None else []
    if not pairs:
        return ""
    blocks = [
        f"{_fenced(prompt)}\n\nbefore\n\n{_fenced(before)}\n\nafter\n\n{_fenced(after)}"
        for prompt, before, after in pairs
    ]
    return "## Before and after\n\n" + "\n\n---\n\n".join(blocks)


def _use(subject: Subject, repo: str, own_tokenizer: bool) -> str:
    tokenizer = repo if own_tokenizer else subject.base
    if subject.recipe.task == "reward":
        return reward_card.use(subject, repo, tokenizer)
    return f"""## Use

```python
from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("{repo}", dtype="auto", device_map="auto")
tokenizer = AutoTokenizer.from_pretrained("{tokenizer}")
chat = [{{"role": "user", "content": "..."}}]
ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")
print(tokenizer.decode(model.generate(**ids.to(model.device), max_new_tokens=200)[0]))
```"""


def _versions(subject: Subject) -> str:
    manifest = subject.run.manifest()
    versions = {"dpo_lite": manifest.get("dpo_lite"), **manifest.get("versions", {})}
    named = ", ".join(f"{name} {number}" for name, number in versions.items() if number)
    return f"## Versions\n\n{named}"


def _limits(subject: Subject) -> str:
    likes = "The adapter prefers what its data prefer"
    if subject.recipe.task == "ppo":
        likes = ppo_card.LIKES
    text = (
        f"## Limits\n\n{likes}, and knows no facts that the base did not know. The numbers above "
        "were measured on the held-out data named above and say nothing about other data, other "
        "languages or safety. What the base must not be used for, this must not either."
    )
    reward = subject.recipe.task == "reward"
    if reward:
        text = reward_card.LIMITS
    if subject.recipe.model.quantization == "nf4":
        text += (
            f" It was trained over a base in 4 bits; over the 16-bit base its "
            f"{'rewards' if reward else 'answers'} differ a little."
        )
    return text


def _fenced(text: str) -> str:
    """Text that a model or a data set wrote, shown as it is: no Markdown, no HTML."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text.strip()}\n{fence}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
