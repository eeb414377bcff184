"""A GGUF file says what the folder says, as transformers reads it, and its rounding is measured."""

import json

import gguf
import numpy as np
import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer, GgufConfig

from dpo_lite.errors import UserError
from dpo_lite.export import k_quants
from dpo_lite.export.gguf_file import read_gguf, writable, write_gguf
from dpo_lite.export.gguf_levels import LEVELS, levels
from dpo_lite.export.gguf_model import FACTORS, gguf_model
from dpo_lite.export.gguf_quants import type_of
from dpo_lite.export.gguf_vocabulary import vocabulary
from tests.export.gguf_models import TEXTS, byte_level, save_model, sentencepiece

MODELS = {
    "llama": {},
    "llama with biases": {"mlp_bias": True, "attention_bias": True},
    "qwen2": {"tie_word_embeddings": False},
    "qwen3": {"head_dim": 128},  # as all have it; transformers reads no other
    "mistral": {"sliding_window": None, "head_dim": 32},
    # Two of transformers' own defaults that its reader of files takes: size and scale.
    "gemma2": {"sliding_window": 8, "head_dim": 256},
    "gemma3_text": {"sliding_window": 8, "head_dim": 256, "num_hidden_layers": 6},
}


SHORT = ("llama", "qwen3")
LONG = [pytest.mark.long, pytest.mark.slow]


def rounding(quantise, kind, rows):
    """The root of the mean squared error, as a share of the weights'."""
    back = gguf.dequantize(quantise(rows).numpy(), kind)
    error = torch.from_numpy(back) - rows
    return (error.square().mean() / rows.square().mean()).sqrt().item()


@pytest.mark.parametrize(
    ("quantise", "kind", "most"),
    [("q4_k", "Q4_K", 0.075), ("q5_k", "Q5_K", 0.038), ("q6_k", "Q6_K", 0.019)],
)
def test_k_quants_as_gguf_reads_them(quantise, kind, most):
    """Normal numbers, rounded with no more error than llama.cpp's own code leaves (7.2 %, 3.6 %
    and 1.8 %); places and signs are right, or it would be above 100 %."""
    quantise, kind = getattr(k_quants, quantise), gguf.GGMLQuantizationType[kind]
    rows = torch.randn(8, 768) * torch.logspace(-3, 1, 8)[:, None]
    rows[:, 256:512] += 0.5 * rows.std(1, keepdim=True)
    for row in rows:
        assert rounding(quantise, kind, row[None]) < most
    assert rounding(quantise, kind, torch.full((1, 256), -0.75)) < 1e-3
    assert not np.any(gguf.dequantize(quantise(torch.zeros(1, 256)).numpy(), kind))


@pytest.mark.parametrize(
    "kind",
    [*SHORT, *(pytest.param(k, marks=LONG) for k in MODELS if k not in SHORT)],
)
def test_the_file_says_what_the_folder_says(tmp_path, kind):
    tokenizer = byte_level("qwen2" if kind.startswith("qwen") else "llama-bpe")
    if gemma := kind.startswith("gemma"):
        tokenizer = sentencepiece(gemma=True)
    keys = MODELS[kind]
    model = save_model(tmp_path / "model", kind.split()[0], tokenizer, **keys)
    ids = torch.tensor([tokenizer(TEXTS[0])["input_ids"]])
    with torch.no_grad():
        truth = model(ids).logits.log_softmax(-1)
    for level, apart in (("f32", 1e-4), ("q8_0", 0.2)):
        write_gguf(tmp_path / "model", tmp_path / f"{level}.gguf", LEVELS[level], "small")
        read = AutoModelForCausalLM.from_pretrained(
            tmp_path,
            gguf_file=f"{level}.gguf",
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.float32,
        )
        if "attention_bias" in keys:
            continue  # transformers' reader of Llama leaves biases out
        with torch.no_grad():
            assert (read.eval()(ids).logits.log_softmax(-1) - truth).abs().max() < apart
    again = AutoTokenizer.from_pretrained(tmp_path, gguf_file="f32.gguf")
    assert again.chat_template == tokenizer.chat_template
    if not gemma:  # of whose scores transformers' reader makes other merges; llama.cpp needs none
        assert [again(t)["input_ids"] for t in TEXTS] == [tokenizer(t)["input_ids"] for t in TEXTS]
    # And by our own reader every weight comes back to the bit, turned rows and biases too.
    names, state = writable(tmp_path / "model"), model.state_dict()
    found = dict(read_gguf(tmp_path / "f32.gguf", names, list(state)))
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    assert set(found) == set(state) - tied
    for name in found:  # one is added to Gemma's norms and taken off again
        apart = 1e-6 if gemma and "norm" in name else 0.0
        torch.testing.assert_close(found[name], state[name], atol=apart, rtol=0)


