"""A whole run, from the recipe to the adapter and the report: the flow of the product."""

from __future__ import annotations

import json
import os
import platform
import time
from importlib.metadata import version
from typing import Any

import torch
from rich.console import Console

import dpo_lite
from dpo_lite import road
from dpo_lite.adapters import keep_start, start_adapter
from dpo_lite.capacity import peak_memory
from dpo_lite.comparison import load_trained
from dpo_lite.data.report_view import print_report
from dpo_lite.data.tokens import Encoder
from dpo_lite.device_lock import device_lock
from dpo_lite.doctor import load_data
from dpo_lite.errors import UserError
from dpo_lite.evaluation import answer_held_out, generation_share, score_held_out
from dpo_lite.generation import generate
from dpo_lite.hub.while_training import TrainingPush, check_push
from dpo_lite.markers import has_markers
from dpo_lite.measured import memory_by_part
from dpo_lite.model import heads, roles
from dpo_lite.model.base import compute_device, compute_dtype, save_own_template, true_base
from dpo_lite.model.scoring import choose_way
from dpo_lite.preflight import Loaded, Report, check, load_model, plan_run
from dpo_lite.recipe import Recipe, load_recipe, to_yaml
from dpo_lite.report import write_report
from dpo_lite.runs import Run, create_run, read_json, recorded, write_json, write_text
from dpo_lite.training.callbacks import RunRecorder, progress_bar
from dpo_lite.training.comparisons import MEAN_OVER, mean_reward
from dpo_lite.training.ppo_preflight import expected
from dpo_lite.training.ppo_trainer import earned_held_out, policy_trainer
from dpo_lite.training.reference_cache import ReferenceCache, open_cache
from dpo_lite.training.reward_source import keep_reward, kept_reward
from dpo_lite.training.sampling import Sampler
from dpo_lite.training.trainer import PreferenceTrainer
from dpo_lite.training.update import Objective
from dpo_lite.transcript import keep_in

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "trl", "datasets")


def start(recipe: Recipe, stem: str, console: Console) -> Run:
    """Make a run folder for the recipe and train; returns the run, finished or stopped."""
    if recipe.task == "rlhf":
        return _start_road(recipe, stem, console)
    with device_lock(f"dpo-lite train {stem}", say=console.print):
        loaded, report, objective = prepare_run(recipe, console)
        run = create_run(recipe.run.folder, recipe.run.name, stem)
        recipe.run.name = run.name
        write_text(run.recipe_file, to_yaml(recipe))
        keep_in(console, run.path / "log.txt")
        return recorded(run, lambda: _first(run, loaded, report, objective, console))


def resume(run: Run, console: Console) -> Run:
    """Go on with a run from its last checkpoint, as if it had never stopped.

    A run that was only launched, or that ended in its preflight, starts from the beginning.
    """
    run.take_up()
    keep_in(console, run.path / "log.txt")
    is_road = load_recipe(run.recipe_file).task == "rlhf"
    return recorded(run, lambda: (road.go if is_road else _resume)(run, console))


def _start_road(recipe: Recipe, stem: str, console: Console) -> Run:
    """The run of many runs: every step's recipe is looked at before the first one starts."""
    road.plan_road(recipe, recipe.run.name or stem)
    check_push(recipe, console.print)
    run = create_run(recipe.run.folder, recipe.run.name, stem)
    recipe.run.name = run.name
    write_text(run.recipe_file, to_yaml(recipe))
    keep_in(console, run.path / "log.txt")
    return recorded(run, lambda: road.go(run, console))


def _resume(run: Run, console: Console) -> Run:
    def waiting(text: str) -> None:
        console.print(text)
        run.update_status(doing=text)

    with device_lock(f"run {run.name}", say=waiting):
        run.claim("preparing", doing="preflight")
        recipe = load_recipe(run.recipe_file)
        recipe.model.adapter = start_adapter(run, recipe)
        recipe.ppo.reward = kept_reward(run, recipe)
        loaded, report, objective = prepare_run(recipe, console)
        if not run.manifest():
            return _first(run, loaded, report, objective, console)
        expected = run.manifest()["data"]["fingerprint"]
        if loaded.data.fingerprint != expected:
            raise UserError(
                f"The data of {run.path} have changed since it started (fingerprint "
                f"{loaded.data.fingerprint}, not {expected}); put them back, or start a new run."
            )
        return execute(run, loaded, report, objective, console, resume=True)


