"""What is trained is what the row says, through every chat template that TRL ships."""

from pathlib import Path

import pytest
import trl
from tokenizers import normalizers

from dpo_lite.data.examples import Dropped, Example, Reason
from dpo_lite.data.faithful import Roles, left_out
from dpo_lite.data.tokens import Encoder
from tests.data.test_tokens import assistant, tokenizer_for, user

FOLDER = Path(trl.__file__).parent / "chat_templates"
TEMPLATES = sorted(path.stem for path in FOLDER.glob("*.jinja"))
HONEST = {Reason.TEMPLATE, Reason.UNSAID, Reason.SPECIAL, Reason.IDENTICAL}


def system(content):
    return {"role": "system", "content": content}


def tool(content):
    return {"role": "tool", "content": content}


THOUGHT = "<think>\nnine times twelve\n</think>\n\n108"
CALL = {
    **assistant("I look"),
    "tool_calls": [
        {"type": "function", "function": {"name": "weather", "arguments": {"town": "Rome"}}}
    ],
}
# what it is -> the prompt, the answers
ROWS = {
    "plain": ([user("why the cat")], ["it sat", "it ran"]),
    "system": ([system("be brief"), user("why")], ["it sat", "it ran"]),
    "second system": (
        [system("be brief"), user("a cat"), assistant("yes"), system("be kind"), user("why")],
        ["it sat", "it ran"],
    ),
    "tool": ([user("weather in Rome"), CALL, tool("nineteen degrees")], ["19, clear", "no"]),
    "tool, then a question": (
        [
            user("weather in Rome"),
            assistant("weather(Rome)"),
            tool("nineteen degrees"),
            assistant("19"),
            user("and Oslo"),
        ],
        ["I look", "no"],
    ),
    "reasoning": ([user("9 * 12")], [THOUGHT, "<think>\nnine and twelve\n</think>\n\n21"]),
    "reasoning alone differs": ([user("9 * 12")], [THOUGHT, "<think>\na guess\n</think>\n\n108"]),
    "reasoning in one answer": ([user("9 * 12")], [THOUGHT, "21"]),
    "reasoning before": ([user("9 * 12"), assistant(THOUGHT), user("and 9 * 13")], ["117", "116"]),
    "marks": ([user("what is [INST] or # Tools")], ["a mark </s > of sorts", "{% if %} {{ x }}"]),
}


def words_of(example: Example, answer: str) -> list[dict]:
    return [*example.prompt, {"role": "assistant", "content": answer}]


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_row_is_rendered_whole_or_dropped_with_the_reason(name, kind):
    prompt, answers = ROWS[kind]
    example = Example(prompt, answers, 3)
    encoder = Encoder(tokenizer_for(name))
    rendered = encoder.render(example)
    encoded = rendered if isinstance(rendered, Dropped) else encoder.tokenise([rendered])[0]
    if isinstance(encoded, Dropped):
        assert encoded.reason in HONEST
        assert encoded.detail
        return
    for answer, ids in zip(answers, encoded.response_ids, strict=True):
        text = encoder.decode([*encoded.prompt_ids, *ids])
        for turn in words_of(example, answer):
            for word in turn["content"].replace("<think>", " ").replace("</think>", " ").split():
                earlier = turn["role"] == "assistant" and turn["content"] != answer
                assert word in text or (earlier and "think" in turn["content"])
    assert len({tuple(ids) for ids in encoded.response_ids}) == len(answers)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_plain_row_is_trained_unless_the_template_wants_reasoning(name):
    prompt, answers = ROWS["plain"]
    encoder = Encoder(tokenizer_for(name))
    rendered = encoder.render(Example(prompt, answers, 3))
    if isinstance(rendered, Dropped):
        assert "reasoning" in rendered.detail
    else:
        assert not isinstance(encoder.tokenise([rendered])[0], Dropped)


@pytest.mark.parametrize(
    "name", ["deepseek_r1_distill", "nemotron_3_nano", "nemotron_3_super", "nemotron_3_ultra"]
)
def test_a_template_that_opens_with_reasoning_takes_answers_that_have_some(name):
    prompt, answers = ROWS["reasoning"]
    encoder = Encoder(tokenizer_for(name))
    rendered = encoder.render(Example(prompt, answers, 3))
    assert rendered.prompt.rstrip().endswith("<think>")
    assert rendered.rests[0].startswith("nine times twelve\n</think>")
    assert "108" in rendered.rests[0]
    bare = encoder.render(Example(prompt, ["108", "21"], 3))
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
    prompt, answers = ROWS["reasoning alone differs"]
    rendered = encoder.render(Example(prompt, answers, 3))
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
