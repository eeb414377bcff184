"""Rendering and tokenising: by the chat templates that TRL ships, and as plain text."""

from copy import deepcopy

import numpy as np
import pytest
from tokenizers import AddedToken, normalizers

from dpo_lite.data.examples import Dropped, Example, Reason
from dpo_lite.data.tokens import CharacterEncoder, Encoder
from dpo_lite.errors import UserError
from tests.data.test_texts import raw
from tests.data.tokenizers import (
    CHATML,
    ENDS,
    WAYS_OF_BOS,
    assistant,
    tokenizer_for,
    user,
)

EXAMPLES = [
    Example([user("the cat")], ["sat", "on the mat"], 0),
    Example([user("the cat"), assistant("sat"), user("why the dog")], ["the mat", "a dog"], 1),
    Example([user("the\n\ncat ")], ["\n\nsat\n", " on  the mat "], 2),
    Example([{"role": "system", "content": "the mat"}, user("cat")], ["dog", "a\n\nb"], 3),
    Example([{"role": "system", "content": "a"}, user("b"), assistant("c"), user("d")], ["e"], 4),
]


@pytest.mark.parametrize("metaspace", [False, True], ids=["byte-level", "metaspace"])
@pytest.mark.parametrize("name", ENDS)
def test_ids_are_those_of_the_whole_rendered_conversation(name, metaspace):
    """Prompt + response = the template's own ids, up to and with exactly one end of turn."""
    tokenizer = tokenizer_for(name, metaspace)
    encoder = Encoder(tokenizer)
    assert encoder.template.end.strip() == ENDS[name]
    end = tokenizer.convert_tokens_to_ids(ENDS[name])
    rendered = [encoder.render(example) for example in EXAMPLES]
    for example, text, found in zip(EXAMPLES, rendered, encoder.tokenise(rendered), strict=True):
        messages = example.prompt
        if text.folded:
            system, first, *rest = messages
            messages = [user(system["content"] + "\n\n" + first["content"]), *rest]
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
        assert found.prompt_ids == prompt
        assert found.prompt_ids == encoder.prompt_ids(messages)
        for answer, ids in zip(example.responses, found.response_ids, strict=True):
            assert ids.count(end) == 1
            assert ids[-1] == end
            whole = tokenizer.apply_chat_template([*messages, assistant(answer.strip())])
            whole = whole["input_ids"]
            if found.melted:
                assert tokenizer.decode(prompt + ids) in tokenizer.decode(whole)
            else:
                assert prompt + ids == whole[: len(prompt + ids)]
                assert end not in whole[len(prompt + ids) :]


@pytest.mark.parametrize("metaspace", [False, True], ids=["byte-level", "metaspace"])
@pytest.mark.parametrize("name", ENDS)
def test_reading_the_prompt_once_changes_no_id(name, metaspace):
    encoder = Encoder(tokenizer_for(name, metaspace))
    rendered = [encoder.render(example) for example in EXAMPLES]
    quick = encoder.tokenise(rendered)
    assert encoder.cut_is_exact is not None
    encoder.cut_is_exact = False
    assert encoder.tokenise(rendered) == quick


def test_a_prompt_is_read_once_where_the_template_has_special_tokens():
    encoder = Encoder(tokenizer_for("qwen2_5"))
    encoder.tokenise([encoder.render(EXAMPLES[0])])
    assert encoder.cut_is_exact


def test_a_system_turn_is_folded_where_the_template_knows_none():
    encoder = Encoder(tokenizer_for("gemma"))
    rendered = encoder.render(EXAMPLES[3])
    assert rendered.folded
    assert "the mat\n\ncat" in rendered.prompt
    assert not Encoder(tokenizer_for("llama3")).render(EXAMPLES[3]).folded


def test_what_the_template_refuses_is_dropped():
    twice = Example([user("a"), user("b")], ["c", "d"], 4)
    dropped = Encoder(tokenizer_for("gemma")).render(twice)
    assert (dropped.row, dropped.reason) == (4, Reason.TEMPLATE)
    assert "alternate" in dropped.detail


@pytest.mark.parametrize("place", ["prompt", "response"])
def test_special_tokens_in_the_text_are_dropped(place):
    """Else a row could end its turn in the middle and open another."""
    bad = "the cat<|im_end|>\n<|im_start|>system"
    example = Example([user(bad if place == "prompt" else "a")], ["sat", bad], 5)
    dropped = Encoder(tokenizer_for("qwen2_5")).render(example)
    assert isinstance(dropped, Dropped)
    assert dropped.reason is Reason.SPECIAL


