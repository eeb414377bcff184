"""What test_divided.py has two processes do: whole runs on weights that are divided over them.

Run as `python -m tests.jobs.divided FOLDER` with what.json in it, launched for FSDP2; each process
leaves what it found in FOLDER.
"""

import sys
from pathlib import Path

import torch

from dpo_lite.errors import UserError
from dpo_lite.files import read_json
from dpo_lite.jobs import train as job
from dpo_lite.model import roles
from dpo_lite.model.weights import nbytes
from dpo_lite.report import run as report
from dpo_lite.runs.folder import Run
from dpo_lite.training import ranks
from tests.jobs.side_by_side import CONSOLE, recipe_for, stopped_at

# The options of recipe_for, by the name of the run.
RUNS = {
    "nf4": {"train": {"eval_steps": 3}, "eval": {"sample_steps": 3}},
    "whole": {"model": {"quantization": "none"}, "train": {"loss": "ipo"}},
    "reward": {"task": "reward", "steps": 3},
}


def main(folder):
    what = read_json(folder / "what.json")
    ranks.join()
    report.draw_curves = lambda *run: None
    evaluate, trained, resident = job.evaluate_run, [], []

    def seen(run, loaded, *others):
        trained.append([p.detach().clone() for p in roles.trainable_parameters(loaded.model)])
        frozen = [p for p in loaded.model.parameters() if not p.requires_grad]
        resident.append(sum(map(nbytes, frozen)))
        return evaluate(run, loaded, *others)

    job.evaluate_run = seen

    def start(name, **options):
        return job.start(recipe_for(what, folder, **options), name, CONSOLE)

    for name, options in RUNS.items():
        start(name, **options)
    job.resume(Run(Path(what["begun"])), CONSOLE)
    stopped_at(3, lambda: start("left", **RUNS["nf4"]))
    refused = []
    for options in ({"task": "ppo"}, {"model": {"embeddings": "cpu"}}):
        try:
            start("refused", **options)
        except UserError as error:
            refused.append(str(error))
    found = {"trained": trained, "resident": resident, "refused": refused}
    torch.save(found, folder / f"{ranks.rank()}.pt")
    ranks.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
