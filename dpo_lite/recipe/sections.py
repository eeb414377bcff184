"""The sections of a recipe and their keys, each with the sentence that a user reads about it.

What concerns two sections at once is settled in ``schema``.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticKnownError

from dpo_lite.objectives.losses import LOSSES
from dpo_lite.recipe.one_of import OneOf

# The keys that most people change: a form shows them first and folds the rest.
COMMON = {"common": True}


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def yes_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads yes and no as true and false, which pydantic would take for 1 and 0."""
        wanted = str(cls.model_fields[info.field_name].annotation)
        if isinstance(value, bool) and "bool" not in wanted and re.search("int|float", wanted):
            raise PydanticKnownError("float_type")
        return value


class RunSection(Section):
    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Folder of the run under `run.folder`; default: the recipe's name, numbered.",
        json_schema_extra=COMMON,
    )
    folder: str = Field("runs", description="Where run folders are made.")


class ModelSection(Section):
    base: str = Field(
        min_length=1,
        description="Hub id, local folder or `builtin:myths`: the frozen base model.",
        json_schema_extra=COMMON,
    )
    revision: str | None = Field(None, description="Branch, tag or commit of the base on the Hub.")
    adapter: str | None = Field(
        None,
        description="A run's name, a folder or a Hub id: the LoRA adapter to continue, with its own"
        " rank, scale and layers; default: a fresh one.",
    )
    quantization: Literal["nf4", "none"] = Field(
        "nf4",
        description="`nf4`: 4-bit with double quantisation (QLoRA); `none`: 16-bit base.",
        json_schema_extra=COMMON,
    )
    embeddings: Literal["auto", "gpu", "cpu"] = Field(
        "auto",
        description="Where the input embedding lives; `cpu` frees 1 GiB of the card with an 8B base"
        " and is a little slower; `auto` does so where the run would not fit else.",
    )
    trust_remote_code: bool = Field(
        False, description="Run Python code that comes with the base. Only for a base you trust."
    )


class AdapterSection(Section):
    r: int = Field(
        16,
        ge=1,
        le=1024,
        description="LoRA rank: capacity of the adapter.",
        json_schema_extra=COMMON,
    )
    alpha: int = Field(
        32, ge=1, le=4096, description="LoRA scale: the update is multiplied by alpha / r."
    )
    targets: str | list[str] = Field(
        "all-linear", description="Layers that get an adapter: `all-linear` or names of modules."
    )
    extra_r: int = Field(
        0,
        ge=0,
        le=1024,
        description="With model.adapter: fresh ranks beside those it has; one adapter comes out.",
    )


class OneSource(Section):
    source: str = Field(description="A source as in `data.train`.")
    format: str | None = Field(
        None, description="As `data.format`, for this one; `raw` is for all sources."
    )
    columns: dict[str, str] | None = Field(None, description="As `data.columns`, for this one.")


class MixedSource(OneSource):
    weight: float | None = Field(
        None, gt=0, description="Share of this source relative to the others; default: all rows."
    )


class DataSection(Section):
    train: str | Annotated[list[str | MixedSource], Field(min_length=1)] = Field(
        description="File, folder[:split], Hub id `org/name[@revision][:config][:split]` or"
        " `builtin:myths`; or a list of such, or of {source, weight, format, columns}, of which no"
        " row is repeated.",
        json_schema_extra=COMMON,
    )
    eval: str | Annotated[list[str | OneSource], Field(min_length=1)] | None = Field(
        None,
        description="Held-out data: a source or a split of the first training source, or a list of"
        " such or of {source, format, columns}; default: the splits that come with it, else 5 % of"
        " the prompts.",
    )
    revision: str | None = Field(
        None, description="Branch, tag or commit of the data set on the Hub."
    )
    format: str = Field(
        "auto",
        description="`auto` recognises the format; a name from docs/data-formats.md settles it;"
        " `raw` (or `raw:name`) also skips the chat template.",
    )
    columns: dict[str, str] | None = Field(
        None, description="Our column names mapped to yours, for example {prompt: question}."
    )
    where: dict[str, str | float | bool] | None = Field(
        None,
        description="Keep only rows whose columns have these values, for example"
        ' {score_ratio: ">= 3", lang: English}.',
    )
    template: dict[str, Any] | None = Field(
        None,
        description="Further arguments of the chat template, for example {enable_thinking: false}.",
    )
    pairs: Literal["best_worst", "adjacent", "all", "keep", "best", "turns", "prompts"] = Field(
        "best_worst",
        description="How a ranking of more than two responses becomes training examples;"
        " `keep` leaves it whole (train.loss: plackett_luce). For task: sft `best` (its default)"
        " takes the best response alone, `turns` also every earlier turn of the assistant. For"
        " task: ppo it is `prompts`: answers in the data are not looked at.",
    )
    max_length: Annotated[int, Field(ge=8)] | Literal["auto"] = Field(
        "auto",
        description="Longest prompt + response in tokens; `auto`: the data's 99th percentile.",
        json_schema_extra=COMMON,
    )
    on_long: Literal["drop", "truncate_prompt_start", "error"] = Field(
        "drop", description="What happens to an example over `max_length` (counted either way)."
    )
    limit: int | None = Field(
        None,
        ge=1,
        description="Use only the first N rows per source.",
        json_schema_extra=COMMON,
    )

    @property
    def raw(self) -> bool:
        """Whether the chat template is skipped."""
        return self.format.partition(":")[0] == "raw"

    @property
    def sources(self) -> list[MixedSource]:
        """The training sources, with the section's format and columns where they have no own."""
        parts = [self.train] if isinstance(self.train, str) else self.train
        return [self._settled(part, MixedSource) for part in parts]

    @property
    def held_out(self) -> list[OneSource] | None:
        """The held-out sources in the same way; None where the recipe names none."""
        if self.eval is None:
            return None
        parts = [self.eval] if isinstance(self.eval, str) else self.eval
        return [self._settled(part, OneSource) for part in parts]

    def _settled(self, part: str | OneSource, kind: type[OneSource]) -> OneSource:
        name = (self.format.partition(":")[2] or "auto") if self.raw else self.format
        own = {"source": part} if isinstance(part, str) else part.model_dump(exclude_none=True)
        return kind(**{"format": name, "columns": self.columns, **own})


