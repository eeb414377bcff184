"""Code that comes with a base runs by the recipe's word alone, an adapter's never."""

import json
import shutil

import pytest
from transformers import AutoConfig, AutoTokenizer

from dpo_lite.data import template
from dpo_lite.errors import UserError
from dpo_lite.model.adapter_files import CONFIG, WEIGHTS
from dpo_lite.model.base import BUILTIN_FOLDER, load_config, load_tokenizer
from dpo_lite.model.fresh import fresh_config
from dpo_lite.recipe import AdapterSection, ModelSection

CODE = "open({mark!r}, 'w').close()\n"
FOREIGN = "foreign"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Whoever is asked says yes."""
    asked = []
    monkeypatch.setattr("builtins.input", lambda text="": asked.append(text) or "y")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    yield tmp_path
    assert not asked
    assert not (tmp_path / "ran").exists()


def copy(home, name):
    folder = home / name
    shutil.copytree(BUILTIN_FOLDER / "myths", folder)
    return folder


def with_code(folder, home):
    """The tokenizer and the configuration of a kind that only code beside them knows."""
    (folder / "own.py").write_text(CODE.format(mark=str(home / "ran")))
    for file, keys in (
        (
            "tokenizer_config.json",
            {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}},
        ),
        ("config.json", {"model_type": FOREIGN, "auto_map": {"AutoConfig": "own.Own"}}),
    ):
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | keys))
    return folder


@pytest.mark.parametrize("load", [load_config, load_tokenizer])
def test_the_code_of_a_base_is_named_and_not_run(load, home):
    base = with_code(copy(home, "base"), home)
    with pytest.raises(UserError, match=r"model\.trust_remote_code=true"):
        load(ModelSection(base=str(base)))


@pytest.mark.parametrize("trusted", [False, True])
def test_the_code_of_an_adapter_is_never_run(trusted, home):
    """Not even where that of the base may be."""
    base, adapter = copy(home, "base"), with_code(copy(home, "adapter"), home)
    for name in ("tokenizer_config.json", "chat_template.jinja"):
        path = base / name
        if name.endswith("jinja"):
            path.unlink(missing_ok=True)
        else:
            kept = json.loads(path.read_text())
            kept.pop("chat_template", None)
            path.write_text(json.dumps(kept))
    (adapter / CONFIG).write_text("{}")
    shutil.copyfile(next(base.glob("*.safetensors")), adapter / WEIGHTS)
    section = ModelSection(base=str(base), adapter=str(adapter), trust_remote_code=trusted)
    assert not load_tokenizer(section).chat_template


@pytest.mark.parametrize("kind", [AutoConfig, AutoTokenizer])
def test_what_is_forgotten_fails_and_does_not_ask(kind, home):
    with pytest.raises(ValueError, match="trust_remote_code"):
        kind.from_pretrained(with_code(copy(home, "base"), home))


def test_a_template_without_end_is_one_sentence(monkeypatch):
    monkeypatch.setattr(template, "SECONDS", 0.5)
    tokenizer = AutoTokenizer.from_pretrained(BUILTIN_FOLDER / "myths")
    loop = "{% for i in range(90000) %}"
    tokenizer.chat_template = loop * 3 + "{% endfor %}" * 3
    with pytest.raises(UserError, match=r"chat template .* takes over 0\.5 s"):
        template.find_out(tokenizer, {})
    tokenizer.chat_template = "{% for i in range(10**9) %}{% endfor %}"
    with pytest.raises(UserError, match="chat template"):
        template.find_out(tokenizer, {})


def test_a_pattern_without_end_is_one_sentence(monkeypatch):
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr("dpo_lite.model.fresh.PATTERN_SECONDS", 0.2)
    config = AutoConfig.from_pretrained(BUILTIN_FOLDER / "myths")
    model = AutoModelForCausalLM.from_config(config)
    with pytest.raises(UserError, match=r"adapter\.targets: the pattern takes over 0\.2 s"):
        fresh_config(model, AdapterSection(targets=r"(([a-z0-9_.])*)*!"))
