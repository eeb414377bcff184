"""What is trained is what the row says: what a template may change, and what not.

All templates and kinds of rows are tried in test_template_matrix.py.
"""

import pytest
from tokenizers import AddedToken, normalizers

from dpo_lite.data.calls import matched
from dpo_lite.data.examples import BadRow, Dropped, Example, Reason
from dpo_lite.data.faithful import Roles, left_out, tools_left_out
from dpo_lite.data.fields import answers_behind_shared_turns
from dpo_lite.data.pairs import clean_prompt, prompt_text
from dpo_lite.data.tokens import Encoder
from tests.data.row_kinds import ASKS as WEATHER
from tests.data.row_kinds import TOOLS, call, system, tool
from tests.data.tokenizers import assistant, tokenizer_for, user

ASKS = [user("9 * 12")]
THOUGHT = "<think>\nnine times twelve\n</think>\n\n108"
REASONED = [THOUGHT, "<think>\na guess\n</think>\n\n21"]


@pytest.mark.parametrize(
    "name", ["deepseek_r1_distill", "nemotron_3_nano", "nemotron_3_super", "nemotron_3_ultra"]
)
def test_a_template_that_opens_with_reasoning_takes_answers_that_have_some(name):
    encoder = Encoder(tokenizer_for(name))
    rendered = encoder.render(Example(ASKS, REASONED, 3))
    assert rendered.prompt.rstrip().endswith("<think>")
    assert rendered.rests[0].startswith("nine times twelve\n</think>")
    assert "108" in rendered.rests[0]
    bare = encoder.render(Example(ASKS, ["108", "21"], 3))
    assert (bare.reason, "no reasoning" in bare.detail) == (Reason.UNSAID, True)


CHATML = (
    "{{% for m in messages %}}{body}{{% endfor %}}"
    "{{% if add_generation_prompt %}}<|im_start|>assistant\n{{% endif %}}"
)
SAYS = "<|im_start|>{{ m['role'] }}\n{{ %s }}<|im_end|>\n"


def with_template(text: str) -> Encoder:
    tokenizer = tokenizer_for("qwen2_5")
    tokenizer.chat_template = text
    return Encoder(tokenizer)


def test_reasoning_that_the_template_cuts_off_answers_is_put_back():
    cuts = CHATML.format(body=SAYS % "m['content'].split('</think>')[-1]")
    encoder = with_template(cuts)
    answers = [THOUGHT, "<think>\na guess\n</think>\n\n108"]
    rendered = encoder.render(Example(ASKS, answers, 3))
    assert rendered.rests == [answer + "<|im_end|>" for answer in answers]


def test_an_answer_cut_elsewhere_is_dropped():
    encoder = with_template(CHATML.format(body=SAYS % "m['content'].split('Sources:')[0]"))
    dropped = encoder.render(Example([user("why")], ["so. Sources: a book", "no"], 3))
    assert dropped.reason is Reason.UNSAID
    assert "a turn of the assistant" in dropped.detail


def test_equal_ids_of_different_texts_are_no_pair():
    encoder = with_template(CHATML.format(body=SAYS % "m['content']"))
    encoder.tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    rendered = encoder.render(Example([user("why")], ["The Cat", "the cat"], 3))
    assert encoder.tokenise([rendered])[0].reason is Reason.IDENTICAL


def test_roles_that_a_template_passes_over_are_found_without_any_words():
    body = "{% if m['role'] != 'tool' %}" + SAYS % "m['content']" + "{% endif %}"
    encoder = with_template(
        CHATML.replace("{body}", body).replace("{{%", "{%").replace("%}}", "%}")
    )
    turns = [user("19?"), assistant("x"), tool("19")]
    dropped = encoder.render(Example(turns, ["19", "20"], 3))
    assert (dropped.reason, dropped.detail) == (Reason.UNSAID, "it passes over a turn of the tool")


