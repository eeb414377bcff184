"""The versions in the caches' keys: nobody changes the code they stand for without thinking."""

import ast

import pytest

from dpo_lite.data import cache_versions, encoding
from dpo_lite.data.cache_versions import ALGORITHMS, ENCODING, SCORING, code_hash, source_file
from dpo_lite.data.encoding import Options

# What the named modules import of data and model, and what decides no number.
WITHOUT_INFLUENCE = {
    "ENCODING": {"dpo_lite.data.cache", "dpo_lite.data.cache_versions"},
    "SCORING": {
        "dpo_lite.data.cache",
        "dpo_lite.data.prepare",  # a type
        "dpo_lite.model.adapter_files",
        "dpo_lite.model.adapter_settings",  # takes an adapter or refuses it
        "dpo_lite.model.divided",  # who has to keep in step
        "dpo_lite.model.heads",  # the reference has none
        "dpo_lite.model.identity",  # is in the key by what it finds
        "dpo_lite.model.load_faults",  # says why a base does not load
        "dpo_lite.model.safetensors_header",
        "dpo_lite.model.tensor_files",  # reads what is there, or says what is damaged
        "dpo_lite.model.stacking",  # the start adapter's weights are in the key
        "dpo_lite.model.untouched",  # looks on
    },
    "FOREST": {
        "dpo_lite.data.cache_versions",
        "dpo_lite.model.chance",  # takes dropout out, of which the small copy has none
        "dpo_lite.model.recompute",
        "dpo_lite.model.scoring",  # reads the model's own logits
    },
}


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda one: one.name)
def test_the_code_is_as_it_was_when_somebody_last_looked(algorithm):
    present = code_hash(algorithm.modules)
    assert present == algorithm.recorded, (
        f"\nCode that {algorithm.name} stands for has changed: {', '.join(algorithm.modules)}.\n"
        "Decide whether it now gives other numbers for the same input. If it does, raise the "
        f"version of {algorithm.name} in dpo_lite/data/cache_versions.py (now "
        f"{algorithm.version}), so that what was kept before is not read "
        "again.\nIn both cases record the new hash:\n"
        f"    python -m dpo_lite.data.cache_versions\nwhich writes recorded={present!r}."
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda one: one.name)
def test_what_the_named_modules_import_is_named_too(algorithm):
    """So a part that is moved to a file of its own does not leave the hash unseen."""
    imported = {name for module in algorithm.modules for name in imports(module)}
    others = {name for name in imported if name.startswith(("dpo_lite.data.", "dpo_lite.model."))}
    assert others <= {*algorithm.modules} | WITHOUT_INFLUENCE[algorithm.name]


def imports(module):
    for node in ast.walk(ast.parse(source_file(module).read_text())):
        if isinstance(node, ast.ImportFrom):
            inner = (f"{node.module}.{name.name}" for name in node.names)
            yield from (name for name in (node.module, *inner) if source_file(name).is_file())


def test_version_one_is_spelt_as_the_hash_of_files_before_it():
    """Literals made by the last code that hashed its files: its caches are met again."""
    where = {"score": ">= 3", "lang": "en"}
    options = Options("triples", {"prompt": "question"}, where, "all", 100)
    tables = [encoding._table_key("rows", made, "tokenizer") for made in (Options(), options)]
    known = ["e8d47f1d2930d80af40665abe1c8eef6", "9a17febb2bc0a087d8a8f61577701828"]
    assert ENCODING.version > 1 or tables == known
    code = "2d7f67f5d835569c25870035732f3c03750021589b698da11ce97f0612716468"
    assert SCORING.version > 1 or SCORING.key == code


def test_comments_docstrings_and_layout_are_not_code(tmp_path, monkeypatch):
    monkeypatch.setattr(cache_versions, "ROOT", tmp_path)

    def hash_of(text):
        (tmp_path / "module.py").write_text(text)
        return code_hash(["module"])

    plain = hash_of("def f(x):\n    return x + 1\n")
    assert (
        hash_of('"""Words."""\n\ndef f(x):  # why\n    """More."""\n    return (x\n + 1)') == plain
    )
    assert hash_of("def f(x):\n    return x + 2\n") != plain
    assert hash_of("def f(x):\n    return x - 1\n") != plain
    assert hash_of("def f(x, y=None):\n    return x + 1\n") != plain
    assert hash_of('def f(x):\n    return x + 1\ng = "text"\n') != plain


def test_recording_writes_what_is_new_and_nothing_else(tmp_path, monkeypatch, capsys):
    copy = tmp_path / "cache_versions.py"
    text = source_file("dpo_lite.data.cache_versions").read_text()
    copy.write_text(text)
    monkeypatch.setattr(cache_versions, "__file__", str(copy))
    monkeypatch.setattr(cache_versions, "code_hash", lambda modules: "0" * 64)
    cache_versions.record()
    for algorithm in ALGORITHMS:
        text = text.replace(algorithm.recorded, "0" * 64)
    assert copy.read_text() == text
    assert capsys.readouterr().out.count("recorded 0000") == len(ALGORITHMS)
