"""Every preference loss, registered once: function, default of beta, formula, source.

Whoever asks something of a loss (the recipe which there are, the preflight how many responses it
takes, the card its formula) asks here. No torch in this file: the page reads it too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import signature
from pkgutil import resolve_name
from typing import Any, Literal

HERE = "dpo_lite.objectives.preference:"


@dataclass(frozen=True)
class Loss:
    """A loss by the name that ``train.loss`` gives it.

    ``function``: takes the rewards (E, K) of E examples, best response first, and whatever it names
    of ``lengths`` (E, K), ``beta``, ``label_smoothing`` and its ``options``, which are keys of
    train of its own and what `auto` is there; returns (E,). As ``module:name`` it is imported when
    it is first called. K is 2 unless the loss is ``listwise``.
    """

    name: str
    function: str | Callable[..., Any]
    formula: str
    source: str
    beta: float = 0.1  # what `train.beta: auto` is
    sft_weight: float = 0.0  # what `train.sft_weight: auto` is
    options: Mapping[str, float] = field(default_factory=dict)
    per_token: bool = False  # whether a reward is the mean over the response's tokens, not the sum
    listwise: bool = False  # whether it takes a whole ranking of K responses
    reference_free: bool = False  # whether its reward is beta log pi, with nothing to compare with
    smoothing: Literal["none", "optional", "required"] = "none"  # train.label_smoothing
    logistic: bool = False  # -log sigma(margin) at heart: ln 2 for who cannot tell a pair apart
    reward_model: str = ""  # the ranking that a reward model is trained by with it, and its source
    trl: bool = False  # whether TRL's DPOTrainer has the same under this name
    trl_smooths: bool = False  # and also its smoothed labels

    def __call__(self, rewards: Any, **others: Any) -> Any:
        """(E, K) -> (E,); ``others`` are lengths, beta, label_smoothing and options of all losses,
        taken if named."""
        function = self.function
        if isinstance(function, str):
            function = resolve_name(function)
        takes = signature(function).parameters
        return function(rewards, **{k: v for k, v in others.items() if k in takes})

    @property
    def ranking(self) -> str:
        """The model of preferences that a reward model is trained by with it."""
        return self.reward_model.partition(";")[0]


class Registry(dict[str, Loss]):
    """Losses by name. A sum of some (dpo_lite.objectives.sums) is made when it is asked for."""

    def __missing__(self, name: str) -> Loss:
        from dpo_lite.objectives.sums import sum_named

        if "+" not in name and " " not in name:
            raise KeyError(name)
        return sum_named(name)


LOSSES = Registry()


def register(*losses: Loss) -> None:
    LOSSES.update({loss.name: loss for loss in losses})


register(
    Loss(
        "sigmoid",
        HERE + "sigmoid_loss",
        "−log σ(r_chosen − r_rejected)",
        "DPO, arXiv:2305.18290, Eq. 7",
        smoothing="optional",
        logistic=True,
        reward_model="Bradley-Terry; InstructGPT, arXiv:2203.02155",
        trl=True,
    ),
    Loss(
        "sigmoid_norm",
        HERE + "sigmoid_loss",
        "−log σ(r_chosen − r_rejected), r per token",
        "length-normalised DPO, Tülu 3, arXiv:2411.15124",
        beta=5.0,  # it multiplies the log-ratio of a token
        per_token=True,
        logistic=True,
        trl=True,
    ),
    Loss(
        "robust",
        HERE + "robust_loss",
        "[(1 − ε)·ℓ(m) − ε·ℓ(−m)] / (1 − 2ε), ℓ(m) = −log σ(m), m = r_chosen − r_rejected",
        "robust DPO, arXiv:2403.00409",
        smoothing="required",
        trl=True,
        trl_smooths=True,
    ),
    Loss(
        "ipo",
        HERE + "ipo_loss",
        "(h_chosen − h_rejected − 1/(2β))², h = log π/π_ref per token",
        "IPO, arXiv:2310.12036, Eq. 17",
        trl=True,
    ),
    Loss(
        "hinge",
        HERE + "hinge_loss",
        "max(0, 1 − (r_chosen − r_rejected))",
        "SLiC-HF, arXiv:2305.10425",
        trl=True,
    ),
    Loss(
        "apo_zero",
        HERE + "apo_zero_loss",
        "1 − σ(r_chosen) + σ(r_rejected)",
        "APO-zero, arXiv:2408.06266",
        trl=True,
    ),
    Loss(
        "apo_down",
        HERE + "apo_down_loss",
        "σ(r_chosen) + 1 − σ(r_chosen − r_rejected)",
        "APO-down, arXiv:2408.06266",
        trl=True,
    ),
    Loss(
        "bco_pair",
        HERE + "bco_pair_loss",
        "−log σ(r_chosen) − log σ(−r_rejected)",
        "BCO, arXiv:2404.04656, of pairs, without its shift; MPO's quality loss, arXiv:2411.10442",
        trl=True,
    ),
    Loss(
        "dpop",
        HERE + "dpop_loss",
        "−log σ(r_chosen − r_rejected − λ·max(0, −r_chosen))",
        "DPO-Positive, Smaug, arXiv:2402.13228, Eq. 3",
        beta=0.3,
        options={"dpop_lambda": 50.0},
    ),
    Loss(
        "simpo",
        HERE + "simpo_loss",
        "−log σ(r_chosen − r_rejected − γ), r per token",
        "SimPO, arXiv:2405.14734, Eq. 6",
        beta=2.0,
        per_token=True,
        reference_free=True,
        options={"simpo_gamma": 1.0},
    ),
    Loss(
        "cpo",
        HERE + "sigmoid_loss",
        "−log σ(r_chosen − r_rejected)",
        "CPO, arXiv:2401.08417, Eq. 4",
        sft_weight=1.0,
        reference_free=True,
        smoothing="optional",
    ),
    Loss(
        "orpo",
        HERE + "orpo_loss",
        "−β·log σ(log odds_chosen − log odds_rejected), odds = p/(1 − p) of p = exp(r/β)",
        "ORPO, arXiv:2403.07691, Eq. 7",
        sft_weight=1.0,
        per_token=True,
        reference_free=True,
    ),
    Loss(
        "plackett_luce",
        HERE + "plackett_luce_loss",
        "−Σ_k [r_k − log Σ_{j≥k} exp r_j], best first",
        "DPO, arXiv:2305.18290, Appendix A.3",
        listwise=True,
        reward_model="Plackett-Luce",
    ),
)