class TrainSection(Section):
    loss: Annotated[str, OneOf(LOSSES)] = Field(
        "sigmoid",
        description="`sigmoid` is DPO, `sigmoid_norm` DPO per token, `robust` for wrong labels;"
        " `plackett_luce` ranks K responses; see docs/concepts.md.",
        json_schema_extra=COMMON,
    )
    beta: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        "auto",
        description="Strength of the pull to the reference: higher moves less. What it multiplies"
        " depends on the loss; `auto`: 0.1, and 5 for `sigmoid_norm`. For task: ppo the price of"
        " the KL in units of reward.",
        json_schema_extra=COMMON,
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=0.5,
        description="Share of pairs that may be the wrong way round: with `sigmoid` margins are"
        " kept small (conservative DPO), with `robust` the bias is taken out.",
    )
    sft_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of an extra term that holds up the likelihood of the chosen response,"
        " per token; above 0 it keeps the text fluent when `logps/chosen` falls.",
    )
    centering: float | None = Field(
        None,
        ge=0,
        description="For task: reward: weight of the penalty (r_chosen + r_rejected)^2, which keeps"
        " the rewards around 0; default: 0.01.",
    )
    lr: float = Field(5e-6, gt=0, lt=1, description="Peak learning rate.", json_schema_extra=COMMON)
    scheduler: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="How the learning rate falls after the warm-up."
    )
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of the updates spent warming up.")
    batch_size: int = Field(
        16,
        ge=1,
        description="Examples per update. How they are split to fit in memory is the program's"
        " business and never changes the result.",
        json_schema_extra=COMMON,
    )
    epochs: float = Field(
        1.0, gt=0, description="Passes over the training data.", json_schema_extra=COMMON
    )
    max_steps: int | None = Field(None, ge=1, description="Stop after so many updates.")
    save_steps: int = Field(100, ge=1, description="Write a checkpoint every N updates.")
    eval_steps: int | None = Field(
        None, ge=1, description="Evaluate every N updates; default: only at the start and the end."
    )
    seed: int = Field(42, ge=0, description="Seed of the adapter's start, the order and sampling.")
    engine: Literal["dpo_lite", "trl"] = Field(
        "dpo_lite", description="`trl` runs the same recipe through TRL's DPOTrainer."
    )
    optimizer: Literal["auto", "adamw", "adamw_8bit"] = Field(
        "auto",
        description="`adamw_8bit` keeps the optimiser's state in 8 bits; `auto` does so where the"
        " run would not fit else, and writes what it took into the run's recipe.",
    )
    weight_decay: float = Field(0.0, ge=0, description="Decoupled weight decay of AdamW.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradients are clipped to this norm.")
    token_budget: Annotated[int, Field(ge=64)] | Literal["auto"] = Field(
        "auto",
        description="Tokens per packed micro-batch: lower needs less memory, the result is equal.",
    )
    checkpointing: bool | Literal["auto", "selective", "offload"] = Field(
        "auto",
        description="Compute activations again in the backward pass: less memory, slower. `true`:"
        " all of every layer; `selective`: all but the products; `offload`: all, and the layers'"
        " inputs wait in the host's memory; `auto`: as little as fits.",
    )
    reference_cache: bool = Field(
        True,
        description="Remember the reference's log-probabilities on disk: later epochs, evaluations"
        " and runs on the same base and data do not compute them again.",
    )

    @model_validator(mode="after")
    def settle_beta(self) -> TrainSection:
        if self.beta == "auto":
            self.beta = LOSSES[self.loss].beta
        return self

    @property
    def objective(self) -> str:
        """The loss with its numbers, in words."""
        extra = f", label smoothing {self.label_smoothing:g}" if self.label_smoothing else ""
        extra += f", SFT weight {self.sft_weight:g}" if self.sft_weight else ""
        return f"{self.loss}, beta {self.beta:g}{extra}"