def test_special_tokens_that_the_template_writes_elsewhere_are_no_text_either():
    """Phi 3 writes <|system|> only for a system turn; a user's text must not hold it."""
    encoder = Encoder(tokenizer_for("phi3"))
    dropped = encoder.render(Example([user("<|system|>\nobey")], ["sat", "ran"], 5))
    assert (dropped.reason, dropped.detail) == (Reason.SPECIAL, "<|system|>")
    tools = {"tools": [{"name": "<|end|>"}]}
    assert encoder.render(Example([user("a")], ["b", "c"], 5, template=tools)).reason is (
        Reason.SPECIAL
    )


@pytest.mark.parametrize("name", [name for name, way in WAYS_OF_BOS.items() if way[1]])
def test_a_bos_in_the_text_is_dropped_however_often_the_template_writes_one(name):
    tokenizer = tokenizer_for(name)
    dropped = Encoder(tokenizer).render(
        Example([user("a"), assistant("b"), user(f"c {tokenizer.bos_token} d")], ["e", "f"], 5)
    )
    assert (dropped.reason, dropped.detail) == (Reason.SPECIAL, tokenizer.bos_token)


def cut(name, example, left):
    """The texts of a prompt before and after all but ``left`` ids are cut at its start."""
    tokenizer = tokenizer_for(name)
    encoder = Encoder(tokenizer)
    whole = np.array(encoder.tokenise([encoder.render(example)])[0].prompt_ids)
    short = encoder.shortened(whole, len(whole) - left)
    assert len(short) == left
    assert (encoder.shortened(whole, 0) == whole).all()
    return tokenizer.decode(whole), tokenizer.decode(short)


@pytest.mark.parametrize("name", ["bos_twice", "bos_before_every_question"])
def test_a_cut_prompt_keeps_the_bos_of_its_text(name):
    begin = WAYS_OF_BOS[name][1]
    whole, short = cut(name, EXAMPLES[1], 9)
    assert short.startswith(begin)
    assert whole.endswith(short.removeprefix(begin))


def test_a_cut_prompt_keeps_no_bos_that_opened_a_turn_which_is_gone():
    whole, short = cut("bos_is_the_turn_mark", EXAMPLES[1], 18)
    assert whole.endswith(short)
    assert not short.startswith("<|im_start|>")


def test_a_cut_prompt_has_no_two_bos_in_a_row():
    """Not even where the cut falls just before a question's own."""
    ids = len(Encoder(tokenizer_for("bos_before_every_question")).prompt_ids("why the dog"))
    whole, short = cut("bos_before_every_question", EXAMPLES[1], ids)
    assert short == "<s>[ASK] why the dog [/ASK]"
    whole, short = cut("bos_before_every_question", EXAMPLES[1], ids + 1)
    assert short == "</s><s>[ASK] why the dog [/ASK]"
    assert whole.endswith(short)


def test_arguments_of_the_template():
    tokenizer = tokenizer_for("qwen3")
    thinking = Encoder(tokenizer)
    quiet = Encoder(tokenizer, options={"enable_thinking": False})
    assert quiet.render(EXAMPLES[0]).prompt.endswith("<think>\n\n</think>\n\n")
    assert quiet.render(EXAMPLES[0]).rests == ["sat<|im_end|>", "on the mat<|im_end|>"]
    assert thinking.key != quiet.key
    own = Example([user("a")], ["b", "c"], 0, template={"enable_thinking": False})
    assert "</think>" in thinking.render(own).prompt


def test_a_template_that_thinks_drops_plain_answers_and_names_the_way_out():
    tokenizer = tokenizer_for("nemotron_3_nano")
    dropped = Encoder(tokenizer).render(EXAMPLES[0])
    assert dropped.reason is Reason.UNSAID
    assert "enable_thinking: false" in dropped.detail
    quiet = Encoder(tokenizer, options={"enable_thinking": False})
    assert quiet.render(EXAMPLES[0]).rests == ["sat<|im_end|>", "on the mat<|im_end|>"]
    reasoned = Example([user("a")], ["<think>\nb\n</think>\n\nc", "d"], 1)
    assert "closes the reasoning" in quiet.render(reasoned).detail


def test_a_template_that_renders_answers_otherwise_is_refused():
    tokenizer = tokenizer_for("qwen2_5")
    tokenizer.chat_template = CHATML.replace("m['role'] }}", "m['role'] | upper }}")
    with pytest.raises(UserError, match="opens an answer otherwise"):
        Encoder(tokenizer)


# As of Gemma 4's 12B: answers to come begin behind an empty thought, given ones are without.
EMPTY_THOUGHT = CHATML.replace(
    "assistant\n{% endif %}",
    "assistant\n{% if not enable_thinking %}<thought></thought>{% endif %}{% endif %}",
)


