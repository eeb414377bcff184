"""The section that says what an update is, and which one is the last."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from dpo_lite.bounded import MAX_COUNT, MAX_SEED
from dpo_lite.objectives.losses import LOSSES
from dpo_lite.objectives.sums import SFT, parts_of, written
from dpo_lite.recipe.kinds import MAX_UPDATES, TINY
from dpo_lite.recipe.one_of import OneOrSum, is_sum
from dpo_lite.recipe.sections import COMMON, Section


class TrainSection(Section):
    loss: Annotated[str, OneOrSum(LOSSES)] = Field(
        "sigmoid",
        description="`sigmoid` is DPO, `sigmoid_norm` DPO per token, `robust` for wrong labels;"
        " `simpo`, `cpo` and `orpo` need no reference; `plackett_luce` ranks K responses; a sum is"
        " `{sigmoid: 0.8, bco_pair: 0.2, sft: 1}`; see docs/concepts.md.",
        json_schema_extra=COMMON,
    )
    beta: Annotated[float, Field(ge=TINY, le=1000)] | Literal["auto"] = Field(
        "auto",
        description="Strength of the pull to the reference: higher moves less. What it multiplies"
        " depends on the loss, and so does `auto`: 0.1 for most, see docs/concepts.md. For task:"
        " ppo the price of the KL in units of reward.",
        json_schema_extra=COMMON,
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=0.5,
        description="Share of pairs that may be the wrong way round: with `sigmoid` margins are"
        " kept small (conservative DPO), with `robust` the bias is taken out.",
    )
    sft_weight: Annotated[float, Field(ge=0, le=1e4)] | Literal["auto"] = Field(
        "auto",
        description="Weight of an extra term that holds up the likelihood of the chosen response,"
        " per token; above 0 it keeps the text fluent when `logps/chosen` falls. `auto`: 0, and 1"
        " for `cpo` and `orpo`, of which it is a part.",
    )
    simpo_gamma: Annotated[float, Field(ge=0, le=1000)] | Literal["auto"] = Field(
        "auto", description="Margin of rewards that `simpo` asks for; `auto`: 1."
    )
    dpop_lambda: Annotated[float, Field(ge=0, le=1e6)] | Literal["auto"] = Field(
        "auto",
        description="What `dpop` lets a nat cost that the chosen response loses; `auto`: 50.",
    )
    ld_alpha: float | None = Field(
        None,
        ge=0,
        le=1,
        description="What a token counts for that stands behind the shorter answer's length"
        " (LD-DPO): less than 1 takes length out of the comparison; default: 1, plain DPO.",
    )
    dynamic_beta: float | None = Field(
        None,
        ge=TINY,
        le=100,
        description="How much beta follows an update's pairs (beta-DPO, 0.6 there): beta times 1 +"
        " this times (mean margin less its moving mean). One more pass per update without a"
        " gradient. Default: beta stays as it is.",
    )
    centering: float | None = Field(
        None,
        ge=0,
        le=1e4,
        description="For task: reward: weight of the penalty (r_chosen + r_rejected)^2, which keeps"
        " the rewards around 0; default: 0.01.",
    )
    desirable_weight: Annotated[float, Field(ge=TINY, le=1e6)] | Literal["auto"] | None = Field(
        None,
        description="For task: kto: weight of a good answer's loss. `auto`, the default: 1, and"
        " more where good answers are so few that both kinds would not weigh about alike.",
    )
    undesirable_weight: Annotated[float, Field(ge=TINY, le=1e6)] | Literal["auto"] | None = Field(
        None, description="For task: kto: the same of a bad answer."
    )
    lr: float = Field(
        5e-6, ge=1e-12, lt=1, description="Peak learning rate.", json_schema_extra=COMMON
    )
    scheduler: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="How the learning rate falls after the warm-up."
    )
    warmup: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Share of the updates spent warming up: from a part"
        " of `lr` above 0 to all of it.",
    )
    batch_size: int = Field(
        16,
        ge=1,
        le=10**6,
        description="Examples per update. How they are split to fit in memory is the program's"
        " business and never changes the result.",
        json_schema_extra=COMMON,
    )
    epochs: float = Field(
        1.0,
        ge=1e-6,
        le=10_000,
        description="Passes over the training data.",
        json_schema_extra=COMMON,
    )
    max_steps: int | None = Field(
        None, ge=1, le=MAX_UPDATES, description="Stop after so many updates."
    )
    save_steps: int = Field(
        100, ge=1, le=MAX_COUNT, description="Write a checkpoint every N updates."
    )
    eval_steps: int | None = Field(
        None,
        ge=1,
        le=MAX_COUNT,
        description="Evaluate every N updates; default: only at the start and the end.",
    )
    seed: int = Field(
        42, ge=0, le=MAX_SEED, description="Seed of the adapter's start, the order and sampling."
    )
    keep: Literal["last", "best"] = Field(
        "last",
        description="Which update's adapter is the result: the `last` one's, or that of the `best`"
        " evaluation by held-out data, which needs `train.eval_steps`.",
    )
    keep_by: Literal["loss", "accuracy", "margin", "reward"] | None = Field(
        None,
        description="What the best evaluation is best by, over all held-out sets together: `loss`,"
        " `accuracy`, `margin`, or the drawn answers' `reward`; default: `reward` for task: ppo,"
        " else `loss`.",
    )
    patience: int | None = Field(
        None,
        ge=1,
        le=MAX_COUNT,
        description="With train.keep: best: end after so many evaluations in a row without a"
        " better one; default: train to the end.",
    )
    kl_budget: float | None = Field(
        None,
        ge=1e-6,
        le=1e6,
        description="End when the policy has moved further than so many nats per answer from its"
        " reference, measured every `train.eval_steps` on answers that it draws; what is kept was"
        " within the budget. Default: none.",
    )
    engine: Literal["dpo_lite", "trl"] = Field(
        "dpo_lite", description="`trl` runs the same recipe through TRL's DPOTrainer."
    )
    optimizer: Literal["auto", "adamw", "adamw_8bit"] = Field(
        "auto",
        description="`adamw_8bit` keeps the optimiser's state in 8 bits; `auto` does so where the"
        " run would not fit else, and writes what it took into the run's recipe.",
    )
    weight_decay: float = Field(0.0, ge=0, le=1000, description="Decoupled weight decay of AdamW.")
    max_grad_norm: float = Field(
        1.0, ge=TINY, le=1e12, description="Gradients are clipped to this norm."
    )
    token_budget: Annotated[int, Field(ge=64, le=MAX_COUNT)] | Literal["auto"] = Field(
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

    @model_validator(mode="before")
    @classmethod
    def settle_sum(cls, values: Any) -> Any:
        """Of a sum with `sft` among its parts, that one's weight is sft_weight."""
        loss = values.get("loss") if isinstance(values, dict) else None
        if not is_sum(loss):
            return values
        parts = parts_of(loss)
        own = {SFT: parts.pop(SFT)} if SFT in parts else {}
        if own and values.get("sft_weight", "auto") != "auto":
            raise ValueError("train.sft_weight and sft in train.loss are one weight; give one")
        sft = {"sft_weight": own[SFT]} if own else {}
        return values | {"loss": written(parts)} | sft

    @model_validator(mode="after")
    def settle_numbers(self) -> TrainSection:
        loss = LOSSES[self.loss]
        for key, value in {
            "beta": loss.beta,
            "sft_weight": loss.sft_weight,
            **loss.options,
        }.items():
            if getattr(self, key) == "auto":
                setattr(self, key, value)
        for other in LOSSES.values():
            for key in other.options.keys() - loss.options.keys():
                if getattr(self, key, "auto") != "auto":
                    raise ValueError(f"{key} goes with loss: {other.name}")
        return self

    @property
    def looks(self) -> bool:
        """Whether evaluations while training decide what is kept, or when it ends."""
        return self.keep == "best" or self.kl_budget is not None

    @property
    def loss_options(self) -> dict[str, float]:
        """The numbers that this loss alone has."""
        return {key: getattr(self, key) for key in LOSSES[self.loss].options}

    @property
    def objective(self) -> str:
        """The loss with its numbers, in words."""
        extra = f", label smoothing {self.label_smoothing:g}" if self.label_smoothing else ""
        extra += f", SFT weight {self.sft_weight:g}" if self.sft_weight else ""
        own = "".join(f", {key} {value:g}" for key, value in self.loss_options.items())
        moves = f" (moves by {self.dynamic_beta:g})" if self.dynamic_beta else ""
        extra += f", ld_alpha {self.ld_alpha:g}" if self.ld_alpha is not None else ""
        return f"{self.loss}, beta {self.beta:g}{moves}{own}{extra}"
