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
