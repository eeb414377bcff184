"""Adapters as PEFT makes them mean here what they meant there, or are refused in one sentence."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file, save_file

from dpo_lite.errors import UserError
from dpo_lite.export.merge import merge
from dpo_lite.model import adapter_files, attach, roles, saved_adapter
from dpo_lite.model.adapter_files import check_adapter
from dpo_lite.model.adapter_settings import SETTINGS, refusal
from dpo_lite.model.base import load_base
from dpo_lite.recipe import ModelSection
from scripts.adapters.bases import make_base, open_base, says
from scripts.adapters.document import fill, said_row, use_row
from scripts.adapters.kinds import KINDS, Kind, make_adapter
from scripts.adapters.trial import try_kind

DOCUMENT = Path(__file__).parents[2] / "docs" / "adapters.md"
QUICK = {"use_dora", "init_lora_weights: pissa", "embed_tokens adapted, tied"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kinds")


def marked(kind):
    """Each is a second: `-m long` tries all that are in the document, the others some."""
    return pytest.param(kind, id=kind.name, marks=() if kind.name in QUICK else pytest.mark.long)


@pytest.mark.parametrize("kind", [marked(kind) for kind in KINDS])
def test_the_document_says_what_becomes_of_an_adapter(kind, folder):
    outcome, text = try_kind(kind, folder), DOCUMENT.read_text("utf-8")
    assert set(outcome.uses.values()) <= {"right", "refused"}
    assert use_row(kind.name, outcome) in text
    if outcome.sentence:
        assert said_row(kind.name, outcome) in text


def test_the_document_has_nothing_else():
    rows = re.findall(r"(?m)^\| (.+?) \|", DOCUMENT.read_text("utf-8"))
    assert {row for row in rows if row not in ("adapter", "---")} == {k.name for k in KINDS}
    text = "a\n<!-- tried -->\nold\n<!-- end -->\nb"
    assert fill(text, {}).startswith("a\n<!-- tried -->\n| adapter | policy |")


def test_every_field_of_pefts_config_is_listed_once():
    """A PEFT with a new field fails here, and its adapters are refused where it is on."""
    assert {field.name for field in dataclasses.fields(LoraConfig)} == set(SETTINGS)
    tried = {key for kind in KINDS for key in [*kind.settings, *kind.written]}
    guarded = {key for key, setting in SETTINGS.items() if setting.does}
    assert guarded <= tried


def test_a_reward_models_head_is_known_and_nothing_else_beside_it():
    ours = {"peft_type": "LORA", "task_type": "SEQ_CLS", "modules_to_save": ["classifier", "score"]}
    assert refusal(ours) is None
    assert "whole modules" in refusal(ours | {"modules_to_save": ["score", "embed_tokens"]})


def test_what_the_list_is_for(folder, monkeypatch):
    """An adapter whose start was taken off the base's weights, loaded with the settings it has."""
    kind = next(k for k in KINDS if k.name == "init_lora_weights: olora")
    base = make_base(kind.base, folder / f"base-{kind.base}")
    meant = make_adapter(kind, base, folder / "olora")
    bare = open_base(base)
    before = says(bare)
    model = PeftModel.from_pretrained(bare, folder / "olora")
    assert (says(model) - meant).abs().max() < 1e-4
    with model.disable_adapter():  # PEFT's own: adapters off is not the base any more
        assert (says(model) - before).abs().max() > 1e-2
    monkeypatch.setattr(attach, "KEPT", [*attach.KEPT, "init_lora_weights"])
    monkeypatch.setattr(adapter_files, "refusal", lambda config: None)
    monkeypatch.setattr(saved_adapter, "refusal", lambda config: None)
    section = ModelSection(base=str(base), quantization="none")
    for reference in ("base", "start"):  # without the list a second net holds it
        with pytest.raises(UserError, match="adapters off the model is not its base any more"):
            roles.continue_policy(load_base(section), str(folder / "olora"), reference)
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"off the base's weights.*weight_conversion"):
        check_adapter(folder / "olora", None, "x")


def test_a_pattern_stays_a_pattern(folder):
    kind = next(k for k in KINDS if k.name == "target_modules: a pattern")
    base = make_base(kind.base, folder / f"base-{kind.base}")
    make_adapter(kind, base, folder / "pattern")
    section = ModelSection(base=str(base), quantization="none")
    model = roles.continue_policy(load_base(section), str(folder / "pattern"), "base")
    roles.save_policy(model, folder / "again", str(base), None)
    saved = json.loads((folder / "again" / "adapter_config.json").read_text("utf-8"))
    assert saved["target_modules"] == kind.settings["target_modules"]


def test_a_pattern_that_says_more_than_the_tensors_do(folder):
    """With exclusions beside it the pattern alone would name more layers: they are named anew."""
    settings = {"target_modules": r".*(q|v)_proj", "exclude_modules": r".*layers\.0.*"}
    kind = Kind("both", settings)
    base = make_base("plain", folder / "base-plain")
    meant = make_adapter(kind, base, folder / "both")
    section = ModelSection(base=str(base), quantization="none")
    model = roles.continue_policy(load_base(section), str(folder / "both"), "base")
    roles.save_policy(model, folder / "both again", str(base), None)
    again = PeftModel.from_pretrained(open_base(base), folder / "both again")
    assert torch.equal(says(again), meant)
    assert all(".layers.1." in name for name, _ in again.named_parameters() if "lora_" in name)


def test_dora_over_four_bits_is_scored_beside_other_adapters(folder):
    """Rows of one batch may wear DoRA and none, which PEFT's guard would refuse."""
    from dpo_lite.compare.adapter_rows import adapter_rows
    from dpo_lite.model.expert_adapter import BASE

    base = make_base("plain", folder / "base-plain")
    make_adapter(Kind("dora", {"use_dora": True}), base, folder / "dora")
    model = roles.load_policy(load_base(ModelSection(base=str(base))), folder / "dora").eval()
    with torch.no_grad():
        alone = says(model)
        with roles.reference(model):
            bare = says(model)
        ids = torch.arange(3, 23)[None].expand(2, -1)
        with adapter_rows(model, [roles.POLICY, BASE]):
            both = model(ids).logits.float().log_softmax(-1)
    assert (both[0] - alone).abs().max() < 1e-4
    assert (both[1] - bare).abs().max() < 1e-4
    assert (alone - bare).abs().max() > 1e-2


def test_a_copy_of_the_bases_embedding_is_left_out_and_another_one_refused(folder):
    """PEFT saves the whole embedding beside an adapter of it, or where it was resized."""
    kind = next(k for k in KINDS if k.name == "embed_tokens adapted")
    base = make_base(kind.base, folder / f"base-{kind.base}")
    make_adapter(kind, base, folder / "embedding")
    file = folder / "embedding" / "adapter_model.safetensors"
    tensors = load_file(file)
    (copy,) = [name for name in tensors if "lora" not in name]
    save_file(tensors | {copy: tensors[copy].bfloat16()}, file)  # as trained in 16 bits
    section = ModelSection(base=str(base), quantization="none")
    assert merge(str(base), None, str(file.parent), folder / "merged")["changed"] == 3
    model = load_base(section).bfloat16()
    assert roles.continue_policy(model, str(file.parent), "base", extra_r=2)
    save_file(tensors | {copy: tensors[copy] + 1}, file)
    with pytest.raises(UserError, match=r"embed_tokens.weight of its own"):
        merge(str(base), None, str(file.parent), folder / "other")
    with pytest.raises(UserError, match=r"embed_tokens.weight of its own.*merge_and_unload"):
        roles.continue_policy(load_base(section), str(file.parent), "base")