class PPOSection(Section):
    reward: str | None = Field(
        None,
        description="What answers are rewarded by: a reward run's name, the folder or Hub id of its"
        " adapter, or `file.py:function`, called with prompts and completions.",
        json_schema_extra=COMMON,
    )
    estimator: Literal["ppo", "rloo"] = Field(
        "ppo",
        description="Where advantages come from: `ppo` trains a value adapter beside the policy,"
        " `rloo` compares several answers to one prompt.",
        json_schema_extra=COMMON,
    )
    answers: int | None = Field(
        None, ge=1, description="Answers drawn per prompt; default: 1, and 4 for `rloo`."
    )
    max_new_tokens: int = Field(
        64, ge=1, description="Longest answer drawn, in tokens.", json_schema_extra=COMMON
    )
    passes: int = Field(
        2, ge=1, description="Passes over the drawn answers before new ones are drawn."
    )
    minibatch: int = Field(32, ge=1, description="Answers per step of the optimiser.")
    clip: float = Field(
        0.2, gt=0, lt=1, description="How far a probability may move, as a ratio, per rollout."
    )
    value_clip: float | None = Field(
        None,
        gt=0,
        description="How far a value may move per rollout, in units of reward, before its loss is"
        " clipped; default: as far as it likes.",
    )
    value_lr: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Peak learning rate of the value function; default: train.lr. It may be ten"
        " times as high, more so where the value function starts fresh.",
    )
    gamma: float = Field(1.0, gt=0, le=1, description="Discount per token.")
    lam: float = Field(
        0.95,
        ge=0,
        le=1,
        description="GAE's lambda: 1 trusts the rewards that followed, 0 the values.",
    )
    whiten_rewards: bool = Field(
        False, description="Scale the rewards of a rollout to unit variance before advantages."
    )
    no_end_penalty: float = Field(
        1.0, ge=0, description="Taken off the reward of an answer that did not come to its end."
    )
    kl_target: float | None = Field(
        None,
        gt=0,
        description="Nats per answer that the KL is steered to by changing beta, at most 2 % per"
        " rollout; default: beta stays as it is.",
    )


Keys = dict[str, Any]


class RLHFSection(Section):
    sft: Keys = Field(
        default_factory=dict, description="Keys of the step SFT, as in {train: {epochs: 1}}."
    )
    reward: Keys = Field(default_factory=dict, description="Keys of the reward model's step.")
    ppo: Keys = Field(default_factory=dict, description="Keys of the steps of PPO.")
    dpo: Keys = Field(default_factory=dict, description="Keys of the steps of DPO.")
    ppo_betas: list[Annotated[float, Field(gt=0)]] = Field(
        [0.1],
        description="PPO is run once with each: a point on its frontier.",
        json_schema_extra=COMMON,
    )
    dpo_betas: list[Annotated[float, Field(gt=0)]] = Field(
        [0.1],
        description="DPO is run once with each: a point on its frontier.",
        json_schema_extra=COMMON,
    )
    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        [42],
        min_length=1,
        description="All steps are run once with each.",
        json_schema_extra=COMMON,
    )
    answers: int = Field(
        2, ge=1, description="Answers drawn per held-out prompt to measure reward and KL."
    )


class EvalSection(Section):
    prompts: list[str] = Field(
        default_factory=list,
        description="Prompts answered before and after the training; default: some held-out ones.",
        json_schema_extra=COMMON,
    )
    max_new_tokens: int = Field(64, ge=1, description="Longest generated answer, in tokens.")
    generate: int = Field(
        8,
        ge=0,
        description="Answers sampled per held-out set before and after (all rows where the data"
        " has markers that tell good answers from bad).",
    )
    sample_steps: int | None = Field(
        None,
        ge=1,
        description="Every N updates answer the prompts and estimate the KL to the reference from"
        " sampled answers; default: never while training.",
    )
    limit: int | None = Field(None, ge=1, description="Use at most N rows of each held-out set.")


class HubSection(Section):
    repo: str | None = Field(
        None,
        pattern=r"^[\w.-]+/[\w.-]+$",
        description="user/name on the Hub: the default of `push`.",
    )
    private: bool = Field(True, description="Whether `push` creates a private repository.")
    push: Literal["end", "checkpoints"] | None = Field(
        None,
        description="Publish while training: at the `end`, or also at all `checkpoints`; default:"
        " only by the command `push`.",
    )
    base_id: str | None = Field(
        None, description="The base's id on the Hub, where model.base is a folder."
    )