def _first(run: Run, loaded: Loaded, report: Report, objective: Objective, console: Console) -> Run:
    """Train from the beginning, after the facts that later readers rely on are written."""
    keep_start(run, loaded.recipe)
    keep_reward(run, loaded.recipe)
    _settle_optimizer(run, loaded.recipe.train.optimizer)
    write_json(run.path / "data.json", loaded.data.report.to_json())
    write_json(run.path / "manifest.json", manifest(loaded, report))
    return execute(run, loaded, report, objective, console, resume=False)


def _settle_optimizer(run: Run, optimizer: str) -> None:
    """Write into a launched run's recipe which optimiser the plan took.

    Unlike the rest of the plan it changes the result, so a resumed run must keep it.
    """
    frozen = load_recipe(run.recipe_file)
    if frozen.train.optimizer != optimizer:
        frozen.train.optimizer = optimizer
        made = run.recipe_file.stat().st_mtime  # by which runs are listed
        write_text(run.recipe_file, to_yaml(frozen))
        os.utime(run.recipe_file, (made, made))


def prepare_run(recipe: Recipe, console: Console) -> tuple[Loaded, Report, Objective]:
    """Data, model and preflight, each said on the console as it comes."""
    check_push(recipe, console.print)
    with console.status("reading the data") as spinner:
        tokenizer, data = load_data(recipe, spinner.update)
        spinner.stop()
        print_report(data.report, console)
        console.print()
        spinner.start()
        spinner.update(f"loading {recipe.model.base}")
        model = load_model(recipe)
        loaded = Loaded(recipe, tokenizer, data, model)
        report, objective = check(loaded, spinner.update)
        recipe.train.optimizer = report.plan.choice.optimizer
    console.print()
    for line in report.lines():
        console.print(line, highlight=False, markup=False)
    console.print()
    return loaded, report, objective


def execute(
    run: Run,
    loaded: Loaded,
    report: Report,
    objective: Objective,
    console: Console,
    resume: bool,
) -> Run:
    """Answers before, training, evaluation, answers after, adapter, report."""
    recipe, model = loaded.recipe, loaded.model
    run.begin(doing="training" if recipe.task == "reward" else "answers before")
    checkpoint = run.last_checkpoint() if resume else None
    if resume and checkpoint is None:
        console.print("there is no checkpoint yet; starting from the beginning")
    started = time.time()
    sampler = Sampler(run, loaded) if recipe.eval.sample_steps else None
    pusher = TrainingPush(run, recipe, console.print)
    recorder = RunRecorder(run, console, pusher.checkpoint, sampler)
    try:
        if not _asked_before(run, loaded):
            run.path.joinpath("samples.jsonl").unlink(missing_ok=True)
            ask_all(run, loaded, "reference", "before", console)
        references = open_cache(recipe, model, objective, console.print)
        trainer = build_trainer(run, loaded, report, objective, recorder, references)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        recorder.close()
        run.update_status(doing="evaluation")
        if recorder.stop_asked and trainer.state.global_step < trainer.state.max_steps:
            run.update_status(state="stopped", seconds_left=None, doing=None)
            return run
        results = evaluate_run(run, loaded, objective, report.plan.budget, console, references)
        roles.save_policy(model, run.adapter, recipe.model.base, recipe.model.revision)
        save_own_template(loaded.tokenizer, recipe.model, run.adapter)
        if recipe.task == "reward":
            budget = report.plan.budget
            results["mean_reward"] = keep_mean(run, loaded, objective, budget, console)
        results["seconds"] = time.time() - started
        results["peak_memory"] = peak_memory(model.device)
        results["memory"] = memory_by_part(report, model, trainer.optimizer)
        write_json(run.path / "results.json", results)
        write_report(run)
        run.update_status(state="finished", seconds_left=0, finished=time.time(), doing=None)
        pusher.end()
        return run
    finally:
        recorder.close()
        pusher.close()


