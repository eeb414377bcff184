"""For llama.cpp and Ollama: the files, the commands, and a template that says the same."""

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from dpo_lite.errors import UserError
from dpo_lite.export.llama_cpp import commands, make_ready
from dpo_lite.export.ollama import find_wraps, modelfile, write_modelfile
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
EMPTY_SYSTEM = (  # Llama 3.1's: a system turn is always written, and more stands in it
    "{{ bos_token }}{% set asked = messages[0]['role'] == 'system' %}"
    "<|start_header_id|>system<|end_header_id|>\n\nIt is {{ strftime_now('%Y') }}.\n\n"
    "{{ messages[0]['content'] if asked else '' }}<|eot_id|>"
    "{% for m in (messages[1:] if asked else messages) %}"
    "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] }}<|eot_id|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
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


def set_begin(tokenizer, begin, added):
    """A BOS, and whether the tokenizer puts it before every text."""
    tokenizer.add_special_tokens({"bos_token": begin})
    if added:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, tokenizer.bos_token_id)]
        )


@pytest.mark.parametrize("asked", [True, False], ids=["system", "no-system"])
@pytest.mark.parametrize("added", [True, False], ids=["bos-added", "bos-not-added"])
@pytest.mark.parametrize(
    ("template", "begin"),
    [
        (None, None),
        (None, "<|im_start|>"),
        (DEFAULT_SYSTEM, None),
        (DEFAULT_SYSTEM, "<|im_start|>"),
        (LLAMA3, "<|begin_of_text|>"),
        (EMPTY_SYSTEM, "<|begin_of_text|>"),
    ],
    ids=["chatml", "chatml-bos", "qwen", "smollm", "llama", "llama-3.1"],
)
def test_the_template_says_the_same(chat_tokenizer, template, begin, added, asked):
    tokenizer = with_template(chat_tokenizer, template or chat_tokenizer.chat_template)
    if begin:
        set_begin(tokenizer, begin, added)
    messages = [{"role": "system", "content": "Be brief."}] * asked + [
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "So."},
        {"role": "user", "content": "And?"},
    ]
    wraps = find_wraps(tokenizer)
    if (template, begin, added) == (None, "<|im_start|>", True):
        assert wraps is None  # the first of the turns, whichever it is, has no mark of its own
        return
    by_llama_cpp = begin if added and begin else ""
    shown = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert by_llama_cpp + wraps.render(messages) == shown
    text, _ = modelfile("./x.gguf", tokenizer)
    assert text.startswith("FROM ./x.gguf\n")
    assert '{{ else if eq .Role "user" }}' in text


def test_a_turn_keeps_its_mark_where_that_is_the_bos(chat_tokenizer):
    tokenizer = with_template(chat_tokenizer, DEFAULT_SYSTEM)
    tokenizer.bos_token = "<|im_start|>"
    text, note = modelfile("./x.gguf", tokenizer)
    assert note is None
    assert 'eq .Role "system" }}<|im_start|>system\n{{ .Content }}<|im_end|>\n{{' in text
    assert text.count("<|im_start|>") == 4  # three roles, and the answer that is opened


def test_the_default_system_text_is_the_modelfiles(chat_tokenizer):
    text, _ = modelfile("./x.gguf", with_template(chat_tokenizer, DEFAULT_SYSTEM))
    assert '\nSYSTEM """Be kind."""\n' in text
    text, _ = modelfile("./x.gguf", chat_tokenizer)
    assert "\nSYSTEM" not in text


def test_a_system_turn_that_is_written_without_a_text_too(chat_tokenizer):
    """SYSTEM cannot say it, for Ollama takes an empty one for none."""
    tokenizer = with_template(chat_tokenizer, EMPTY_SYSTEM)
    tokenizer.bos_token = "<|begin_of_text|>"
    text, note = modelfile("./x.gguf", tokenizer)
    assert '"""<|begin_of_text|>{{- if not .System }}<|start_header_id|>system' in text
    assert "\nSYSTEM" not in text
    assert "date" in note


@pytest.mark.parametrize(
    ("place", "text"), [("Be kind.", '"""'), ("<|im_start|>{{", '"""'), ("<|im_start|>{{", "{{")]
)
def test_no_template_where_a_text_would_be_read_otherwise(chat_tokenizer, place, text):
    assert place in DEFAULT_SYSTEM
    template = DEFAULT_SYSTEM.replace(place, "{{ " + repr(text) + " }}" + place)
    written, note = modelfile("./x.gguf", with_template(chat_tokenizer, template))
    assert "TEMPLATE" not in written
    assert "SYSTEM" not in written
    assert "no template" in note


@pytest.mark.parametrize("added", [True, False])
def test_llama_cpp_is_told_whether_to_add_a_bos(chat_tokenizer, tmp_path, added):
    """Else it guesses by the kind of vocabulary, and a BOS stood there twice or not at all."""
    tokenizer = with_template(chat_tokenizer, LLAMA3)
    set_begin(tokenizer, "<|begin_of_text|>", added)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')  # a merged model's
    assert write_modelfile(tmp_path, "./x.gguf") is None
    assert read_json(tmp_path / "tokenizer_config.json")["add_bos_token"] is added
    assert ("<|begin_of_text|>" in (tmp_path / "Modelfile").read_text()) is not added
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again("the cat")["input_ids"] == tokenizer("the cat")["input_ids"]


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
