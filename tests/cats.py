"""Preferences that a tiny base can learn: cats sat, they never ran."""

import json


def write_cats(folder, **splits):
    """Write a file per split with its cats; markers tell the answers apart."""
    for split, numbers in splits.items():
        rows = [
            {
                "prompt": f"what did cat {i} do?",
                "chosen": f"the cat {i} sat",
                "rejected": f"the cat {i} ran",
                "chosen_markers": ["sat"],
                "rejected_markers": ["ran"],
            }
            for i in numbers
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


def write_contrary(folder):
    """What is trained on is the opposite of what is held out: the more is learned, the worse."""
    write_cats(folder, train=range(40), test=range(40, 52))
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    for row in rows:
        row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
