"""A whole run, from the recipe to the adapter and the report: the flow of the product.

Processes that train together go through all of it side by side, each with its share of what is
computed (dpo_lite.training.ranks); the first one decides, prints and writes.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from peft import PeftModel
from rich.console import Console

from dpo_lite.files import write_json, write_text
from dpo_lite.hub.while_training import TrainingPush, check_push
from dpo_lite.jobs import launch
from dpo_lite.jobs.held_out import ask_all, asked_before, evaluate_run, held_out, is_asked
from dpo_lite.jobs.manifest import manifest
from dpo_lite.jobs.preflight import Report, check
from dpo_lite.jobs.same import SAME, check_same, facts_of, has_begun, say_versions
from dpo_lite.jobs.suite import check_suite, suite_of_run
from dpo_lite.memory.accounting import memory_by_part
from dpo_lite.memory.capacity import peak_memory
from dpo_lite.memory.device_words import device_words
from dpo_lite.model import roles
from dpo_lite.model.adapter_files import WEIGHTS, keep_start, start_adapter
from dpo_lite.model.adds_nothing import adds_nothing
from dpo_lite.model.base import another_template, save_own_template
from dpo_lite.model.divided import divided
from dpo_lite.model.download import fetch_weights
from dpo_lite.model.precision import COMPUTED_IN, dtype_of, name_of
from dpo_lite.model.scoring import causal_lm
from dpo_lite.recipe import Recipe, load_recipe, to_yaml
from dpo_lite.report.data import print_brief, print_report
from dpo_lite.report.kept import KEPT
from dpo_lite.report.run import write_report
from dpo_lite.runs.device_lock import device_lock
from dpo_lite.runs.folder import SKIPPED, UNTRAINED, Run, create_run
from dpo_lite.runs.progress import doing
from dpo_lite.runs.rlhf_steps import refuse_composed
from dpo_lite.runs.room import check_output, check_room
from dpo_lite.runs.transcript import details, keep_in
from dpo_lite.runs.watched import recorded
from dpo_lite.tasks import TASKS
from dpo_lite.training import ranks
from dpo_lite.training.callbacks import RunRecorder
from dpo_lite.training.checkpoints import newest_whole, step_of
from dpo_lite.training.keeping import Keeper, check_held_out, outcome, wear_kept
from dpo_lite.training.loaded import how_to_score, load_model, load_trained
from dpo_lite.training.method import Loaded, Method, Objective
from dpo_lite.training.recipe_data import load_data
from dpo_lite.training.reference_cache import open_cache
from dpo_lite.training.reward_source import kept_reward
from dpo_lite.training.sampling import Sampler, deciding_kl
from dpo_lite.training.trackers import Trackers, check_trackers, held_out_numbers

OTHER_TEMPLATE = (
    "template   the base's; model.adapter brings another one. Where it was trained with that, take"
    " a copy of the base with its chat_template.jinja for model.base"
)
SETTLED = ("optimizer", "desirable_weight", "undesirable_weight")  # of train, where `auto`


def start(recipe: Recipe, stem: str, console: Console) -> Run:
    """Make a run folder for the recipe and train; returns the run, finished or stopped."""
    ranks.of_first(lambda: check_output(recipe.run.folder, recipe.run.name))
    with launch.device(f"dpo-lite train {stem}", console.print):
        loaded, report, objective = prepare_run(recipe, console)
        ranks.of_first(lambda: _check_room(recipe.run.folder, loaded))
        run = launch.seen(ranks.of_first(lambda: _new_run(recipe, stem, console)))
        return recorded(run, lambda: _first(run, loaded, report, objective, console))


def _new_run(recipe: Recipe, stem: str, console: Console) -> Run:
    run = create_run(recipe.run.folder, recipe.run.name, stem)
    recipe.run.name = run.name
    write_text(run.recipe_file, to_yaml(recipe))
    keep_in(console, run.path / "log.txt")
    return run


def resume(run: Run, console: Console, anyway: bool = False) -> Run:
    """Go on with a run from its last whole checkpoint, as if it had never stopped.

    A run that was only launched, or that ended in its preflight, starts from the beginning.
    ``anyway``: also where it would not be the same run any more; that is recorded in it.
    """
    run = launch.seen(run)
    for text in ranks.of_first(run.take_up):
        console.print(text, markup=False, highlight=False)
    keep_in(console, run.path / "log.txt")
    return recorded(run, lambda: _resume(run, console, anyway))


def _resume(run: Run, console: Console, anyway: bool) -> Run:
    ranks.of_first(lambda: check_output(run.path))
    with launch.turn(run, console.print):
        run.claim("preparing", doing="preflight")
        recipe = load_recipe(run.recipe_file)
        begun = ranks.of_first(lambda: has_begun(run, anyway))
        if begun:  # else a copy may be half of one
            recipe.model.adapter = start_adapter(run, recipe)
            recipe.ppo.reward = kept_reward(run, recipe)
        loaded, report, objective = prepare_run(recipe, console)
        if not begun:
            return _first(run, loaded, report, objective, console)
        fresh = manifest(loaded, report)
        before = ranks.of_first(lambda: check_same(run, loaded, fresh, anyway, console.print))
        if ranks.first():
            say_versions(before, fresh, console.print)
        launch.say_processes(run, before, console.print)
        ranks.of_first(lambda: _check_room(run.path, loaded))
        return execute(run, loaded, report, objective, console, resume=True)


def _first(run: Run, loaded: Loaded, report: Report, objective: Objective, console: Console) -> Run:
    """Train from the beginning, after the facts that later readers rely on are written."""

    def write_facts() -> None:
        keep_start(run, loaded.recipe)
        _method(loaded).keep(run, loaded.recipe)
        _settle(run, loaded.recipe)
        write_json(run.path / "data.json", loaded.data.report.to_json())
        facts = {SAME: facts_of(run, loaded)}
        write_json(run.path / "manifest.json", manifest(loaded, report) | facts)

    ranks.of_first(write_facts)
    return execute(run, loaded, report, objective, console, resume=False)


def _check_room(folder: str | Path, loaded: Loaded) -> None:
    """Checkpoints hold the trained parameters and the optimiser's two moments of each."""
    count = sum(p.numel() for p in roles.trainable_parameters(loaded.model))
    moments = 2 * (1 if loaded.recipe.train.optimizer == "adamw_8bit" else 4)
    check_room(folder, checkpoint=count * (4 + moments), adapter=count * 4)


