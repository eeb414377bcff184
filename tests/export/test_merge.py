"""Merging shard by shard equals PEFT's own merging of the loaded model."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    Zamba2Config,
)

from dpo_lite.errors import UserError
from dpo_lite.export import deltas
from dpo_lite.export import merge as merging
from dpo_lite.export.merge import INDEX, merge, weight_places
from dpo_lite.files import read_json, write_json
from dpo_lite.model import roles
from dpo_lite.model.base import load_base
from dpo_lite.recipe import AdapterSection, ModelSection
from tests.model.small_experts import save_mixture
from tests.model.small_models import SIZES, VOCAB, small_model
from tests.model.small_towers import TOWERS, small_tower

IDS = torch.arange(3, 20)[None]


def base_and_adapter(tmp_path, kind="llama", dtype=torch.float32, shards=None, model=None, **lora):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    made = small_model(kind, **(model or {})).to(dtype)
    made.save_pretrained(base, **({"max_shard_size": shards} if shards else {}))
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"} | lora
    peft = get_peft_model(made, LoraConfig(**settings))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
    peft.save_pretrained(adapter, save_embedding_layers=False)
    return base, adapter


def logits(folder_or_model):
    model = folder_or_model
    if not isinstance(model, torch.nn.Module):
        model = AutoModelForCausalLM.from_pretrained(folder_or_model)
    with torch.no_grad():
        return model.eval()(IDS).logits.float().log_softmax(-1)


def expected(base, adapter):
    """The adapter on the base, unmerged."""
    return logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter))


GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64}
CASES = {
    "one file": {},
    "shards": {"shards": "100KB"},
    "tied": {"model": {"tie_word_embeddings": True}, "shards": "100KB"},
    "tied head is a target": {
        "model": {"tie_word_embeddings": True},
        "target_modules": ["q_proj", "lm_head"],
    },
    "ranks and scales by layer": {
        "rank_pattern": {"q_proj": 8},
        "alpha_pattern": {"layers.1.self_attn.v_proj": 32},
    },
    "rslora": {"use_rslora": True},
    "gemma": {"kind": "gemma2", "shards": "100KB"},
    "phi": {"kind": "phi3"},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_merged_is_adapter_on_base(tmp_path, case, monkeypatch):
    monkeypatch.setattr(merging, "ROWS_BYTES", 4096)  # several blocks of rows for each weight
    base, adapter = base_and_adapter(tmp_path, **case)
    done = merge(str(base), None, str(adapter), tmp_path / "out")
    assert done["changed"] > 0
    assert (logits(tmp_path / "out") - expected(base, adapter)).abs().max() < 1e-4
    assert (logits(tmp_path / "out") - logits(base)).abs().max() > 1e-2
    if case.get("shards"):
        assert len(read_json(tmp_path / "out" / INDEX)["weight_map"]) == len(weight_places(base))


def test_weights_stored_transposed(tmp_path):
    """GPT-2's layers are Conv1D: in × out."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    made = GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, **GPT2))
    made.save_pretrained(tmp_path / "base")
    peft = get_peft_model(made, LoraConfig(target_modules=["c_attn"], fan_in_fan_out=True))
    with torch.no_grad():
        for name, parameter in peft.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
    peft.save_pretrained(tmp_path / "adapter")
    merge(str(tmp_path / "base"), None, str(tmp_path / "adapter"), tmp_path / "out")
    difference = logits(tmp_path / "out") - expected(tmp_path / "base", tmp_path / "adapter")
    assert difference.abs().max() < 1e-4


def test_the_dtype_is_kept_and_rounded_once(tmp_path):
    base, adapter = base_and_adapter(tmp_path, dtype=torch.bfloat16)
    merge(str(base), None, str(adapter), tmp_path / "out")
    before, after = (load_file(tmp_path / f / "model.safetensors") for f in ("base", "out"))
    lora = load_file(adapter / "adapter_model.safetensors")
    name = "model.layers.0.mlp.up_proj"
    down, up = (lora[f"base_model.model.{name}.lora_{part}.weight"].float() for part in "AB")
    whole = (before[f"{name}.weight"].float() + 2 * up @ down).to(torch.bfloat16)
    assert torch.equal(after[f"{name}.weight"], whole)
    assert {t.dtype for t in after.values()} == {torch.bfloat16}
    untouched = "model.embed_tokens.weight"
    assert torch.equal(after[untouched], before[untouched])