def _asked_before(run: Run, loaded: Loaded) -> bool:
    """Whether every set was asked before the training; a kill may have come in between."""
    wanted = {name for name, rows in to_ask(loaded).items() if rows}
    wanted |= {"prompts"} if loaded.recipe.eval.prompts else set()
    asked = {s["set"] for s in run.records("samples.jsonl") if s["when"] == "before"}
    return wanted <= asked


def evaluate_again(run: Run, console: Console) -> None:
    """Load a finished run's adapter, score its held-out sets and answer anew; updates its files."""
    with device_lock(f"dpo-lite eval {run.name}", say=console.print):
        _evaluate_again(run, console)


def _evaluate_again(run: Run, console: Console) -> None:
    recipe, _, model = load_trained(run)
    tokenizer, data = load_data(recipe)
    loaded = Loaded(recipe, tokenizer, data, model)
    dtype = compute_dtype(model.device)
    few, lengths = expected(recipe, data)
    way = choose_way(model, few).way
    objective = Objective.of(recipe, way, dtype)
    kept = [s for s in run.records("samples.jsonl") if s["when"] != "after"]
    write_text(run.path / "samples.jsonl", "".join(json.dumps(s) + "\n" for s in kept))
    lengths = lengths.of_batch(shared=way == "forest")
    budget = plan_run(model, recipe, few, way, lengths).budget
    results = read_json(run.path / "results.json") or {}
    references = open_cache(recipe, model, objective, console.print)
    results |= evaluate_run(run, loaded, objective, budget, console, references)
    write_json(run.path / "results.json", results)
    write_report(run)


def build_trainer(
    run: Run,
    loaded: Loaded,
    report: Report,
    objective: Objective,
    recorder: RunRecorder,
    references: ReferenceCache | None,
):
    """The recipe's engine: our own update or rollouts, or TRL's DPOTrainer on the same ids."""
    if loaded.recipe.task == "ppo":
        sets = to_ask(loaded)
        return policy_trainer(loaded, report, objective, run.checkpoints, recorder, sets)
    if loaded.recipe.train.engine == "trl":
        from dpo_lite.training.trl_engine import trl_trainer

        return trl_trainer(loaded, run.checkpoints, recorder)
    return PreferenceTrainer(
        model=loaded.model,
        recipe=loaded.recipe,
        objective=objective,
        budget=report.plan.budget,
        folder=run.checkpoints,
        train=loaded.data.train,
        evals=held_out(loaded),
        callbacks=[recorder],
        say=recorder.console.print,
        references=references,
    )


def held_out(loaded: Loaded) -> dict[str, list[dict[str, Any]]]:
    """The held-out sets as lists of examples, cut to eval.limit."""
    limit = loaded.recipe.eval.limit
    return {
        name: list(examples if limit is None else examples.select(range(min(limit, len(examples)))))
        for name, examples in loaded.data.evals.items()
    }


def to_ask(loaded: Loaded) -> dict[str, list[dict[str, Any]]]:
    """Whose prompts are answered: all of a held-out set with markers, else the first few.

    None of a reward model's, which answers nothing.
    """
    if loaded.recipe.task == "reward":
        return {}
    few = loaded.recipe.eval.generate
    return {
        name: rows if has_markers(rows) else rows[:few] for name, rows in held_out(loaded).items()
    }


