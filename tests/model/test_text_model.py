"""Checkpoints with other senses are trained on text, by the names that they are published with."""

import json
import warnings

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    CONFIG_MAPPING,
    AutoModelForImageTextToText,
    AutoModelForSequenceClassification,
)

from dpo_lite.errors import UserError
from dpo_lite.export.merge import merge
from dpo_lite.model import roles
from dpo_lite.model.adapter_files import CONFIG, WEIGHTS
from dpo_lite.model.base import load_base
from dpo_lite.model.choosing import choose_way, difference_from_truth, true_token_logps
from dpo_lite.model.layers import decoder_of
from dpo_lite.model.recompute import decoder_layers, recompute
from dpo_lite.model.scoring import lay_out, response_logps, response_scores
from dpo_lite.model.text_model import classes, from_config
from dpo_lite.recipe import AdapterSection, ModelSection
from tests.model.small_models import GEMMA_3N, SIZES, random_examples, small_model
from tests.model.small_towers import TOWERS, small_config, small_tower

QUICK = ["gemma3", "qwen3_vl", "glm4v_moe"]
KINDS = [
    k if k in QUICK else pytest.param(k, marks=(pytest.mark.slow, pytest.mark.long)) for k in TOWERS
]
ADAPTER = AdapterSection(r=4, alpha=8)
IDS = torch.tensor([[1, *range(3, 14)]])


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The folder of a published checkpoint of a kind."""
    made = {}

    def folder(kind):
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            small_tower(kind).save_pretrained(made[kind])
        return str(made[kind])

    return folder


def text_model(folder, quantization="none"):
    return load_base(ModelSection(base=folder, quantization=quantization))


def trained(base, section=ADAPTER):
    """A policy whose adapter says something."""
    model = roles.add_policy(base, section, seed=0)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in roles.trainable_parameters(model):
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def on_the_published_model(plain, adapter):
    """Loaded by PEFT alone, which may not warn of names that find no place."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return PeftModel.from_pretrained(plain, str(adapter)).eval()


def adapted(model):
    return sorted(name for name, _ in model.named_modules() if name.endswith("lora_A"))


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_does_the_same_on_the_published_model(kind, published, tmp_path):
    folder = published(kind)
    plain = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    base = text_model(folder)
    assert type(base).__name__ == type(plain).__name__
    towers = [name for name, _ in plain.named_modules() if name not in dict(base.named_modules())]
    assert any("vision" in name or "visual" in name for name in towers)
    assert base.num_parameters() < plain.num_parameters()
    with torch.no_grad():
        bare = plain(input_ids=IDS).logits
        assert torch.equal(base.eval()(input_ids=IDS).logits, bare)
        model = trained(base)
        roles.save_policy(model, tmp_path, folder, None)
        ours = model.eval()(input_ids=IDS).logits
        theirs = on_the_published_model(plain, tmp_path)
        found = theirs(input_ids=IDS).logits
    assert torch.allclose(found, ours, atol=1e-5)
    assert (found - bare).abs().max() > 0.01
    assert adapted(theirs) == adapted(model)


@pytest.mark.slow
@pytest.mark.long
def test_a_reward_model_is_a_classifier_of_the_published_model(published, tmp_path):
    """Where transformers has such a class, by its names."""
    folder = published("gemma3")
    assert classes(small_config("gemma3")) == {
        "answers": "Gemma3ForConditionalGeneration",
        "scalar": "Gemma3ForSequenceClassification",
    }
    model = roles.add_policy(text_model(folder), ADAPTER, seed=0, head=True)
    with torch.no_grad():
        for parameter in roles.trainable_parameters(model):
            parameter.add_(torch.randn_like(parameter) * 0.05)
        roles.save_policy(model, tmp_path, folder, None)
        row = {"prompt_ids": IDS[0, :5].tolist(), "response_ids": [IDS[0, 5:].tolist()]}
        ours = response_scores(model.eval(), lay_out([row], "separate"))
        plain = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
        theirs = on_the_published_model(plain, tmp_path)(input_ids=IDS).logits
    assert torch.allclose(theirs[0], ours, atol=1e-5)
    assert abs(ours) > 1e-3


def test_named_targets_are_those_of_the_text_model(published, tmp_path):
    """The tower's layers have the same names, and would be given adapters that say nothing."""
    folder = published("gemma3")
    model = trained(text_model(folder), AdapterSection(r=4, alpha=8, targets=["q_proj"]))
    roles.save_policy(model, tmp_path, folder, None)
    theirs = on_the_published_model(AutoModelForImageTextToText.from_pretrained(folder), tmp_path)
    assert adapted(theirs) == adapted(model)
    assert len(adapted(theirs)) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_the_unmodified_model(kind, published):
    model = trained(text_model(published(kind))).train()
    examples = random_examples(3, 2)
    choice = choose_way(model, examples)
    assert choice.way in ("forest", "separate")
    assert choice.difference < 2e-6
    truth = true_token_logps(model, examples)
    assert difference_from_truth(model, examples, "separate", truth) < 2e-6