def test_what_gemmas_file_says(tmp_path):
    """Checked by hand against llama.cpp itself: KL 7e-8 nats per token to transformers, fp32."""
    two = gguf_model(CONFIG_MAPPING["gemma2"]())
    assert two.architecture == "gemma2"
    said = {key: two.settings[key] for key in two.settings if "soft" in key or "sliding" in key}
    assert said == {
        "attention.sliding_window": 4096,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    }
    three = gguf_model(CONFIG_MAPPING["gemma3_text"](sliding_window=512))
    assert three.settings["rope.freq_base"] == 1e6
    assert three.settings["rope.freq_base_swa"] == 1e4
    assert three.settings["attention.sliding_window"] == 512
    assert three.note is None
    ones = torch.zeros(4)
    for name in ("model.norm.weight", "model.layers.0.self_attn.q_norm.weight"):
        assert torch.equal(three.rows(name, ones), ones + 1)
        assert torch.equal(three.rows_back(name, ones + 1), ones)
    assert torch.equal(three.rows("model.layers.0.mlp.up_proj.weight", ones), ones)


@pytest.mark.parametrize(
    ("kind", "keys", "what"),
    [
        ("gemma2", {"query_pre_attn_scalar": 144}, "scales scores"),
        ("gemma2", {"final_logit_softcapping": None}, "does not cap"),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}, "caps its scores"),
        ("gemma3_text", {"layer_types": ["full_attention"] * 26}, "each 6th layer"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "both ways"),
    ],
)
def test_a_gemma_that_llama_cpp_would_read_otherwise_is_refused(kind, keys, what):
    with pytest.raises(UserError, match=what):
        gguf_model(CONFIG_MAPPING[kind](**keys))


def test_27b_scales_its_scores_by_its_width():
    sizes = {"hidden_size": 4608, "num_attention_heads": 32, "head_dim": 128}
    config = CONFIG_MAPPING["gemma2"](num_hidden_layers=46, query_pre_attn_scalar=144, **sizes)
    assert gguf_model(config).settings["attention.key_length"] == 128


def test_gemmas_runs_of_spaces_are_words():
    tokenizer = sentencepiece(gemma=True)
    words = vocabulary(tokenizer, len(tokenizer))
    assert (words.model, words.space_before) == ("llama", False)
    spaces = words.tokens.index("▁▁")
    assert words.kinds[spaces] == 1  # else llama.cpp would write the marks out
    assert words.scores[spaces] == 0


def test_rows_of_each_head_alternate(tmp_path):
    """Two heads of four: 0 1 2 3 becomes 0 2 1 3, as llama.cpp's converter has them."""
    config = CONFIG_MAPPING["llama"](hidden_size=8, num_attention_heads=2, num_key_value_heads=1)
    names, rows = gguf_model(config), torch.arange(8.0)[:, None]
    turned = names.rows("model.layers.0.self_attn.q_proj.weight", rows)
    assert turned.flatten().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert torch.equal(names.rows("model.layers.0.self_attn.v_proj.weight", rows), rows)


def test_stretched_positions():
    """Llama 3.1's: high frequencies stay, low ones are divided by the factor."""
    rope = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    config = CONFIG_MAPPING["llama"](
        hidden_size=512, num_attention_heads=4, rope_parameters=dict(rope)
    )
    factors = gguf_model(config).factors
    assert factors.shape == (64,)
    assert factors[0].item() == pytest.approx(1)
    assert factors[-1].item() == pytest.approx(8)
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    config = CONFIG_MAPPING["qwen2"](rope_parameters=yarn | {"rope_theta": 1e6})
    settings = gguf_model(config).settings
    assert settings["rope.scaling.type"] == "yarn"
    assert settings["rope.scaling.original_context_length"] == 32768
    config.rope_parameters["attention_factor"] = 2.0
    with pytest.raises(UserError, match="attention_factor"):
        gguf_model(config)


