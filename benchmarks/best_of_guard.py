"""What best-of ranks first, without and with its guard, on the held-out topics of builtin:myths.

    python -m benchmarks.best_of_guard [--seeds 4] [--n 8] runs/quickstart-1 ...

The policy answers one question of every topic that it was not trained on. Word salad has more than
three triples of words that the base's corpus has nowhere (one wrong joint makes two), a fluent
answer none; see drawn_answers.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from benchmarks.drawn_answers import corpus_trigrams, rows_of, trigrams
from dpo_lite.data.markers import classify
from dpo_lite.evaluate.best_of import best_of
from dpo_lite.evaluate.judge import judge_recipe, load_judge

SALAD = 3  # unknown triples; more are salad
COLUMNS = ("fluent", "salad", "true")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--seeds", type=int, default=4, help="rankings per question")
    parser.add_argument("--n", type=int, default=8, help="answers per ranking")
    options = parser.parse_args()
    known = corpus_trigrams()
    rows = list({row["topic"]: row for row in reversed(rows_of("topics"))}.values())
    for run in options.runs:
        judge = load_judge(*judge_recipe(str(run)))
        first: dict[str, Counter[str]] = {"without": Counter(), "with": Counter()}
        drawn, kept, rankings = Counter(), Counter(), 0
        for row in rows:
            for seed in range(options.seeds):
                question = row["prompt"][-1]["content"]
                ranked = best_of(judge, question, options.n, role="policy", seed=seed)
                markers = row["chosen_markers"], row["rejected_markers"]
                kinds = {}
                for answer in ranked:
                    unknown = len(trigrams(answer.text) - known)
                    kind = {"fluent"} if not unknown else {"salad"} if unknown > SALAD else set()
                    kind |= {"true"} if classify(answer.text, *markers) == "chosen" else set()
                    kinds[answer.text] = kind
                    drawn.update(kind)
                    kept.update(() if answer.aside else kind)
                rankings += 1
                best = max(ranked, key=lambda answer: answer.reward)
                first["without"].update(kinds[best.text])
                first["with"].update(() if ranked[0].aside else kinds[ranked[0].text])
                first["with"]["nothing left"] += ranked[0].aside is not None
        print(f"{run.name}: {len(rows)} questions, {rankings} rankings of {options.n} answers")
        for guard, counts in first.items():
            cells = [f"{kind} {counts[kind] / rankings:.1%}" for kind in COLUMNS]
            print(f"  first {guard} the guard: {', '.join(cells)}, {counts['nothing left']} empty")
        for kind in COLUMNS:
            share = kept[kind] / max(drawn[kind], 1)
            print(f"  kept of {drawn[kind]} different {kind} answers: {share:.1%}")


if __name__ == "__main__":
    main()
