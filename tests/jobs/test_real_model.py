"""A published instruct model, trained as a user would: scored exactly, alike by both engines."""

from io import StringIO

import pytest
from rich.console import Console

from dpo_lite.data.examples import Example
from dpo_lite.data.tokens import Encoder
from dpo_lite.jobs import train as job
from dpo_lite.model import roles
from dpo_lite.model.base import load_base, load_tokenizer
from dpo_lite.model.choosing import choose_way
from dpo_lite.model.generation import generate
from dpo_lite.model.weights import held
from dpo_lite.recipe import AdapterSection, ModelSection, validate_recipe
from tests.cats import write_cats

pytestmark = [pytest.mark.real, pytest.mark.slow]


def question(words):
    return [{"role": "user", "content": words}]


def test_its_scores_in_packed_rows_are_true(real_model):
    """Its BOS opens every turn; 30 layers in 4 bits; what it says is no noise."""
    section = ModelSection(base=real_model)
    encoder = Encoder(load_tokenizer(section))
    model = roles.add_policy(load_base(section), AdapterSection(r=4), seed=0).train()
    assert held(roles.causal_lm(model)).share > 0.75
    rows = [
        Example(question("What is the capital of France?"), ["It is Paris.", "It is Rome."], 0),
        Example(question("How many legs has a cat?"), ["Four.", "Six, as every cat has."], 1),
    ]
    encoded = encoder.tokenise([encoder.render(row) for row in rows])
    examples = [{"prompt_ids": e.prompt_ids, "response_ids": e.response_ids} for e in encoded]
    choice = choose_way(model, examples)
    assert (choice.way, choice.difference < 1e-4) == ("forest", True)
    asked = [examples[0]["prompt_ids"]]
    (answer,) = generate(model, encoder.tokenizer, asked, role="reference", max_new_tokens=12)
    assert "Paris" in answer


@pytest.mark.long
def test_both_engines_train_it_alike(real_model, tmp_path):
    """The gradient's norm of every update, in 4 bits, through another trainer's own rows."""
    write_cats(tmp_path, train=range(12), test=range(12, 16))
    console = Console(file=StringIO())

    def norms(engine):
        train = {"max_steps": 3, "batch_size": 2, "lr": 1e-4, "engine": engine}
        values = {
            "model": {"base": real_model},
            "data": {"train": str(tmp_path)},
            "train": train,
            "eval": {"prompts": ["hello"], "max_new_tokens": 2},
            "run": {"folder": str(tmp_path / "runs")},
        }
        run = job.start(validate_recipe(values, "test"), engine, console)
        return [m["grad_norm"] for m in run.records("metrics.jsonl") if "grad_norm" in m]

    ours = norms("dpo_lite")
    assert len(ours) == 3
    assert min(ours) > 0
    assert norms("trl") == pytest.approx(ours, rel=1e-3)