def test_what_is_not_written_names_the_converter():
    with pytest.raises(UserError, match=r"not for phi3; .*--llama-cpp"):
        gguf_model(CONFIG_MAPPING["phi3"]())


def test_a_window_is_told():
    config = CONFIG_MAPPING["mistral"](sliding_window=4096, max_position_embeddings=32768)
    assert "4,096" in gguf_model(config).note
    assert gguf_model(CONFIG_MAPPING["qwen2"](sliding_window=4096)).note is None


@pytest.mark.parametrize("cut", ["gpt-2", "smollm", "qwen2", "llama-bpe"])
def test_the_way_of_cutting_is_named(cut):
    tokenizer = byte_level(cut)
    words = vocabulary(tokenizer, len(tokenizer) + 2)
    assert (words.model, words.pre) == ("gpt2", cut)
    assert words.tokens[-1] == f"[PAD{len(tokenizer) + 1}]"
    assert words.kinds[:3] == [3, 3, 3]
    assert words.kinds[3] == 1
    assert words.kinds[-1] == 5


def test_another_way_of_cutting_is_refused():
    tokenizer = byte_level("gpt-2")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    with pytest.raises(UserError, match="cuts text by rules that have no name"):
        vocabulary(tokenizer, len(tokenizer))
    with pytest.raises(UserError, match="some token has no weights"):
        vocabulary(byte_level("gpt-2"), 100)


def test_sentencepiece_has_scores_in_the_order_of_merges():
    tokenizer = sentencepiece()
    words = vocabulary(tokenizer, len(tokenizer))
    assert (words.model, words.space_before) == ("llama", True)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    first, last = ("".join(merges[place]) for place in (0, -1))
    score = dict(zip(words.tokens, words.scores, strict=True))
    assert score[first] > score[last]
    kinds = dict(zip(words.tokens, words.kinds, strict=True))
    assert (kinds["<unk>"], kinds["<0x0A>"], kinds["<|im_end|>"]) == (2, 6, 3)


def test_levels_deal_out_bits_as_llama_cpp_does():
    """Types that its llama-quantize gave the tensors of SmolLM2-135M (576 wide, 30 layers)."""
    (level,) = levels("q4_k_m")

    def of(name, *shape):
        return type_of(level, name, shape, 30, tied=True)

    assert of("token_embd.weight", 49152, 576) == "Q8_0"
    assert of("blk.0.attn_q.weight", 576, 576) == "Q5_0"
    assert of("blk.0.attn_v.weight", 192, 576) == "Q8_0"
    assert of("blk.4.attn_v.weight", 192, 576) == "Q5_0"
    assert [of(f"blk.{n}.ffn_down.weight", 576, 1536) for n in (0, 3, 4, 5, 8, 29)] == [
        *("Q6_K", "Q4_K", "Q4_K", "Q6_K", "Q6_K", "Q6_K")
    ]
    assert of("output_norm.weight", 576) == "F32"
    assert type_of(level, "output.weight", (99, 512), 30, tied=False) == "Q6_K"
    assert type_of(level, "token_embd.weight", (99, 512), 30, tied=False) == "Q4_K"
    assert type_of(LEVELS["q8_0"], "blk.0.attn_q.weight", (40, 40), 30, True) == "F16"
    with pytest.raises(UserError, match="q3_k_s"):
        levels("q8_0,q3_k_s")


def test_llama_3s_frequencies_are_in_the_file(tmp_path):
    rope = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    save_model(tmp_path / "model", "llama", byte_level("llama-bpe"), rope_parameters=rope)
    write_gguf(tmp_path / "model", tmp_path / "a.gguf", LEVELS["f16"], "small")
    tensors = {t.name: t for t in gguf.GGUFReader(tmp_path / "a.gguf").tensors}
    assert tensors[FACTORS].tensor_type.name == "F32"
    assert tensors[FACTORS].data[0] == pytest.approx(1)
