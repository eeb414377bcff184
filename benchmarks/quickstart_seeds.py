"""The quickstart under three seeds: truthful answers before and after, time, memory.

    python benchmarks/quickstart_seeds.py [key=value ...]

Each seed is a process of its own, as a user starts it; prints a Markdown table for RESULTS.md.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SEEDS = (1, 2, 3)


def run_once(seed: int, folder: Path, overrides: list[str]) -> dict:
    """Train once; returns results.json with the wall time of the whole command."""
    name = f"seed-{seed}"
    command = [
        sys.executable,
        "-m",
        "dpo_lite",
        "train",
        str(ROOT / "recipes" / "quickstart.yaml"),
        f"train.seed={seed}",
        f"run.folder={folder}",
        f"run.name={name}",
        *overrides,
    ]
    started = time.time()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    results = json.loads((folder / name / "results.json").read_text())
    return results | {"wall": time.time() - started}


def main() -> None:
    print(
        "| seed | set | generated, before → after | likelihood, before → after | accuracy |", end=""
    )
    print(" margin | wall | peak |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            found = run_once(seed, Path(folder), sys.argv[1:])
            for name, metrics in found["sets"].items():
                spans = [
                    f"{metrics[kind]['reference']:.1%} → {metrics[kind]['policy']:.1%}"
                    for kind in ("generation", "likelihood")
                ]
                print(
                    f"| {seed} | {name} | {' | '.join(spans)} | "
                    f"{metrics['rewards/accuracies']:.1%} | {metrics['rewards/margins']:.2f} | "
                    f"{found['wall']:.0f} s | {found['peak_memory'] / 2**20:.0f} MiB |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
