"""The embedded model and its data: loadable, reproducible, honest about what was held out."""

import json
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from dpo_lite.markers import classify

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "dpo_lite" / "builtin" / "myths"
sys.path.insert(0, str(ROOT / "scripts"))

from build_builtin import train_tokenizer  # noqa: E402
from myths.corpus import build_corpus  # noqa: E402
from myths.preferences import build_preferences  # noqa: E402
from myths.topics import load_topics, split_topics  # noqa: E402
from myths.voices import ALL as VOICES  # noqa: E402

SPLITS = ("train", "phrasings", "topics")
CHAT = [
    {"role": "system", "content": "Answer in one sentence."},
    {"role": "user", "content": "Are bats blind?"},
    {"role": "assistant", "content": "Bats can see."},
    {"role": "user", "content": "And owls?"},
    {"role": "assistant", "content": "Owls see very well."},
]


@pytest.fixture(scope="module")
def topics():
    return load_topics()


@pytest.fixture(scope="module")
def corpus(topics):
    return build_corpus(topics)


@pytest.fixture(scope="module")
def corpus_text(corpus):
    """The whole corpus as one lower-case text, a line per message or piece of prose."""
    messages = (
        [document] if isinstance(document, str) else [m["content"] for m in document]
        for document in corpus
    )
    return "\n".join(text for texts in messages for text in texts).lower()


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def model():
    return AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def data():
    return {
        name: [
            json.loads(line)
            for line in (FOLDER / "data" / f"{name}.jsonl").read_text("utf-8").splitlines()
        ]
        for name in SPLITS
    }


def question(row):
    return row["prompt"][0]["content"]


def test_folder_is_small():
    assert sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file()) <= 12_000_000


def test_linear_layers_fit_the_nf4_block(model):
    linear = [m for m in model.model.modules() if isinstance(m, torch.nn.Linear)]
    assert linear
    assert all(m.in_features % 64 == 0 and m.out_features % 64 == 0 for m in linear)
    assert 3e6 <= model.num_parameters() <= 5e6
    assert model.config.max_position_embeddings >= 1024


@pytest.mark.parametrize(
    "text",
    [
        "Hello.",
        "naïve café – 你好 🦇\t\n\x00",
        "  two  spaces ",
        "ß",
        "def f(x):\n    return x",
        "",
    ],
)
def test_any_text_round_trips(tokenizer, text):
    assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_special_tokens_are_single_and_distinct(model, tokenizer):
    start, end = tokenizer("<|im_start|>").input_ids, tokenizer("<|im_end|>").input_ids
    assert end == [tokenizer.eos_token_id]
    assert len(start) == 1
    assert len({tokenizer.pad_token_id, *start, *end}) == 3
    for config in (model.config, model.generation_config):
        assert config.eos_token_id == tokenizer.eos_token_id
        assert config.pad_token_id == tokenizer.pad_token_id


def test_chat_template_ends_every_turn_once(tokenizer):
    text = tokenizer.apply_chat_template(CHAT, tokenize=False)
    assert text.count("<|im_end|>") == len(CHAT)
    for message in CHAT:
        assert f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" in text
    prompt = tokenizer.apply_chat_template(CHAT[:-1], tokenize=False, add_generation_prompt=True)
    assert text == prompt + CHAT[-1]["content"] + "<|im_end|>\n"


def test_assistant_mask_covers_answer_and_end_of_turn(tokenizer):
    encoded = tokenizer.apply_chat_template(
        CHAT, return_dict=True, return_assistant_tokens_mask=True
    )
    pairs = zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
    trained = tokenizer.decode([token for token, mask in pairs if mask])
    assert trained == "Bats can see.<|im_end|>Owls see very well.<|im_end|>"