def test_little_memory(tmp_path, monkeypatch):
    """No more than a block of rows is ever turned into fp32."""
    monkeypatch.setattr(merging, "ROWS_BYTES", 4096)
    seen = []
    honest = deltas.Delta.merged

    def merged(self, weight, begin, end):
        seen.append(end - begin)
        return honest(self, weight, begin, end)

    monkeypatch.setattr(deltas.Delta, "merged", merged)
    base, adapter = base_and_adapter(tmp_path)
    merge(str(base), None, str(adapter), tmp_path / "out")
    assert max(seen) == 16  # of 64 columns of four bytes


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda base, adapter, out: out.mkdir() or (out / "x").touch(), "is not empty"),
        (lambda base, adapter, out: quantised(base), "is quantised itself.*--base the/16bit"),
        (lambda base, adapter, out: (base / "model.safetensors").unlink(), "has no model.safe"),
        (lambda base, adapter, out: renamed(adapter), "has no weight for the adapter's layer"),
        (lambda base, adapter, out: other_shape(adapter), "has the shape"),
        (lambda base, adapter, out: blocks(adapter), "matrices in blocks"),
    ],
)
def test_refusals_leave_nothing(tmp_path, spoil, message):
    base, adapter = base_and_adapter(tmp_path)
    spoil(base, adapter, tmp_path / "out")
    there = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=message):
        merge(str(base), None, str(adapter), tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == there


def quantised(base):
    config = read_json(base / "config.json")
    extra = {"quantization_config": {"load_in_4bit": True}, "_name_or_path": "the/16bit"}
    write_json(base / "config.json", config | extra)


def renamed(adapter):
    file = adapter / "adapter_model.safetensors"
    save_file({k.replace("q_proj", "w_proj"): v for k, v in load_file(file).items()}, file)


def other_shape(adapter):
    file = adapter / "adapter_model.safetensors"
    wide = {k: torch.cat([v, v], 1) if "lora_A" in k else v for k, v in load_file(file).items()}
    save_file(wide, file)


def blocks(adapter):
    config = json.loads((adapter / "adapter_config.json").read_text())
    write_json(adapter / "adapter_config.json", config | {"use_bdlora": {"nblocks": 2}})


def trained_on(folder, adapter, **section):
    """A policy over a base that says something, saved to ``adapter``."""
    base = load_base(ModelSection(base=str(folder), quantization="none"))
    model = roles.add_policy(base, AdapterSection(r=2, alpha=8, **section), seed=0)
    with torch.no_grad():
        for parameter in roles.trainable_parameters(model):
            parameter.copy_(torch.randn_like(parameter) * 0.1)
    roles.save_policy(model, adapter, str(folder), None)
    return model


MARKS = {"gemma3": (), "qwen3_vl_moe": pytest.mark.slow}  # dense, and with experts
TOWER_KINDS = [pytest.param(k, marks=MARKS.get(k, pytest.mark.long)) for k in TOWERS]


@pytest.mark.parametrize("kind", TOWER_KINDS)
def test_the_published_model_is_merged_and_keeps_its_towers(tmp_path, kind):
    """Its files name layers otherwise than the model does, and towers have layers of such names."""
    small_tower(kind).save_pretrained(tmp_path / "base", max_shard_size="200KB")
    model = trained_on(tmp_path / "base", tmp_path / "adapter")
    done = merge(str(tmp_path / "base"), None, str(tmp_path / "adapter"), tmp_path / "out")
    whole = AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    assert (logits(whole) - logits(model)).abs().max() < 1e-3
    before, after = (
        {n: t for f in (tmp_path / p).glob("*.safetensors") for n, t in load_file(f).items()}
        for p in ("base", "out")
    )
    assert before.keys() == after.keys()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert len(changed) == done["changed"] > 0
    assert not [n for n in changed if any(w in n for w in ("vision", "visual", "projector"))]


def test_names_of_an_older_format(tmp_path):
    """As the first Qwen2.5-VL checkpoints have them."""
    small_tower("qwen2_5_vl").save_pretrained(tmp_path / "base")
    file = tmp_path / "base" / "model.safetensors"
    tensors = {
        k.replace("model.visual", "visual").replace("model.language_model", "model"): v
        for k, v in load_file(file).items()
    }
    assert "model.layers.0.self_attn.q_proj.weight" in tensors
    save_file(tensors, file, metadata={"format": "pt"})
    model = trained_on(tmp_path / "base", tmp_path / "adapter")
    merge(str(tmp_path / "base"), None, str(tmp_path / "adapter"), tmp_path / "out")
    whole = AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    assert (logits(whole) - logits(model)).abs().max() < 1e-4
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == tensors.keys()


def test_an_adapter_of_the_text_class_is_merged_into_the_published_model(tmp_path):
    small_tower("gemma3").save_pretrained(tmp_path / "base")
    model = trained_on(tmp_path / "base", tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({k.replace("language_model.", ""): v for k, v in load_file(file).items()}, file)
    merge(str(tmp_path / "base"), None, str(tmp_path / "adapter"), tmp_path / "out")
    whole = AutoModelForImageTextToText.from_pretrained(tmp_path / "out")
    assert (logits(whole) - logits(model)).abs().max() < 1e-4


RENAMED = {
    "kimi_linear": {
        "layer_types": ["linear_attention", "full_attention"],
        "mlp_layer_types": ["dense", "sparse"],
        "linear_num_heads": 4,
        "linear_head_dim": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 16,
        "v_head_dim": 16,
        "num_key_value_heads": 4,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
    },
    "lfm3": {"layer_types": ["conv", "full_attention"], "head_dim": 16},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", RENAMED)
def test_layers_that_files_call_otherwise(tmp_path, kind):
    config = CONFIG_MAPPING[kind](**SIZES | {"num_hidden_layers": 2} | RENAMED[kind])
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    model = trained_on(tmp_path / "base", tmp_path / "adapter")
    layers = {name for name, _ in model.get_base_model().named_parameters()}
    assert layers - set(weight_places(tmp_path / "base"))
    merge(str(tmp_path / "base"), None, str(tmp_path / "adapter"), tmp_path / "out")
    assert (logits(tmp_path / "out") - logits(model)).abs().max() < 1e-3
    assert (logits(tmp_path / "out") - logits(tmp_path / "base")).abs().max() > 1e-2


def test_an_embedding_that_is_also_the_head_is_changed_alone(tmp_path):
    tied = {"tie_word_embeddings": True}
    base, adapter = base_and_adapter(tmp_path, model=tied, target_modules=["embed_tokens"])
    merge(str(base), None, str(adapter), tmp_path / "out")
    assert (logits(tmp_path / "out") - expected(base, adapter)).abs().max() < 1e-4


def test_files_without_the_prefix_of_the_model(tmp_path):
    """As GPT-2's are on the Hub: ``h.0.attn`` for ``transformer.h.0.attn``."""
    base, adapter = base_and_adapter(tmp_path)
    file = base / "model.safetensors"
    bare = {k.removeprefix("model."): v for k, v in load_file(file).items()}
    save_file(bare, file, metadata={"format": "pt"})
    merge(str(base), None, str(adapter), tmp_path / "out")
    assert (logits(tmp_path / "out") - expected(base, adapter)).abs().max() < 1e-4


def test_a_weight_that_layers_share_is_refused(tmp_path):
    """Zamba2 goes through the same blocks several times, each time with an adapter of its own."""
    config = Zamba2Config(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        mamba_d_state=16,
        mamba_headdim=16,
        n_mamba_heads=8,
        num_mem_blocks=1,
        layers_block_type=["mamba", "hybrid", "mamba", "hybrid"],
    )
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    trained_on(tmp_path / "base", tmp_path / "adapter")
    with pytest.raises(UserError, match=r"layers\.1\S+ and \S+layers\.3\S+ of the base share one"):
        merge(str(tmp_path / "base"), None, str(tmp_path / "adapter"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mixtral", "gpt_oss", "granitemoe", "deepseek_v3"])
def test_experts_are_merged_into_the_tensors_of_the_files(tmp_path, kind, monkeypatch):
    """Which hold them one by one, or fused and turned round, as each family publishes them."""
    monkeypatch.setattr(merging, "ROWS_BYTES", 4096)
    folder = save_mixture(kind, tmp_path / "base")
    model = trained_on(folder, tmp_path / "adapter", experts=True)
    merge(folder, None, str(tmp_path / "adapter"), tmp_path / "out")
    assert (logits(tmp_path / "out") - logits(model)).abs().max() < 1e-3
    assert (logits(tmp_path / "out") - logits(folder)).abs().max() > 1e-2
