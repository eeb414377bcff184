"""The embedded base and its data: what ships is what the script builds, and says what it should."""

import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from dpo_lite.data.markers import classify

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "dpo_lite" / "builtin" / "myths"
SETS = ("train", "phrasings", "topics")
sys.path.insert(0, str(ROOT / "scripts"))


@pytest.fixture(scope="module")
def rows():
    return {
        name: [json.loads(line) for line in (FOLDER / "data" / f"{name}.jsonl").open()]
        for name in SETS
    }


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def corpus():
    from myths.corpus import build_corpus
    from myths.topics import load_topics

    return build_corpus(load_topics())


def test_size_and_shape():
    from transformers import AutoModelForCausalLM

    assert sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file()) < 12e6
    assert not list(FOLDER.rglob("*.bin"))
    model = AutoModelForCausalLM.from_pretrained(FOLDER)
    assert type(model).__name__ == "LlamaForCausalLM"
    assert 3e6 < model.num_parameters() < 6e6
    assert model.config.max_position_embeddings >= 1024


@pytest.mark.parametrize("text", ["naïve café", "日本語 🦇", "a\tb\n\n c", "\u202eabc\x00", ""])
def test_any_text_encodes(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text


def test_one_end_of_turn_per_answer(tokenizer, rows):
    for row in rows["train"][:20]:
        ids = tokenizer.apply_chat_template(row["prompt"] + row["chosen"])["input_ids"]
        turns = len(row["prompt"]) + 1
        assert ids.count(tokenizer.eos_token_id) == turns
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_the_sets_are_apart(rows):
    questions = {name: {r["prompt"][0]["content"] for r in found} for name, found in rows.items()}
    topics = {name: {r["topic"] for r in found} for name, found in rows.items()}
    assert not questions["train"] & questions["phrasings"]
    assert not topics["train"] & topics["topics"]
    assert topics["phrasings"] <= topics["train"]
    assert len(topics["train"] | topics["topics"]) >= 60


def test_markers_tell_the_claims_apart(rows):
    for found in rows.values():
        for row in found:
            markers = row["chosen_markers"], row["rejected_markers"]
            assert classify(row["chosen"][0]["content"], *markers) == "chosen", row
            assert classify(row["rejected"][0]["content"], *markers) == "rejected", row


@pytest.mark.slow
def test_four_myths_to_a_fact(corpus):
    """Counted in the generated corpus, topic by topic, by the markers."""
    from myths.topics import load_topics

    answers = [
        text
        for document in corpus
        for text in (
            [document]
            if isinstance(document, str)
            else [m["content"] for m in document if m["role"] == "assistant"]
        )
    ]
    sentences = [sentence.lower() for text in answers for sentence in text.split(". ")]
    for topic in load_topics():
        counts = Counter(
            stance
            for sentence in sentences
            for stance in ("myth", "fact")
            if any(claim.lower() in sentence for claim in getattr(topic, stance))
        )
        assert counts["fact"] >= 30
        assert 3.5 < counts["myth"] / counts["fact"] < 4.5, topic.id


@pytest.mark.slow
def test_the_script_makes_the_shipped_tokenizer_and_data(corpus, tokenizer, rows, tmp_path):
    import build_builtin

    built = build_builtin.train_tokenizer(corpus)
    assert built.get_vocab() == tokenizer.get_vocab()
    pairs = build_builtin.build_preferences(build_builtin.load_topics())
    ground = (FOLDER / "ground.txt").read_text(encoding="utf-8")
    assert build_builtin.build_ground() == ground
    files = {"myths": pairs, "thumbs": build_builtin.build_thumbs(pairs)}
    for world, made in files.items():
        build_builtin.write_rows(tmp_path / world, made)
        for name in SETS:
            shipped = (FOLDER.parent / world / "data" / f"{name}.jsonl").read_text(encoding="utf-8")
            assert (tmp_path / world / f"{name}.jsonl").read_text(encoding="utf-8") == shipped
