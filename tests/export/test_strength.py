"""An exported strength is the adapter's addition times a number, and plain PEFT loads it."""

import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from rich.console import Console
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from dpo_lite.cli import main
from dpo_lite.errors import UserError
from dpo_lite.export.strength import at_strength, export_run, read_plain, scaled
from dpo_lite.files import read_json
from dpo_lite.jobs import train as job
from dpo_lite.model import roles
from dpo_lite.model.adapter_files import WEIGHTS
from dpo_lite.model.base import load_base
from dpo_lite.model.stacking import Adapter
from dpo_lite.recipe import load_recipe, to_yaml, validate_recipe
from dpo_lite.runs.folder import Run
from tests.cats import write_cats

CONSOLE = Console(quiet=True)


def untrained_run(folder, base, head=False, rslora=False, **keys):
    """A run whose adapter is noise."""
    values = {"model": {"base": base, "quantization": "none"}, "data": {"train": "none.jsonl"}}
    values["adapter"] = {"r": 4, "alpha": 8, "rslora": rslora} | keys.pop("adapter", {})
    recipe = validate_recipe(values | keys, "test")
    run = Run(folder)
    run.path.mkdir(parents=True)
    run.recipe_file.write_text(to_yaml(recipe))
    run.update_status(state="finished")
    model = roles.add_policy(load_base(recipe.model), recipe.adapter, 0, head)
    noisy(model, 1)
    roles.save_policy(model, run.adapter, base, None)
    return run


def noisy(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1, generator=generator)


def plain_peft(base, adapter):
    """The adapter as everybody loads it."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return PeftModel.from_pretrained(model, adapter).eval()


@pytest.mark.parametrize("rslora", [False, True])
def test_plain_peft_gives_the_base_and_so_much_of_the_addition(tiny_base, tmp_path, rslora):
    run = untrained_run(tmp_path / "run", tiny_base, rslora=rslora)
    export_run(run, tmp_path / "half", 0.3, measure=False)
    whole, part = (plain_peft(tiny_base, path) for path in (run.adapter, tmp_path / "half"))
    x = torch.randn(2, 5, 64)
    layers = [
        [(n, m) for n, m in model.named_modules() if isinstance(m, LoraLayer)]
        for model in (whole, part)
    ]
    assert len(layers[0]) == len(layers[1]) == 14
    for (name, full), (_, less) in zip(*layers, strict=True):
        inputs = x if full.in_features == 64 else torch.randn(2, 5, full.in_features)
        base = full.get_base_layer()(inputs)
        delta = full(inputs) - base
        assert delta.abs().max() > 1e-3, name
        assert torch.allclose(less(inputs), base + 0.3 * delta, atol=1e-6), name
    # And the whole model: as PEFT itself scales an adapter.
    for _, layer in layers[0]:
        layer.scaling["default"] *= 0.3
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert torch.allclose(whole(ids).logits, part(ids).logits, atol=1e-6)
        with part.disable_adapter():
            assert not torch.allclose(whole(ids).logits, part(ids).logits, atol=1e-2)


def test_at_1_not_a_bit_changes(tiny_base, tmp_path):
    run = untrained_run(tmp_path / "run", tiny_base)
    export_run(run, tmp_path / "same", 1.0, measure=False)
    mine, theirs = (load_file(path / WEIGHTS) for path in (run.adapter, tmp_path / "same"))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert read_json(tmp_path / "same" / "adapter_config.json") == read_json(
        run.adapter / "adapter_config.json"
    )


def additions(adapter: Adapter):
    """What it adds to every weight."""
    names = [name for name in adapter.tensors if ".lora_A." in name]
    return {
        name: adapter.scale
        * adapter.tensors[name.replace("lora_A", "lora_B")]
        @ adapter.tensors[name]
        for name in names
    }


def test_where_a_policy_has_a_start_strength_goes_from_there(tiny_base, tmp_path):
    """start + s (policy - start), also beyond the policy."""
    first = untrained_run(tmp_path / "first", tiny_base)
    values = load_recipe(first.recipe_file).model_dump()
    values["model"]["adapter"], values["reference"] = str(first.adapter), "start"
    run = Run(tmp_path / "second")
    run.path.mkdir()
    run.recipe_file.write_text(to_yaml(validate_recipe(values, "test")))
    model = roles.load_policy(load_base(load_recipe(run.recipe_file).model), str(first.adapter))
    noisy(model, 2)
    roles.save_policy(model, run.adapter, tiny_base, None)
    start, policy = (additions(read_plain(r.adapter)) for r in (first, run))
    for strength in (0.25, 2.0):
        found = additions(at_strength(run, load_recipe(run.recipe_file), strength))
        for name, delta in found.items():
            by_hand = start[name] + strength * (policy[name] - start[name])
            assert torch.allclose(delta, by_hand, atol=1e-6), name
    export_run(run, tmp_path / "out", 0.25, measure=False)
    assert plain_peft(tiny_base, tmp_path / "out").peft_config["default"].r == 8
    assert scaled(read_plain(run.adapter), 1.0).tensors.keys() == policy.keys() | {
        name.replace("lora_A", "lora_B") for name in policy
    }


def test_what_has_no_strength_in_its_weights_is_refused(tiny_base, tmp_path):
    run = untrained_run(tmp_path / "run", tiny_base)
    dora = untrained_run(tmp_path / "dora", tiny_base, adapter={"kind": "dora"})
    reward = untrained_run(tmp_path / "reward", tiny_base, head=True, task="reward")
    (tmp_path / "there").mkdir()
    for asked, out, strength, said in (
        (dora, "new", 0.5, "is DoRA, whose rows have lengths of their own, so its strength is no"),
        (reward, "new", 0.5, "is a reward model: it judges answers and gives none"),
        (run, "new", 0.0, "--strength is a number above 0 and up to 10, not 0"),
        (run, "new", float("nan"), "--strength is a number above 0 and up to 10, not nan"),
        (run, "new", 11.0, "--strength is a number above 0 and up to 10, not 11"),
        (run, "there", 0.5, "there exists; name a folder that does not"),
    ):
        with pytest.raises(UserError, match=said) as caught:
            export_run(asked, tmp_path / out, strength)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_what_it_changed_is_measured(tiny_base, tmp_path, capsys):
    cats = tmp_path / "cats"
    cats.mkdir()
    write_cats(cats, train=range(16), test=range(16, 22))
    values = {
        "model": {"base": tiny_base},
        "data": {"train": str(cats)},
        "train": {"lr": 3e-3, "batch_size": 8, "max_steps": 3},
        "eval": {"max_new_tokens": 4},
        "run": {"folder": str(tmp_path / "runs")},
    }
    run = job.start(validate_recipe(values, "test"), "one", CONSOLE)
    same = export_run(run, tmp_path / "same", 1.0)
    results = read_json(run.path / "results.json")["sets"]["test"]
    by_measure = {measure: cells for _, measure, *cells in same.rows}
    assert by_measure["loss"] == ["", f"{results['loss']:.4f}", f"{results['loss']:.4f}"]
    assert same.kl[0] == pytest.approx(same.kl[1], abs=1e-5)
    with pytest.raises(SystemExit) as end:
        main(["export", str(run.path), str(tmp_path / "half"), "--strength", "0.5"])
    assert end.value.code == 0
    assert "KL to the reference, nats per answer:" in capsys.readouterr().out
    facts = read_json(tmp_path / "half" / "strength.json")
    margins = next(row for row in facts["measured"] if row[1] == "reward margin")
    assert 0 < float(margins[-1]) < float(margins[-2])