def _settle(run: Run, recipe: Recipe) -> None:
    """Write into a launched run's recipe what was `auto` and changes the result: which optimiser
    the plan took, and how the data's labels are weighed.

    A resumed run must keep it, unlike the rest of the plan.
    """
    frozen = load_recipe(run.recipe_file)
    settled = {key: getattr(recipe.train, key) for key in SETTLED}
    if settled != {key: getattr(frozen.train, key) for key in SETTLED}:
        for key, value in settled.items():
            setattr(frozen.train, key, value)
        made = run.recipe_file.stat().st_mtime  # by which runs are listed
        write_text(run.recipe_file, to_yaml(frozen))
        os.utime(run.recipe_file, (made, made))


def prepare_run(recipe: Recipe, console: Console) -> tuple[Loaded, Report, Objective]:
    """Data, model and preflight, each said on the console as it comes."""
    launch.check_launched(recipe)
    console.print(f"device     {device_words()}\n", markup=False, highlight=False, soft_wrap=True)
    check_push(recipe, console.print)
    check_trackers(recipe)
    ranks.of_first(lambda: check_suite(recipe))
    with doing(console, "reading the data") as spinner:
        tokenizer, data = ranks.first_then_others(lambda: load_data(recipe, spinner.update))
        launch.check_same_data(data.fingerprint)
        check_held_out(recipe, data.evals)
        spinner.stop()
        full = details(console)
        if full is not console:
            print_brief(data.report, console)
        print_report(data.report, full)
        console.print()
        spinner.start()
        spinner.update(f"loading {recipe.model.base}")
        ranks.first_then_others(lambda: fetch_weights(recipe.model, spinner.update))
        model = ranks.each(lambda: load_model(recipe, in_parts=ranks.fsdp()))
        ranks.divide(causal_lm(model))
        ranks.copy_from_first(roles.adapter_tensors(model))
        loaded = Loaded(recipe, tokenizer, data, model)
        report, objective = check(loaded, spinner.update)
        recipe.train.optimizer = report.plan.choice.optimizer
    for line in report.lines():
        console.print(line, highlight=False, markup=False)
    start = recipe.model.adapter
    if start and not recipe.data.raw and another_template(tokenizer, start):
        console.print(OTHER_TEMPLATE, highlight=False, markup=False)
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
    recipe, model, method = loaded.recipe, loaded.model, _method(loaded)
    run.begin(doing="answers before" if TASKS[recipe.task].answers else "training")
    needed = method.checkpoint_files(recipe)
    checkpoint = ranks.of_first(
        lambda: newest_whole(run.checkpoints, needed, console.print) if resume else None
    )
    launch.check_there(checkpoint)
    if resume and checkpoint is None:
        console.print("there is no checkpoint to go on from; starting from the beginning")
    ranks.of_first(lambda: run.forget_after(step_of(checkpoint)))
    samples = recipe.eval.sample_steps and (ranks.first() or divided())
    sampler = Sampler(run, loaded) if samples else None
    pusher = TrainingPush(run, recipe, console.print)
    trackers = Trackers(run, recipe, model, console.print)
    keeper = _keeper(loaded, console) if recipe.train.looks else None
    recorder = RunRecorder(run, console, pusher.checkpoint, sampler, trackers, keeper)
    try:
        for when, role in asked_before(recipe).items():
            if not ranks.of_first(lambda when=when: is_asked(run, loaded, when)):
                ask_all(run, loaded, role, when, console)
        references = open_cache(recipe, model, objective, console.print)
        trainer = method.trainer(
            loaded,
            objective,
            report.plan.budget,
            run.checkpoints,
            recorder,
            references,
            held_out(loaded),
            report.rehearsal,
        )
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        ranks.of_first(lambda: _record_numbers(run, loaded))
        recorder.close()
        run.update_status(doing="evaluation")
        if recorder.stop_asked and trainer.state.global_step < trainer.state.max_steps:
            run.update_status(state="stopped", seconds_left=None, doing=None)
            return run
        wear_kept(model, run.checkpoints, trainer.state)
        # First of all what was trained: whatever happens to the evaluation.
        ranks.of_first(lambda: _save(run, loaded))
        results = evaluate_run(run, loaded, objective, report.plan.budget, console, references)
        peaks = ranks.gathered(peak_memory(model.device))
        measured = {}
        if ranks.first() or divided():  # else the others have no part in it
            measured = method.finish(run, loaded, objective, report.plan.budget, console)
        if not ranks.first():
            return run
        trackers.log(held_out_numbers(results))
        trackers.answers(last=True)
        results |= measured | _of_training(run, model, report, trainer, keeper)
        results["peak_memory"] = max(results["peak_memory"], *peaks)
        write_json(run.path / "results.json", results)
        if recipe.eval.suite:
            run.update_status(doing="other tasks")
            suite_of_run(run, recipe, loaded.tokenizer, model, console)
        write_report(run)
        trackers.adapter()
        run.update_status(state="finished", seconds_left=0, finished=time.time(), doing=None)
        pusher.end()
        return run
    finally:
        recorder.close()
        trackers.end()
        pusher.close()