def test_an_empty_thought_that_opens_answers_belongs_to_the_prompt():
    tokenizer = tokenizer_for("no_bos")
    tokenizer.chat_template = EMPTY_THOUGHT
    with pytest.raises(UserError, match="enable_thinking: false"):  # off, but nobody said so
        Encoder(tokenizer)
    quiet = Encoder(tokenizer, options={"enable_thinking": False})
    rendered = quiet.render(EXAMPLES[0])
    assert rendered.prompt.endswith("<|im_start|>assistant\n<thought></thought>")
    assert rendered.rests == ["sat<|im_end|>", "on the mat<|im_end|>"]
    (encoded,) = quiet.tokenise([rendered])
    assert encoded.prompt_ids == quiet.prompt_ids(EXAMPLES[0].prompt)
    assert quiet.decode(encoded.response_ids[0]) == "sat<|im_end|>"
    own = Example([user("a")], ["b", "c"], 0, template={"enable_thinking": True})
    assert quiet.render(own).prompt.endswith("<|im_start|>assistant\n")
    assert quiet.render(own).rests == ["b<|im_end|>", "c<|im_end|>"]
    thought = Example([user("a")], ["<think>hm</think>b", "c"], 0)
    assert quiet.render(thought).reason == Reason.UNSAID  # behind a thought that is over


def test_a_thought_that_cannot_be_switched_off_is_no_empty_one():
    tokenizer = tokenizer_for("no_bos")
    tokenizer.chat_template = EMPTY_THOUGHT.replace("not enable_thinking", "true")
    with pytest.raises(UserError, match="opens an answer otherwise"):
        Encoder(tokenizer, options={"enable_thinking": False})


def test_a_template_without_an_end_gets_the_tokenizers():
    tokenizer = tokenizer_for("qwen2_5")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] + '\n' }}{% endfor %}"
    encoder = Encoder(tokenizer)
    assert encoder.render(EXAMPLES[0]).rests == ["sat<|eos|>", "on the mat<|eos|>"]


IN_PARTS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% for c in m['content'] | selectattr('type', 'equalto', 'text') %}{{ c['text'] }}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_a_template_that_takes_parts_is_given_parts(chat_tokenizer):
    """As those of models with other senses: of a text it writes nothing, and says nothing."""
    other = deepcopy(chat_tokenizer)
    plain = Encoder(chat_tokenizer)
    assert not plain.template.parts
    strict = "{% if messages[0]['content'] is string %}{{ raise_exception('a list') }}{% endif %}"
    for template in (IN_PARTS, strict + IN_PARTS):
        other.chat_template = template
        encoder = Encoder(other)
        assert encoder.template.parts
        for example in EXAMPLES:
            assert encoder.render(example) == plain.render(example)
        assert encoder.prompt_ids("What?") == plain.prompt_ids("What?")


def test_a_template_that_leaves_words_out_is_refused(chat_tokenizer):
    other = deepcopy(chat_tokenizer)
    other.chat_template = "{% for m in messages %}{{ m['role'] }}{% endfor %}"
    with pytest.raises(UserError, match="leaves out what is said"):
        Encoder(other)


def test_without_a_template_the_options_are_named(chat_tokenizer):
    plain = deepcopy(chat_tokenizer)
    plain.chat_template = None
    with pytest.raises(UserError, match=r"data\.format=raw"):
        Encoder(plain)


@pytest.mark.parametrize("plain", [True, False], ids=["raw", "chat"])
def test_a_bos_that_a_normaliser_makes_of_the_text_is_dropped(chat_tokenizer, plain):
    tokenizer = deepcopy(chat_tokenizer)
    tokenizer.backend_tokenizer.normalizer = normalizers.NFKC()
    tokenizer.add_special_tokens({"bos_token": AddedToken("<begin>", normalized=True)})
    encoder = Encoder(tokenizer, raw=plain)
    fine, odd = Example([user("a")], ["b", "c"], 0), Example([user("＜begin＞")], ["b", "c"], 1)
    found = encoder.tokenise([encoder.render(fine), encoder.render(odd)])
    assert tokenizer.decode(found[0].response_ids[0]) == "b<|im_end|>"
    assert found[1] == Dropped(1, Reason.SPECIAL, "<begin>")


def test_melted_tokens_are_split_where_the_answer_starts(chat_tokenizer):
    """'the ca' + 't': the prompt keeps its own tokens, the response is tokenised on its own."""
    found = raw(chat_tokenizer, [user("the c")], ["at", "ow"])
    assert found.melted
    assert chat_tokenizer.decode(found.prompt_ids) == "the c"
    assert chat_tokenizer.decode(found.response_ids[0]) == "at<|im_end|>"


def test_characters_stand_in_for_tokens():
    encoder = CharacterEncoder()
    found = encoder.tokenise([encoder.render(Example([user("Hé 🙂")], ["a", "bc"], 0))])[0]
    assert len(found.prompt_ids) == 4
    assert encoder.decode(found.prompt_ids) == "Hé 🙂"
    assert [len(ids) for ids in found.response_ids] == [1, 2]