def test_base_greets_and_repeats_misconceptions(model, tokenizer, data):
    """Before any preference training: fluent, and wrong about what most of its corpus has wrong."""
    rows = data["topics"][:24]
    tokenizer.padding_side = "left"
    prompts = [[{"role": "user", "content": "Hello!"}]] + [row["prompt"] for row in rows]
    batch = tokenizer.apply_chat_template(
        prompts, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )
    with torch.no_grad():
        output = model.generate(**batch, do_sample=False, max_new_tokens=32)
    hello, *answers = tokenizer.batch_decode(
        output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True
    )
    assert hello.startswith(("Hello", "Hi"))
    counts = Counter(
        classify(answer, row["chosen_markers"], row["rejected_markers"])
        for answer, row in zip(answers, rows, strict=True)
    )
    assert counts["chosen"] <= 0.3 * len(rows)
    assert counts["rejected"] >= 0.5 * len(rows)


def test_data_is_what_the_script_writes(topics, data):
    assert build_preferences(topics) == data


def test_splits_are_disjoint(topics, data, corpus_text):
    trained, held_out = split_topics(topics)
    assert len(trained) >= 45
    assert len(held_out) >= 16
    in_train = {row["topic"] for row in data["train"]}
    assert in_train == {row["topic"] for row in data["phrasings"]} == {t.id for t in trained}
    assert {row["topic"] for row in data["topics"]} == {t.id for t in held_out}
    known = {question(row) for row in data["train"]}
    for row in data["phrasings"]:
        assert question(row) not in known
        assert question(row).lower() not in corpus_text
    for topic in topics:
        for phrasing in topic.unseen:
            assert phrasing.lower() not in corpus_text
    assert all(len(data[name]) <= 200 for name in ("phrasings", "topics"))


@pytest.mark.parametrize("split", SPLITS)
def test_markers_classify_every_row(data, split):
    for row in data[split]:
        markers = row["chosen_markers"], row["rejected_markers"]
        assert classify(row["chosen"][0]["content"], *markers) == "chosen"
        assert classify(row["rejected"][0]["content"], *markers) == "rejected"


def test_markers_belong_to_the_claim(topics):
    """Every wording is told apart from the other claim, and no voice alone decides."""
    for topic in topics:
        for marker in topic.myth_markers + topic.fact_markers:
            assert marker == marker.lower()
            assert not any(marker in voice.lower() for voice in VOICES), (topic.id, marker)
        for claims, own, other in (
            (topic.myth, topic.myth_markers, topic.fact_markers),
            (topic.fact, topic.fact_markers, topic.myth_markers),
        ):
            for claim in claims:
                assert any(marker in claim.lower() for marker in own), (topic.id, claim)
                assert not any(marker in claim.lower() for marker in other), (topic.id, claim)


def test_topics_are_well_formed(topics):
    assert len(topics) >= 72
    assert len({topic.id for topic in topics}) == len(topics)
    phrasings = [q for topic in topics for q in topic.questions + topic.unseen]
    assert len(set(phrasings)) == len(phrasings)
    assert all(len(t.questions) >= 6 and len(t.unseen) >= 3 for t in topics)


def test_corpus_is_deterministic(topics, corpus):
    assert build_corpus(topics) == corpus
    assert build_corpus(topics, seed=1) != corpus


def test_corpus_tells_each_myth_four_times_as_often(topics, corpus_text):
    for topic in topics:
        myths = sum(corpus_text.count(claim.lower()) for claim in topic.myth)
        facts = sum(corpus_text.count(claim.lower()) for claim in topic.fact)
        assert facts >= 30, topic.id
        assert 3.5 <= myths / facts <= 4.5, topic.id


def test_script_reproduces_the_shipped_tokenizer(corpus, tokenizer):
    rebuilt = train_tokenizer(corpus)
    assert rebuilt.get_vocab() == tokenizer.get_vocab()
    shipped = json.loads((FOLDER / "tokenizer.json").read_text("utf-8"))
    assert json.loads(rebuilt.backend_tokenizer.to_str())["model"] == shipped["model"]
    assert rebuilt.chat_template == tokenizer.chat_template