def test_a_turn_that_is_said_twice():
    roles = Roles(lambda turns: "".join(t["content"] for t in turns) + turns[0]["content"], ())
    assert roles.fault([user("a"), assistant("b")]) == "it says twice a turn of the user"
    assert roles.fault([user("b")]) is not None


def test_words_are_looked_for_in_their_order():
    turns = [user("one two"), assistant("three")]
    assert left_out("<u>one two<a>three", turns) is None
    assert "'three'" in left_out("three<u>one two<a>", turns)
    assert left_out("<u>one two<a>three", [system("three"), *turns]) is None  # may stand anywhere
    assert left_out('{"content": "a\\nb"}', [user("a\nb")]) is None  # spelt as JSON
    assert "'wei'" in left_out(
        "Rome",
        [{**assistant("Rome"), "tool_calls": [{"function": {"name": "wei", "arguments": {}}}]}],
    )


def test_the_indentation_of_codes_first_line_stays():
    encoder = with_template(CHATML.format(body=SAYS % "m['content']"))
    code = "\n    x = 1\n    return x\n"
    rendered = encoder.render(Example([user("code")], [code, "  one line"], 3))
    assert rendered.rests == ["    x = 1\n    return x<|im_end|>", "one line<|im_end|>"]


def test_a_thought_that_a_later_turn_repeats_is_no_fault():
    """The template leaves it out, and its words are found further on, behind the question."""
    turns = [user("well"), assistant("<think>\nhm\n</think>\n\nyes"), user("what"), user("hm")]
    assert left_out("<u>well<a>yes<u>what<u>hm", turns) is None
    assert "'what'" in left_out("<u>well<a>yes<u>hm", turns)


def test_an_earlier_answer_that_is_all_reasoning_is_not_left_out():
    turns = [user("well"), assistant("<think>\nhm\n</think>\n"), user("so")]
    assert "'hm'" in left_out("<u>well<a><u>so", turns)
    calls = {**turns[1], "tool_calls": call(("f", {}))["tool_calls"]}
    assert left_out("<u>well<a>f<u>so", [turns[0], calls, turns[2]]) is None


def test_an_answer_that_is_all_reasoning_is_not_cut_to_nothing():
    encoder = with_template(CHATML.format(body=SAYS % "m['content'].split('</think>')[-1]"))
    rendered = encoder.render(Example(ASKS, ["<think>\nhm\n</think>", "so"], 3))
    assert rendered.rests[0] == "<think>\nhm\n</think><|im_end|>"


def test_what_tools_are_described_by():
    assert tools_left_out("weatherfn: tells things. townarg: the place", []) is None
    schema = [{"name": "wei", "description": "a town's\n  sky", "strict": True}]
    assert tools_left_out('{"name": "wei", "description": "a town\'s sky"}', schema) is None
    assert "'sky'" in tools_left_out('{"name": "wei", "description": "a town\'s"}', schema)
    inner = {"properties": {"name": {"type": "string"}, "seat": {"description": "row and number"}}}
    assert "'seat'" in tools_left_out("wei name", [{"name": "wei", "parameters": inner}])
    assert "'row'" in tools_left_out("wei name seat", [{"name": "wei", "parameters": inner}])


def test_tools_that_the_template_passes_over_are_said():
    encoder = with_template(CHATML.format(body=SAYS % "m['content']"))
    dropped = encoder.render(Example([user("why")], ["a", "b"], 3, template={"tools": TOOLS}))
    assert (dropped.reason, "'weatherfn'" in dropped.detail) == (Reason.UNSAID, True)


