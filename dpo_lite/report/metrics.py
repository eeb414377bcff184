"""What is measured while training: each metric in plain words, and held-out ones by their set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dpo_lite.rates import LOGGED_OF, logged_rate

NONE = "–"
PART = re.compile(r"eval_(.+)_(rewards/[^/]+/mean)")  # of several rewards one
METRICS = {
    "loss": "What is minimised. DPO starts at ln 2 = 0.693, where policy and reference are equal; "
    "so does a reward model, whose rewards are all 0. Lower means that the chosen answers win by "
    "more. Near zero the pairs are learned by heart. Of PPO it says little: every rollout has a "
    "loss of its own.",
    "rewards/margins": "Reward of the chosen answer minus that of the rejected one, on average: "
    "how far the model tells them apart. It starts at 0 and should grow, then flatten. A policy's "
    "reward is implicit, a reward model's is what its head says.",
    "rewards/accuracies": "Share of pairs whose chosen answer has the higher reward; ties "
    "are left out. 0.5 is a coin; 0.6 to 0.8 on held-out data is common, as people disagree.",
    "pairs": "How many pairs an accuracy is of: those of an update or a held-out set, less ties.",
    "rewards/chosen": "Of a policy beta · (log π − log π_ref) of the chosen answer: how much "
    "likelier it is than under the reference. It often falls below 0, as only the margin is "
    "trained. Of a reward model what its head says of the chosen answer, kept around 0 by "
    "train.centering.",
    "rewards/rejected": "The same for the rejected answer. It should fall, and a policy's faster "
    "than that of the chosen one.",
    "logps/chosen": "Log-probability of the whole chosen answer under the policy, in nats. Long "
    "answers have lower ones. A steep fall means that also good text gets unlikely.",
    "logps/rejected": "The same for the rejected answer.",
    "kl/sampled": "Of KTO: what `kl` is of other tasks, from answers that the policy itself draws.",
    "kl": "How far the policy has moved from the reference, in nats per answer: log π − log π_ref "
    "averaged over answers that the policy itself draws. An estimate from a few answers; noisy. Of "
    "KTO the reference point z0: the same mean over an update's prompts with answers to other "
    "ones, and never below 0.",
    "reward": "Of PPO: what the reward model or function gives the drawn answers, on average over "
    "a rollout. It should rise, and then flatten.",
    "rewards/<name>/mean": "Of several rewards (ppo.reward) one alone, before its weight, on "
    "average over a rollout; `rewards/<name>/std` how far it lies apart. One that rises while the "
    "others fall is what the policy found easiest: change the weights.",
    "judge/unread": "Share of the answers whose judge's reply held no score; they count as the "
    "mean of the others. The replies stand in the run's `judge/rewards.jsonl`.",
    "frac_reward_zero_std": "Prompts whose answers all earned the same: they teach nothing. "
    "Near 1, take harder or easier prompts, or a reward that tells answers apart.",
    "reward_std": "How far the rewards of one rollout lie apart. Where all answers earn the same "
    "there is nothing to learn from.",
    "objective": "What PPO maximises: reward − beta · KL, after what answers without an end cost.",
    "beta": "The price of the KL in units of reward. It changes only where ppo.kl_target steers "
    "it, or train.dynamic_beta lets it follow an update's pairs.",
    "loss/policy": "PPO's clipped surrogate, a mean over the tokens (of RLOO the answers) of a "
    "rollout. It stays near 0 and tells little: look at the reward.",
    "loss/value": "How far the value function is from the rewards that followed. It should fall "
    "at first; RLOO has none.",
    "clip_fraction": "Share of the tokens (of RLOO the answers) whose probability moved further in "
    "one rollout than ppo.clip lets count. Some per cent are usual, above a third the steps are "
    "too large.",
    "entropy": "How unsure the policy is of a token, in nats. A slow fall is normal; near 0 it "
    "says the same again and again and finds nothing better.",
    "completions/mean_length": "Tokens of a drawn answer. A steady climb may be a reward that "
    "likes length.",
    "completions/ended": "Share of the drawn answers that came to their end within "
    "ppo.max_new_tokens.",
    "truthful": "Share of the answers drawn to held-out prompts that make the chosen claim, where "
    "the data have markers. It should rise with the reward: else the reward is being tricked.",
    "prompts": "How many held-out prompts the drawn answers are to.",
    "seconds/drawing": "Time of a rollout that drawing its answers took, usually the most.",
    "seconds/judging": "Time for the rewards and log-probabilities of the answers.",
    "seconds/learning": "Time for the steps of the optimiser.",
    "learning_rate": "The size of the steps: it rises during the warm-up and then falls as "
    "train.scheduler says.",
    "grad_norm": "Length of the gradient before it is cut to train.max_grad_norm. Single spikes do "
    "no harm; a steady climb is not.",
    "loss_scale": "On a card without bf16 of its own: by what the loss is multiplied so that fp16 "
    "holds its gradient. Halved where that overflows.",
    "skipped": "How many updates of the run changed nothing, as their gradient was too large for "
    "fp16. A few at the start are usual.",
    "memory": "What the process holds, in GiB: of the GPU where there is one, else of the machine.",
}


@dataclass(frozen=True)
class Number:
    """A number of status.json as a column of the table of runs."""

    key: str
    label: str
    digits: int


NUMBERS = (
    Number("loss", "loss", 3),
    Number("margin", "margin", 2),
    Number("accuracy", "accuracy", 2),
    Number("reward", "reward", 2),
    Number("kl", "KL", 2),
)


def columns_of(statuses: Iterable[Mapping[str, Any]]) -> list[Number]:
    """The numbers that some of the runs have, and those of DPO where there are none yet."""
    listed = list(statuses)
    has = [n for n in NUMBERS if any(number_text(status, n) != NONE for status in listed)]
    return has or list(NUMBERS[:3])


def number_text(status: Mapping[str, Any], number: Number) -> str:
    """A run's number as text, an accuracy with the pairs of its update.

    The loss of PPO says nothing and is not shown.
    """
    value = status.get(number.key)
    if value is None or (number.key == "loss" and status.get("reward") is not None):
        return NONE
    pairs = status.get("pairs") if number.key == "accuracy" else None
    return f"{value:.{number.digits}f}" + ("" if pairs is None else f" of {pairs:,}")


def measured_text(record: Mapping[str, Any], key: str) -> str:
    """A number of a line of metrics.jsonl as text, a share with what it is of."""
    _, metric = split_eval(key) or ("", key)
    if metric not in LOGGED_OF:
        return f"{record[key]:.4g}"
    rate = logged_rate(record, metric, key.removesuffix(metric))
    return NONE if rate is None else rate.words(1)


def split_eval(key: str) -> tuple[str, str] | None:
    """``eval_<set>_<metric>`` as (set, metric), for the metrics that are known here."""
    if not key.startswith("eval_"):
        return None
    for metric in METRICS:
        if key.endswith(f"_{metric}") and len(key) > len(f"eval__{metric}"):
            return key[5 : -len(metric) - 1], metric
    part = PART.fullmatch(key)
    return (part[1], part[2]) if part else None