def ask_all(
    run: Run, loaded: Loaded, role: str, when: str, console: Console
) -> dict[str, float | None]:
    """Generate for the recipe's prompts and the held-out sets; write samples.jsonl.

    Returns the share of answers with the chosen claim for every set that has markers.
    """
    recipe, tokenizer, model = loaded.recipe, loaded.tokenizer, loaded.model
    asked = to_ask(loaded)
    prompts = recipe.eval.prompts
    total = len(prompts) + sum(len({tuple(e["prompt_ids"]) for e in r}) for r in asked.values())
    shares: dict[str, float | None] = {}
    with progress_bar(console) as bar:
        task = bar.add_task(f"asking {when}", total=total, note="")
        encoder = Encoder(tokenizer, recipe.data.raw, recipe.data.template)
        ids = [encoder.prompt_ids(prompt) for prompt in prompts]
        answers = generate(
            model,
            tokenizer,
            ids,
            role=role,
            max_new_tokens=recipe.eval.max_new_tokens,
            progress=lambda count: bar.advance(task, count),
        )
        for prompt, answer in zip(prompts, answers, strict=True):
            run.append(
                "samples.jsonl",
                {"when": when, "set": "prompts", "prompt": prompt, "answer": answer},
            )
        for name, rows in asked.items():
            records = answer_held_out(
                model,
                tokenizer,
                rows,
                role=role,
                max_new_tokens=recipe.eval.max_new_tokens,
                progress=lambda count: bar.advance(task, count),
            )
            shares[name] = generation_share(records)
            for record in records:
                run.append("samples.jsonl", {"when": when, "set": name, **record})
    return shares


def evaluate_run(
    run: Run,
    loaded: Loaded,
    objective: Objective,
    budget: int,
    console: Console,
    references: ReferenceCache | None,
) -> dict[str, Any]:
    """Score every held-out set and generate the answers after; the content of results.json."""
    results: dict[str, Any] = {"sets": {}}
    on_policy = loaded.recipe.task == "ppo"
    sets = to_ask(loaded) if on_policy else held_out(loaded)
    with progress_bar(console) as bar:
        task = bar.add_task("evaluating", total=sum(map(len, sets.values())), note="")
        for name, rows in sets.items():

            def advance(count: int) -> None:
                bar.advance(task, count)

            if on_policy:
                results["sets"][name] = earned_held_out(loaded, rows, objective, budget, advance)
            else:
                results["sets"][name] = score_held_out(
                    loaded.model, rows, objective, budget, advance, references
                )
    if loaded.recipe.task == "reward":  # it says nothing
        return results
    after = ask_all(run, loaded, "policy", "after", console)
    samples = run.records("samples.jsonl")
    for name, share in after.items():
        before = [s for s in samples if s["when"] == "before" and s["set"] == name]
        results["sets"][name]["generation"] = {
            "reference": generation_share(before),
            "policy": share,
        }
    return results


def keep_mean(
    run: Run, loaded: Loaded, objective: Objective, budget: int, console: Console
) -> dict[str, Any]:
    """Write the mean reward of the training data beside the adapter, for centred rewards."""
    train, seed = loaded.data.train, loaded.recipe.train.seed
    with progress_bar(console) as bar:
        task = bar.add_task("mean reward", total=min(len(train), MEAN_OVER), note="")
        mean, responses = mean_reward(
            loaded.model,
            train,
            objective.way,
            objective.dtype,
            budget,
            seed,
            lambda count: bar.advance(task, count),
        )
    heads.write_mean(run.adapter, mean, responses)
    return {"mean": mean, "responses": responses}


def manifest(loaded: Loaded, report: Report) -> dict[str, Any]:
    """The facts that make a run reproducible."""
    recipe = loaded.recipe
    device = compute_device()
    config = loaded.model.get_base_model().config
    return {
        "dpo_lite": dpo_lite.__version__,
        "versions": {name: version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "base": recipe.model.base,
        "base_revision": getattr(config, "_commit_hash", None) or recipe.model.revision,
        "quantised_from": true_base(recipe.model),
        "quantization": recipe.model.quantization,
        "linear_4bit": report.linear_4bit,
        "trained_parameters": report.trained,
        "reference": report.reference,
        "start_adapter": recipe.model.adapter,
        "scoring": report.scoring.way,
        "scoring_reason": report.scoring.reason,
        "task": recipe.task,
        "objective": {
            "loss": recipe.train.loss,
            "beta": recipe.train.beta,
            "label_smoothing": recipe.train.label_smoothing,
        },
        "seed": recipe.train.seed,
        "data": {
            "fingerprint": loaded.data.fingerprint,
            "examples": len(loaded.data.train),
            "held_out": {name: len(rows) for name, rows in loaded.data.evals.items()},
            "max_length": loaded.data.max_length,
        },
        "predicted_memory": report.plan.total,
    }
