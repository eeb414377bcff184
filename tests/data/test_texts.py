"""Plain text, without a chat template: where it is cut, and what stands at its ends."""

from copy import deepcopy

from tokenizers.processors import TemplateProcessing

from dpo_lite.data.examples import Example, Reason
from dpo_lite.data.tokens import CharacterEncoder, Encoder
from tests.data.tokenizers import (
    assistant,
    before_every_text,
    user,
)


def raw(tokenizer, prompt, responses, **options):
    encoder = Encoder(tokenizer, raw=True)
    rendered = encoder.render(Example(prompt, responses, 0, **options))
    return encoder.tokenise([rendered])[0]


def test_raw_text_moves_a_trailing_space_to_the_response(chat_tokenizer):
    found = raw(chat_tokenizer, [user("the cat ")], ["sat", "ran"])
    assert chat_tokenizer.decode(found.prompt_ids) == "the cat"
    assert chat_tokenizer.decode(found.response_ids[0]) == " sat<|im_end|>"
    assert not found.melted


def test_raw_dialogues_keep_their_speakers(chat_tokenizer):
    found = raw(chat_tokenizer, [user("Hi")], [" Hello", " Ho"], dialogue=True)
    assert chat_tokenizer.decode(found.prompt_ids) == "\n\nHuman: Hi\n\nAssistant:"
    assert chat_tokenizer.decode(found.response_ids[0]) == " Hello<|im_end|>"


def test_raw_text_has_at_most_one_bos_and_one_end(chat_tokenizer):
    """Also where the tokenizer puts both around every text by itself."""
    tokenizer = deepcopy(chat_tokenizer)
    tokenizer.bos_token = "<|im_start|>"
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A <|im_end|>",
        special_tokens=[("<|im_start|>", begin), ("<|im_end|>", end)],
    )
    found = raw(tokenizer, [user("the cat")], ["sat", "ran"])
    assert found.prompt_ids.count(begin) == 1
    assert found.prompt_ids[0] == begin
    assert end not in found.prompt_ids
    assert all(ids.count(end) == 1 and ids[-1] == end for ids in found.response_ids)


def test_a_bos_that_the_tokenizer_adds_twice_is_added_once(chat_tokenizer):
    tokenizer = deepcopy(chat_tokenizer)
    tokenizer.bos_token = "<|im_start|>"
    backend = tokenizer.backend_tokenizer
    backend.post_processor = before_every_text(backend, "<|im_start|>", "<|im_start|>")
    assert tokenizer("the cat")["input_ids"].count(tokenizer.bos_token_id) == 2
    found = raw(tokenizer, [user("the cat")], ["sat", "ran"])
    assert tokenizer.decode(found.prompt_ids) == "<|im_start|>the cat"


def test_plain_text_has_no_place_for_tools(chat_tokenizer):
    encoder = Encoder(chat_tokenizer, raw=True)
    calls = {**assistant(""), "tool_calls": [{"function": {"name": "wei", "arguments": {}}}]}
    for example in (
        Example([user("a"), calls, user("b")], ["c", "d"], 0),
        Example([user("a")], ["c", "d"], 0, template={"tools": [{"name": "wei"}]}),
    ):
        dropped = encoder.render(example)
        assert (dropped.reason, "need a chat template" in dropped.detail) == (Reason.TEMPLATE, True)
        shown = CharacterEncoder().render(example)
        assert shown.rests == [" c", " d"] if len(example.prompt) > 1 else ["c", "d"]
        assert ("wei" in shown.prompt) == (len(example.prompt) > 1)