@pytest.mark.parametrize("kind", KINDS)
def test_every_layer_of_the_text_model_can_be_computed_again(kind, published):
    model = trained(text_model(published(kind))).train()
    layers = decoder_layers(model)
    assert len(layers) == model.config.get_text_config().num_hidden_layers
    inside = {id(module) for module in decoder_of(model.get_base_model()).modules()}
    assert {id(layer) for layer in layers} <= inside
    batch = lay_out(random_examples(3, 2), "separate")

    def gradient():
        model.zero_grad()
        response_logps(model, batch, "separate").square().sum().backward()
        return torch.cat([p.grad.flatten() for p in roles.trainable_parameters(model)])

    expected = gradient()
    assert expected.abs().max() > 0
    for how in ("layers", "selective", "offload"):
        recompute(model, how)
        found = gradient()
        assert (found - expected).norm() / expected.norm() < 1e-6, how


NAMINGS = {
    "text": "base_model.model.model.",
    "older": "base_model.model.language_model.model.",
    "published": "base_model.model.model.language_model.",
}


def renamed_copy(source, target, naming):
    """The same adapter as another class of the same model would have saved it."""
    tensors = load_file(source / WEIGHTS)
    named = {k.replace(NAMINGS["published"], NAMINGS[naming]): t for k, t in tensors.items()}
    assert naming == "published" or named.keys().isdisjoint(tensors)
    config = json.loads((source / CONFIG).read_text())
    target.mkdir()
    (target / CONFIG).write_text(json.dumps(config | {"target_modules": ["q_proj", "v_proj"]}))
    save_file(named, target / WEIGHTS)
    return target


@pytest.mark.slow
@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("kind", ["gemma3", "qwen3_vl"])
def test_an_adapter_of_another_class_is_read(kind, naming, published, tmp_path):
    folder = published(kind)
    model = trained(text_model(folder), AdapterSection(r=4, alpha=8, targets=["q_proj", "v_proj"]))
    roles.save_policy(model, tmp_path / "own", folder, None)
    other = renamed_copy(tmp_path / "own", tmp_path / "other", naming)
    again = roles.continue_policy(text_model(folder), str(other), "start")
    batch = lay_out(random_examples(2, 2), "separate")
    expected, found = (response_logps(m, batch, "separate") for m in (model, again))
    assert torch.equal(found, expected)
    with roles.reference(again):
        assert torch.equal(response_logps(again, batch, "separate"), expected)


def test_an_adapter_of_the_published_class_is_read_by_the_text_class(published, tmp_path):
    """A text model on its own, as Gemma 3 1B is, with an adapter of the family's larger ones."""
    base = small_model("gemma3_text")
    model = trained(base, AdapterSection(r=4, alpha=8, targets=["q_proj"]))
    roles.save_policy(model, tmp_path / "own", "base", None)
    tensors = load_file(tmp_path / "own" / WEIGHTS)
    wide = {k.replace("model.layers", "model.language_model.layers"): t for k, t in tensors.items()}
    save_file(wide, tmp_path / "own" / WEIGHTS)
    again = roles.continue_policy(small_model("gemma3_text"), str(tmp_path / "own"), "base")
    batch = lay_out(random_examples(2, 2), "separate")
    expected, found = (response_logps(m, batch, "separate") for m in (model, again))
    assert torch.equal(found, expected)


def test_an_adapter_of_the_tower_is_refused(published, tmp_path):
    folder = published("qwen3_vl")
    plain = AutoModelForImageTextToText.from_pretrained(folder)
    theirs = get_peft_model(plain, LoraConfig(r=4, target_modules=["q_proj", "qkv"]))
    torch.nn.init.ones_(next(p for n, p in theirs.named_parameters() if "lora_B" in n))
    theirs.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"also changes model\.visual\.blocks\.0\.attn\.qkv"):
        roles.continue_policy(text_model(folder), str(tmp_path), "base")


def test_a_config_that_makes_no_model_is_one_sentence():
    config = CONFIG_MAPPING["lfm2_moe"]()  # says nothing of its layers
    with pytest.raises(UserError, match=r"from the config of lfm2_moe \(TypeError: .*config\.json"):
        from_config(config)


@pytest.mark.slow
def test_gemma_3n_needs_no_package_of_its_tower(tmp_path):
    """Its text model looks up tokens of pictures and sounds in any text, and has no tower."""
    text = CONFIG_MAPPING["gemma3n_text"](**SIZES | GEMMA_3N).to_dict()
    sound = {"hidden_size": 16, "conf_num_hidden_layers": 1, "conf_num_attention_heads": 2}
    ids = {"vision_config": {"vocab_size": 3}, "audio_config": sound | {"vocab_size": 3}}
    config = CONFIG_MAPPING["gemma3n"](text_config=text, **ids)
    made = from_config(config)
    assert not any("conformer" in name for name, _ in made.named_modules())
    made.save_pretrained(tmp_path / "base")
    model = trained(text_model(str(tmp_path / "base")), AdapterSection(r=2)).train()
    assert type(model.get_base_model()).__name__ == "Gemma3nForConditionalGeneration"
    assert choose_way(model, random_examples(2, 2)).difference < 1e-5
    roles.save_policy(model, tmp_path / "adapter", "some/base", None)
    merge(str(tmp_path / "base"), None, str(tmp_path / "adapter"), tmp_path / "merged")
    batch = lay_out(random_examples(2, 2), "separate")
    with torch.no_grad():
        found = response_logps(text_model(str(tmp_path / "merged")), batch, "separate")
        assert torch.allclose(found, response_logps(model, batch, "separate"), atol=1e-4)
