"""A real model on a CPU: SmolLM2-135M-Instruct learns to answer briefly, from its own answers.

    python -m benchmarks.brief_answers WORK_FOLDER

The base answers 120 everyday questions at temperature 0.7; of each answer of two sentences or more
the first sentence is preferred to the whole. DPO trains on 90 of the questions in 4 bits, and the
greedy answers to 30 others are compared. Needs `python scripts/real_model.py` once.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import torch

from benchmarks.everyday import QUESTIONS
from dpo_lite.data.tokens import Encoder
from dpo_lite.model.base import load_base, load_tokenizer
from dpo_lite.model.generation import all_ends, sample_answers
from dpo_lite.recipe import ModelSection
from scripts.real_model import folder_of_model

HELD_OUT = 30
LONGEST = 96  # tokens of an answer
SENTENCE = re.compile(r"(?s)(.{15,}?[.!?])\s+(?=\S)")


def main() -> None:
    work = Path(sys.argv[1])
    work.mkdir(parents=True, exist_ok=True)
    pairs = work / "brief.jsonl"
    if not pairs.exists():
        pairs.write_text("".join(json.dumps(row) + "\n" for row in draw(QUESTIONS[:-HELD_OUT])))
    asked = json.dumps(QUESTIONS[-HELD_OUT:])
    recipe = Path(__file__).parent / "brief_answers.yaml"
    keys = [
        f"model.base={folder_of_model()}",
        f"data.train={pairs}",
        f"eval.prompts={asked}",
        f"eval.max_new_tokens={LONGEST}",
        f"run.folder={work / 'runs'}",
        "run.name=brief",
    ]
    subprocess.run([sys.executable, "-m", "dpo_lite", "train", str(recipe), *keys], check=True)
    report(work / "runs" / "brief" / "samples.jsonl")


def draw(questions: list[str]) -> list[dict[str, str]]:
    """Pairs from the base's own answers."""
    section = ModelSection(base=folder_of_model())
    model, tokenizer = load_base(section).eval(), load_tokenizer(section)
    encoder, rows = Encoder(tokenizer), []
    ends = all_ends(model, encoder)
    torch.manual_seed(0)
    with torch.no_grad():
        for question in questions:
            (ids,) = sample_answers(
                model,
                encoder.prompt_ids(question),
                1,
                max_new_tokens=LONGEST,
                temperature=0.7,
                top_p=1.0,
                ends=ends,
            )
            text = tokenizer.decode(ids, skip_special_tokens=True).strip()
            if first := SENTENCE.match(text):
                rows.append({"prompt": question, "chosen": first[1], "rejected": text})
    return rows


def report(samples: Path) -> None:
    """Words and whole endings of the greedy answers before and after."""
    records = [json.loads(line) for line in samples.read_bytes().splitlines()]
    for when in ("before", "after"):
        answers = [r["answer"] for r in records if r["when"] == when and r["set"] == "prompts"]
        words = sorted(len(answer.split()) for answer in answers)
        ended = sum(answer.rstrip().endswith((".", "!", "?")) for answer in answers)
        print(
            f"{when:<7} {len(answers)} answers, {sum(words) / len(words):.0f} words on average, "
            f"{words[len(words) // 2]} in the middle, {ended} end with a sentence"
        )


if __name__ == "__main__":
    main()