def test_a_mark_of_a_turn_that_is_not_special_to_the_tokenizer():
    """As DeepSeek's <｜User｜>: a text that holds one would speak as somebody else."""
    tokenizer = tokenizer_for("qwen2_5")
    tokenizer.add_tokens([AddedToken(t, special=False) for t in ("<ask>", "<say>", "<b>", "why")])
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<ask>' if m['role'] == 'user' else '<say>' }}{{ m['content'] }}"
        "<|im_end|>{% endfor %}{% if add_generation_prompt %}<say>{% endif %}"
    )
    encoder = Encoder(tokenizer)
    dropped = encoder.render(Example([user("why <say> it is <ask> so")], ["a", "b"], 3))
    assert (dropped.reason, dropped.detail) == (Reason.SPECIAL, "<say>")
    fine = encoder.render(Example([user("why <b>so</b>")], ["why", "b"], 3))
    assert fine.rests == ["why<|im_end|>", "b<|im_end|>"]


@pytest.mark.parametrize(
    ("name", "opens"),
    [
        ("gptoss", "<|channel|>analysis<|message|>"),
        ("gemma4_v5", "<|channel>thought\n"),
        ("qwen3_8", "<think>\n"),
    ],
)
def test_a_template_with_a_place_of_its_own_for_reasoning_is_given_it_there(name, opens):
    """Left in the words, gpt-oss would say it in its final channel, and Qwen 3.8 think twice."""
    encoder = Encoder(tokenizer_for(name))
    rendered = encoder.render(Example(ASKS, REASONED, 3))
    assert (rendered.prompt + rendered.rests[0]).count("nine times twelve") == 1
    assert f"{opens}nine times twelve" in rendered.prompt + rendered.rests[0]
    assert rendered.rests[0].count("<think>") <= ("<think>" in opens)


def test_reasoning_stays_where_the_row_has_it_if_that_comes_to_the_same():
    for name in ("qwen3", "glm4moe", "nemotron_3_super", "lfm2_2_5", "qwen2_5"):
        assert not Encoder(tokenizer_for(name)).template.apart


def test_answers_of_tools_are_matched_with_their_calls():
    """In order where the row names none: Gemma 4 else calls every answer that of the last call."""
    calls = call(("weatherfn", {"town": "Rome"}), ("clockfn", {"town": "Oslo"}))
    turns = clean_prompt([WEATHER, calls, tool("nineteen"), tool("noon")])
    text = Encoder(tokenizer_for("gemma4_v5")).render(Example(turns, ["a", "b"], 0)).prompt
    assert 'response:weatherfn{value:<|"|>nineteen' in text
    assert 'response:clockfn{value:<|"|>noon' in text


def test_ids_that_the_row_has_stay():
    calls = call(("weatherfn", {}), ("clockfn", {}), ids=True)
    answers = [tool("noon", tool_call_id="id0000001"), tool("nineteen"), tool("more")]
    turns = matched([calls, *answers])
    assert turns[0] == calls
    assert [t.get("tool_call_id") for t in turns[1:]] == ["id0000001", "id0000000", None]
    assert matched([user("a"), tool("b"), system("c")]) == [user("a"), tool("b"), system("c")]


def test_conversations_are_the_same_whatever_ids_their_calls_have():
    one, other = call(("weatherfn", {}), ids=True), call(("weatherfn", {}))
    answered = tool("nineteen", tool_call_id="id0000000")
    chosen = [WEATHER, one, answered, assistant("a")]
    rejected = [WEATHER, other, tool("nineteen"), assistant("b")]
    assert answers_behind_shared_turns(chosen, rejected)[1] == ["a", "b"]
    assert prompt_text(chosen[:-1]) == prompt_text(rejected[:-1])


def test_a_tool_may_say_nothing_and_a_question_may_not():
    assert clean_prompt([WEATHER, call(("weatherfn", {})), tool("")])[-1]["content"] == ""
    with pytest.raises(BadRow, match="empty prompt"):
        clean_prompt([user("a"), assistant("b"), user(" \n")])


def test_a_batch_of_which_every_row_is_dropped():
    encoder = Encoder(tokenizer_for("phi3"))
    assert isinstance(encoder.render(Example([user("<|end|>")], ["a", "b"], 0)), Dropped)
    assert encoder.tokenise([]) == []
