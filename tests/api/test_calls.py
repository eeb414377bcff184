"""The calls from Python do what the commands do, and show it in a notebook."""

import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path

import pandas
import pytest
import torch
import yaml

import dpo_lite
from dpo_lite import load, plan, show, train
from dpo_lite.api.views import Answers
from dpo_lite.cli import main
from dpo_lite.errors import UserError
from dpo_lite.recipe import load_recipe
from dpo_lite.report.curves import draw_curves

ODD = "<script>alert('cat')</script>"
ROWS = [
    {"prompt": f"what did cat {i} do?", "chosen": f"cat {i} sat", "rejected": f"cat {i} ran"}
    for i in range(24)
]
SHORT = {"lr": 1e-3, "batch_size": 8, "max_steps": 3, "prompts": [ODD], "generate": 1}
SHORT_KEYS = {"eval.max_new_tokens": 4}


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """The folder in which the module works; its runs are in runs/."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("desk"))
        yield Path.cwd()


@pytest.fixture(scope="module")
def run(desk, tiny_base):
    return train(base=tiny_base, data=pandas.DataFrame(ROWS), keys=SHORT_KEYS, **SHORT)


class Tags(HTMLParser):
    """The tags of a page, and that each that was opened is closed."""

    def __init__(self, page):
        super().__init__()
        self.open, self.seen, self.text = [], set(), ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_importing_it_is_light():
    code = (
        "import sys, dpo_lite\n"
        "assert 'rich' not in sys.modules and 'yaml' not in sys.modules\n"
        "from dpo_lite import train, plan, compare, load, show\n"
        "assert not {'torch', 'transformers', 'datasets', 'pandas'} & set(sys.modules)\n"
        "assert {'train', 'compare'} <= set(dir(dpo_lite))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(dpo_lite.__file__).parents[1])
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        dpo_lite.trian  # noqa: B018


def test_compare_is_a_function_and_a_package():
    import dpo_lite.compare.columns
    from dpo_lite import compare

    assert dpo_lite.compare.columns.POLICY == "policy"
    with pytest.raises(UserError, match="There is no run nothing"):
        compare("nothing")


@pytest.mark.slow
def test_a_run_is_that_of_the_command_line(run, desk, tiny_base, capsys):
    recipe = load_recipe(run.path / "recipe.yaml").model_dump()
    recipe["run"]["name"] = "typed"
    (desk / "typed.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(SystemExit) as ended:
        main(["train", "typed.yaml"])
    assert ended.value.code == 0
    typed = show("typed")
    for key in ("loss", "grad_norm", "rewards/margins"):
        assert typed.metrics[key].tolist() == run.metrics[key].tolist()
    assert typed.answers() == run.answers()
    assert typed.results["sets"] == run.results["sets"]


@pytest.mark.slow
def test_what_a_run_has(run):
    assert (run.name, run.state) == ("run-1", "finished")
    assert repr(run) == f"<run run-1: finished, in {run.path}>"
    assert run.metrics["step"].tolist() == [1, 2, 3]
    assert run.metrics["loss"][0] == pytest.approx(0.6931, abs=1e-4)
    assert run.recipe["train"]["lr"] == 1e-3
    assert (run.adapter / "adapter_model.safetensors").is_file()
    assert run.report.startswith("# run-1")
    first = run.answers()[0]
    assert first["prompt"] == ODD
    assert {"reference", "policy"} < set(first)
    assert show("run-1").path == run.path


@pytest.mark.slow
def test_a_notebook_shows_a_run_with_its_text_escaped(run):
    tags = Tags(run._repr_html_())
    assert {"table", "td", "b"} <= tags.seen
    assert not {"script", "img"} & tags.seen  # tests draw no curves
    assert ODD in tags.text
    assert "reward accuracy" in tags.text
    draw_curves(run.folder)
    try:
        assert "img" in Tags(run._repr_html_()).seen
    finally:
        (run.path / "curves.png").unlink()


@pytest.mark.slow
def test_answers_side_by_side(run):
    answers = run.compare("what did cat 1 do?", ODD, max_new_tokens=3)
    assert [each["prompt"] for each in answers] == ["what did cat 1 do?", ODD]
    assert set(answers[0]["answers"]) == set(answers[0]["rewards"]) == {"reference", "run-1"}
    tags = Tags(answers._repr_html_())
    assert "script" not in tags.seen
    assert isinstance(answers, Answers)
    assert [set(each["answers"]) for each in run.compare(ODD, reference=False)] == [{"run-1"}]


@pytest.mark.slow
def test_a_loaded_model_answers_as_the_run_did(run):
    model, tokenizer = load(run)
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    said = run.answers()[0]
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": ODD}], add_generation_prompt=True, return_tensors="pt",
        return_dict=True,
    )  # fmt: skip
    length = ids["input_ids"].shape[1]

    def answer():
        made = model.generate(**ids, max_new_tokens=4, do_sample=False)[0, length:]
        return tokenizer.decode(made, skip_special_tokens=True).strip()

    assert answer() == said["policy"]
    with model.disable_adapter():
        assert answer() == said["reference"]


@pytest.mark.slow
def test_a_stopped_run_goes_on_and_another_thread_may_train(desk, tiny_base):
    given = SHORT | {"name": "threaded", "max_steps": 2, "save_steps": 1}
    made = []
    work = threading.Thread(
        target=lambda: made.append(train(base=tiny_base, data=ROWS, keys=SHORT_KEYS, **given))
    )
    work.start()
    work.join()
    (run,) = made
    run.folder.update_status(state="stopped")
    (run.path / "results.json").unlink()
    with pytest.raises(UserError, match="leave the recipe and the keys away"):
        train(resume=run, beta=0.3)
    assert train(resume="threaded").results["sets"]
    with pytest.raises(UserError, match="is finished"):
        train(resume=run)


def test_a_plan(desk, tiny_base):
    here = plan(base=tiny_base, data=ROWS)
    assert here.fits
    assert here.total == sum(here.parts.values())
    assert repr(here).endswith("it fits") or "an epoch" in repr(here)
    tags = Tags(here._repr_html_())
    assert "together" in tags.text
    assert "it fits" in tags.text
    on_card = plan({"model": {"base": tiny_base}, "data": {"train": "no.jsonl"}}, gpu="12GB")
    assert on_card.usable < 12 * 2**30
    assert any("could not be had" in note for note in on_card.notes)
    assert "could not be had" in Tags(on_card._repr_html_()).text


def test_faults_are_the_one_sentence(desk, monkeypatch):
    for call, told in (
        (lambda: train(), "Which recipe?"),
        (lambda: train("quickstart", learning_rate=1), "it is called train.lr here"),
        (lambda: plan("quickstart", gpu="9999x"), "9999x"),
        (lambda: load("nothing"), "There is no run nothing"),
        (lambda: show("nothing"), "There is no run nothing"),
    ):
        with pytest.raises(UserError) as caught:
            call()
        assert told in str(caught.value)
        assert caught.value._render_traceback_() == [f"UserError: {caught.value}"]
    monkeypatch.setenv("DPO_LITE_DEBUG", "1")
    assert len(caught.value._render_traceback_()) > 2


def test_a_disk_and_a_card_that_are_full_are_user_errors(monkeypatch):
    from dpo_lite.api import calls

    def full(*given):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(calls, "asked_recipe", full)
    with pytest.raises(UserError, match="memory ran out"):
        train("quickstart")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(UserError, match=r"train\(\) is for one process"):
        train("quickstart")