def _of_training(
    run: Run, model: PeftModel, report: Report, trainer: Any, keeper: Keeper | None
) -> dict[str, Any]:
    """What results.json says beside the scores: how the training went and what it took."""
    facts: dict[str, Any] = {}
    if adds_nothing(run.adapter / WEIGHTS):
        facts[UNTRAINED] = True
    if scale := getattr(trainer, "scale", None):
        facts[SKIPPED] = scale.skipped
    if keeper:
        facts[KEPT] = outcome(keeper, trainer.state, run.each("metrics.jsonl"))
    run.update_status()  # that its seconds are all
    memory = memory_by_part(
        report.expected, report.trial, report.libraries, model, trainer.optimizer
    )
    peak = peak_memory(model.device)
    return facts | {"seconds": run.seconds(), "peak_memory": peak, "memory": memory}


def _keeper(loaded: Loaded, console: Console) -> Keeper:
    sets = {name: len(rows) for name, rows in loaded.data.evals.items()}
    recipe = loaded.recipe
    named = TASKS[recipe.task].sampled_kl
    return Keeper(recipe.train, sets, console.print, lambda step: deciding_kl(loaded, step), named)


def _save(run: Run, loaded: Loaded) -> None:
    base = loaded.recipe.model
    roles.save_policy(loaded.model, run.adapter, base.base, base.revision)
    save_own_template(loaded.tokenizer, base, run.adapter)


def _record_numbers(run: Run, loaded: Loaded) -> None:
    """Say in the manifest what was computed in, where fp16 did not do on the way."""
    facts = run.manifest()
    now = {COMPUTED_IN: name_of(dtype_of(loaded.model))}
    if facts and facts | now != facts:
        write_json(run.path / "manifest.json", facts | now)


def _method(loaded: Loaded) -> Method:
    return TASKS[loaded.recipe.task].mechanics


def evaluate_again(run: Run, console: Console) -> None:
    """Load a finished run's adapter, score its held-out sets and answer anew; updates its files."""
    refuse_composed(run)
    with device_lock(f"dpo-lite eval {run.name}", say=console.print):
        _evaluate_again(run, console)


def _evaluate_again(run: Run, console: Console) -> None:
    recipe, _, model = load_trained(run)
    tokenizer, data = load_data(recipe)
    loaded = Loaded(recipe, tokenizer, data, model)
    objective, budget = how_to_score(loaded)
    results = run.results()
    references = open_cache(recipe, model, objective, console.print)
    results |= evaluate_run(run, loaded, objective, budget, console, references)
    write_json(run.path / "results.json", results)
    write_report(run)
