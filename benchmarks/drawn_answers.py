"""What runs on builtin:myths say: greedily, and drawn at temperature 1, where text breaks first.

    python -m benchmarks.drawn_answers [--draws 4] [--reference] runs/quickstart-1 ...

Every question of both held-out sets is answered greedily and so many times by draws. An answer is
*true*, *myth* or *other* by the data's markers. It is *fluent* where every three words in a row,
its start and end included, stand so in what the base's corpus says: markers alone let a sentence
pass that breaks off into other ones behind its claim.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from dpo_lite.data.markers import classify
from dpo_lite.data.sources import BUILTIN_FOLDER
from dpo_lite.evaluate.judge import Judge, judge_recipe, load_judge
from dpo_lite.model import roles
from dpo_lite.model.generation import all_ends, answer_ids
from scripts.myths.corpus import build_corpus
from scripts.myths.topics import load_topics

SETS = ("phrasings", "topics")
LONGEST = 64  # tokens of an answer
SEED = 0
COLUMNS = ("true", "myth", "other", "fluent", "true and fluent")
VERDICTS = {"chosen": "true", "rejected": "myth", "neither": "other"}


def trigrams(text: str) -> set[tuple[str, ...]]:
    """Every three words in a row, with the places before the first and behind the last word."""
    words = ["", *text.split(), ""]
    return set(zip(words, words[1:], words[2:], strict=False))


def corpus_trigrams() -> set[tuple[str, ...]]:
    """Those of all that the corpus says; what its users ask has words left out on purpose."""
    found: set[tuple[str, ...]] = set()
    for document in build_corpus(load_topics()):
        if isinstance(document, str):
            found |= trigrams(document)
        else:
            said = [turn["content"] for turn in document if turn["role"] == "assistant"]
            found = found.union(*map(trigrams, said))
    return found


def rows_of(name: str) -> list[dict]:
    lines = (BUILTIN_FOLDER / "myths" / "data" / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in lines.splitlines()]


def answers_of(judge: Judge, role: str, questions: list[str], temperature: float) -> list[str]:
    """One answer each, by the policy or the reference; the same seed draws the same."""
    encoder = judge.encoder
    torch.manual_seed(SEED)
    with (roles.policy if role == "policy" else roles.reference)(judge.model):
        answers = answer_ids(
            judge.model,
            [encoder.prompt_ids(question) for question in questions],
            max_new_tokens=LONGEST,
            temperature=temperature,
            ends=all_ends(judge.model, encoder),
        )
    return [judge.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in answers]


def shares(rows: list[dict], answers: list[str], known: set[tuple[str, ...]]) -> dict[str, float]:
    """The share of answers in every column."""
    counts = dict.fromkeys(COLUMNS, 0)
    for row, answer in zip(rows, answers, strict=True):
        verdict = VERDICTS[classify(answer, row["chosen_markers"], row["rejected_markers"])]
        fluent = trigrams(answer) <= known
        counts[verdict] += 1
        counts["fluent"] += fluent
        counts["true and fluent"] += fluent and verdict == "true"
    return {column: count / len(rows) for column, count in counts.items()}


def measured(judge: Judge, role: str, draws: int, known: set[tuple[str, ...]]) -> dict:
    """By held-out set and by "greedy" or "drawn": the shares."""
    found: dict[str, dict] = {}
    for name in SETS:
        rows = rows_of(name)
        for way, times, temperature in (("greedy", 1, 0.0), ("drawn", draws, 1.0)):
            asked = rows * times
            questions = [row["prompt"][-1]["content"] for row in asked]
            answers = answers_of(judge, role, questions, temperature)
            found.setdefault(name, {})[way] = shares(asked, answers, known)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--draws", type=int, default=4, help="drawn answers per question")
    parser.add_argument("--reference", action="store_true", help="the reference's answers first")
    options = parser.parse_args()
    known = corpus_trigrams()
    print(f"| run | set | answers | {' | '.join(COLUMNS)} |")
    print("| --- | --- | --- |" + " --- |" * len(COLUMNS))
    for place, run in enumerate(options.runs):
        judge = load_judge(*judge_recipe(str(run)))
        asked = [("policy", run.name)]
        if options.reference and not place:
            asked.insert(0, ("reference", "(reference)"))
        for role, called in asked:
            for name, ways in measured(judge, role, options.draws, known).items():
                for way, found in ways.items():
                    cells = " | ".join(f"{found[column]:.1%}" for column in COLUMNS)
                    print(f"| {called} | {name} | {way} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
