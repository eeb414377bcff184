"""The adapter in the formats of llama.cpp, vLLM and SGLang: the same function, or a refusal."""

import gguf
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from dpo_lite.errors import UserError
from dpo_lite.export.as_adapter import export_gguf_adapter, export_vllm
from dpo_lite.export.gguf_model import gguf_model
from dpo_lite.export.plain_lora import plain
from dpo_lite.files import read_json
from dpo_lite.model.adapter_files import CONFIG, WEIGHTS
from tests.export.test_strength import plain_peft, untrained_run

IDS = torch.arange(3, 40)[None]
UNEVEN = {"use_rslora": True, "rank_pattern": {"q_proj": 6}, "alpha_pattern": {"v_proj": 3}}


def adapted(run, base, **lora):
    """The run's adapter replaced by one of these settings, of random numbers."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"} | lora
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **settings))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(run.adapter, save_embedding_layers=False)
    return run


def test_one_rank_and_one_scale_say_the_same(tiny_base, tmp_path):
    run = adapted(untrained_run(tmp_path / "a", tiny_base), tiny_base, **UNEVEN)
    done = export_vllm(run, tmp_path / "out")
    config = read_json(tmp_path / "out" / CONFIG)
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (6, 6, False)
    assert {t.shape[0] for n, t in load_file(done.path / WEIGHTS).items() if "lora_A" in n} == {6}
    with torch.no_grad():
        before = plain_peft(tiny_base, run.adapter)(IDS).logits
        after = plain_peft(tiny_base, tmp_path / "out")(IDS).logits
    assert torch.allclose(before, after, atol=1e-5)
    served, other = done.commands
    assert "--max-lora-rank 8 --lora-modules a=" in served
    assert "sglang.launch_server" in other
    with pytest.raises(UserError, match="exists"):
        export_vllm(run, tmp_path / "out")


def test_llama_cpps_adapter_adds_the_same_to_its_rows(tiny_base, tmp_path):
    run = adapted(untrained_run(tmp_path / "a", tiny_base), tiny_base, **UNEVEN)
    done = export_gguf_adapter(run, tmp_path / "out")
    reader = gguf.GGUFReader(done.path)
    assert reader.fields["general.type"].contents() == "adapter"
    assert reader.fields["adapter.type"].contents() == "lora"
    alpha = reader.fields["adapter.lora.alpha"].contents()
    tensors = {tensor.name: torch.from_numpy(tensor.data.copy()) for tensor in reader.tensors}
    model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    names, peft = gguf_model(model.config), PeftModel.from_pretrained(model, run.adapter)
    for layer in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "mlp.down_proj"):
        weight = f"model.layers.1.{layer}.weight"
        name = names.name(weight)
        down, up = tensors[f"{name}.lora_a"], tensors[f"{name}.lora_b"]
        module = peft.get_submodule(f"base_model.model.model.layers.1.{layer}")
        truth = names.rows(weight, module.get_delta_weight("default"))
        assert torch.allclose(alpha / len(down) * up @ down, truth, atol=1e-6)
    assert len(tensors) == 2 * 14


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"lora_bias": True}, "lora_B.bias"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "lora_embedding"),
        ({"target_modules": ["q_proj", "lm_head"]}, "the head"),
    ],
)
def test_what_they_do_not_serve(tiny_base, tmp_path, settings, word):
    run = adapted(untrained_run(tmp_path / "a", tiny_base), tiny_base, **settings)
    with pytest.raises(UserError, match=word):
        plain(run.adapter)


def test_a_rank_above_vllms(tiny_base, tmp_path):
    run = untrained_run(tmp_path / "a", tiny_base)
    adapted(run, tiny_base, r=520, target_modules=["q_proj"])
    with pytest.raises(UserError, match="Rank 520"):
        export_vllm(run, tmp_path / "out")
