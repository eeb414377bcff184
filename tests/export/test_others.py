"""For llama.cpp and Ollama: the files, the commands, and a template that says the same."""

import pytest

from dpo_lite.errors import UserError
from dpo_lite.export.llama_cpp import commands, make_ready
from dpo_lite.export.ollama import find_wraps, modelfile
from dpo_lite.files import read_json, write_json

LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
DEFAULT_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MERGED_SYSTEM = (  # Mistral's: the system text goes into the first user turn
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] "
    "{% if loop.index0 == 1 %}{{ messages[0]['content'] }}\n\n{% endif %}{{ m['content'] }} [/INST]"
    "{% elif m['role'] == 'assistant' %}{{ m['content'] }}</s>{% endif %}{% endfor %}"
)


def with_template(tokenizer, template):
    import copy

    changed = copy.deepcopy(tokenizer)
    changed.chat_template = template
    return changed


@pytest.mark.parametrize(
    "template", [None, LLAMA3, DEFAULT_SYSTEM], ids=["chatml", "llama", "qwen"]
)
def test_the_template_says_the_same(chat_tokenizer, template):
    tokenizer = with_template(chat_tokenizer, template or chat_tokenizer.chat_template)
    if template == LLAMA3:
        tokenizer.bos_token = "<|begin_of_text|>"
    wraps = find_wraps(tokenizer)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "So."},
        {"role": "user", "content": "And?"},
    ]
    shown = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert wraps.render(messages) == shown.removeprefix("<|begin_of_text|>")
    if template != DEFAULT_SYSTEM:  # without a system text nothing is added either
        alone = tokenizer.apply_chat_template(
            messages[1:], tokenize=False, add_generation_prompt=True
        )
        assert wraps.render(messages[1:]) == alone.removeprefix("<|begin_of_text|>")
    text, note = modelfile("./x.gguf", tokenizer)
    assert note is None
    assert text.startswith("FROM ./x.gguf\n")
    assert '{{ else if eq .Role "user" }}' in text


def test_no_template_where_wraps_cannot_say_it(chat_tokenizer):
    tokenizer = with_template(chat_tokenizer, MERGED_SYSTEM)
    assert find_wraps(tokenizer) is None
    text, note = modelfile("./x.gguf", tokenizer)
    assert "TEMPLATE" not in text
    assert 'PARAMETER stop "<|im_end|>"' in text
    assert "no template" in note


def test_ready_for_the_converter(tmp_path):
    folder = tmp_path / "my model"
    folder.mkdir()
    with pytest.raises(UserError, match=r"neither tokenizer.json nor"):
        make_ready(folder)
    (folder / "tokenizer.json").write_text("{}")
    write_json(folder / "tokenizer_config.json", {"eos_token": "x"})
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    make_ready(folder)
    settings = read_json(folder / "tokenizer_config.json")
    assert settings == {"eos_token": "x", "chat_template": "{{ messages }}"}
    convert, small = commands(folder)
    assert f"convert_hf_to_gguf.py '{folder}' --outfile" in convert
    assert small.endswith("Q4_K_M")
