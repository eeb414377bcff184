"""Ten items as tasks of lm-evaluation-harness in a folder: one of choices, one of an answer."""

import json

import yaml

CHOICES = {
    "task": "cats_choice",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "{{label}}",
    "metric_list": [
        {"metric": name, "aggregation": "mean", "higher_is_better": True}
        for name in ("acc", "acc_norm")
    ],
}
ANSWERS = {
    "task": "cats_answer",
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["\n"], "do_sample": False, "max_gen_toks": 8},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}
GROUP = {
    "group": "cats",
    "task": ["cats_choice"],
    "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}],
}


def write_tasks(folder, answers=("",) * 10):
    """``answers``: what is right of each item where an answer is generated."""
    folder.mkdir(exist_ok=True)
    rows = [
        {
            "question": f"what did cat {i} do?",
            "choices": [f" it sat {i}", " it ran", " the cat sat on the mat"],
            "label": i % 3,
            "answer": answer,
        }
        for i, answer in enumerate(answers)
    ]
    items = folder / "cats.jsonl"
    items.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(items)}},
        "test_split": "test",
        "metadata": {"version": 1.0},
    }
    for task in (CHOICES, ANSWERS):
        (folder / f"{task['task']}.yaml").write_text(yaml.safe_dump(task | data))
    (folder / "cats.yaml").write_text(yaml.safe_dump(GROUP))
    return folder
