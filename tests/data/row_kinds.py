"""One row of each kind that chat templates are known to treat in ways of their own.

Every word is made up, so that none can stand in a text by chance.
"""

from __future__ import annotations

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weatherfn",
            "description": "tells skyward things",
            "parameters": {
                "type": "object",
                "properties": {"townarg": {"type": "string", "description": "whereabouts"}},
                "required": ["townarg"],
            },
        },
    }
]
THOUGHT = "<think>\nninex timesx twelvex\n</think>\n\nonex"
OTHER = "<think>\nguessx\n</think>\n\ntwox"


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def system(content, role="system"):
    return {"role": role, "content": content}


def tool(content, **more):
    return {"role": "tool", "content": content, **more}


def call(*functions, words="", ids=False):
    """A turn that calls tools: (name, arguments) each."""
    calls = [
        {"type": "function", "function": {"name": name, "arguments": given}}
        | ({"id": f"id{place:07d}"} if ids else {})
        for place, (name, given) in enumerate(functions)
    ]
    return assistant(words, tool_calls=calls)


def row(*prompt, good="goodx itx satx", bad="badx itx ranx", **more):
    answers = [[a] if isinstance(a, dict) else [assistant(a)] for a in (good, bad)]
    return {"prompt": list(prompt), "chosen": answers[0], "rejected": answers[1], **more}


ASKS = user("weatherx inx Romex")
LOOKS = call(("weatherfn", {"townarg": "Romey"}))
LATER = (user("ax catx"), assistant("yesx"))

# Texts alone: where a plain row is trained, these are too.
HARMLESS = {
    "line separators": row(
        user("onex\u2028twox\u2029threex\x85fourx"),
        good="goodx\u2028linex",
        bad="badx\x0bvx\x0cfx",
    ),
    "white space": row(user("  \n\tonex  twox\t\n\n"), good="\n\n goodx  onex \n", bad="\tbadx\t"),
    "spaces of other scripts": row(user("\xa0onex\xa0twox\u3000"), good="\u200bgoodx\u200b"),
    "code": row(
        user("defx(x):\n    ifx:\n\treturnx\n"),
        good="    ifx yx:\n        returnx 1\n\n\n    returnx 2",
        bad="\tpassx\n\tdonex",
    ),
    "line feeds of Windows": row(user("onex\r\ntwox\r\n"), good="goodx\r\nlinex\r\n"),
    "a template's language": row(user("{{ onex }} {% if twox %}"), good="{# goodx #} {{ eos }}"),
    "JSON": row(user('{"rolex": "userx"}'), good='{"goodx": [1, "bx\\n"]}'),
    "words of no value": row(user("None"), good="null", bad="undefined"),
    "turns of other templates": row(user("onex\n\nHuman: twox\n\nAssistant: threex")),
    "markup": row(user("<b>onex</b> &amp; <?twox?>"), good="<p>goodx</p>", bad="<br/> badx"),
    "signs above letters": row(
        user("e\u0301 ax\u0308 ﬁx"), good="Z\u0335ax नमस्ते 👩\u200d👩\u200d👧"
    ),
}

KINDS = HARMLESS | {
    "system": row(system("bex briefx"), user("whyx")),
    "second system": row(system("bex briefx"), *LATER, system("bex kindx"), user("whyx")),
    "two systems at once": row(system("bex briefx"), system("bex kindx"), user("whyx")),
    "system later": row(*LATER, system("bex kindx"), user("whyx")),
    "developer": row(system("bex briefx", "developer"), user("whyx")),
    "tool": row(ASKS, LOOKS, tool("nineteenx degreesx"), tools=TOOLS),
    "tool with ids": row(
        ASKS,
        call(("weatherfn", {"townarg": "Romey"}), ids=True),
        tool("nineteenx", name="weatherfn", tool_call_id="id0000000"),
        tools=TOOLS,
    ),
    "tool without schemas": row(ASKS, LOOKS, tool("nineteenx degreesx")),
    "tool and words": row(
        ASKS, call(("weatherfn", {"townarg": "Romey"}), words="lookx upx"), tool("nineteenx")
    ),
    "two calls": row(
        ASKS,
        call(
            ("weatherfn", {"townarg": "Romey"}),
            ("otherfn", {"nx": [17, 23], "deepx": {"ex": 'kx "q"\nzx'}}),
        ),
        tool("nineteenx"),
        tool("otherx answerx"),
    ),
    "arguments as JSON": row(ASKS, call(("weatherfn", '{"townarg": "Romey"}')), tool("nineteenx")),
    "no arguments": row(ASKS, call(("nowfn", {})), tool("nineteenx")),
    "tool, then a question": row(
        ASKS, LOOKS, tool("nineteenx"), assistant("coolx"), user("andx Oslox")
    ),
    "tool without a call": row(
        ASKS, assistant("weatherfn(Romey)"), tool("nineteenx"), assistant("coolx"), user("andx")
    ),
    "two rounds of tools": row(
        ASKS,
        LOOKS,
        tool("nineteenx"),
        call(("otherfn", {"ax": "Osloy"})),
        tool("zerox"),
        assistant("bothx"),
        user("thanksx"),
    ),
    "a tool's JSON": row(ASKS, LOOKS, tool('{"degreesx": 19.5, "skyx": "clearx \\u00e9"}')),
    "a tool that says nothing": row(ASKS, LOOKS, tool("")),
    "a call without an answer": row(ASKS, LOOKS, user("neverx mindx")),
    "an answer that calls": row(ASKS, good=LOOKS, bad="goodx wordsx", tools=TOOLS),
    "answers that call": row(
        ASKS, good=LOOKS, bad=call(("weatherfn", {"townarg": "Osloy"})), tools=TOOLS
    ),
    "an answer that calls twice": row(
        ASKS, good=call(("weatherfn", {"townarg": "Romey"}), ("otherfn", {"nx": [17]})), bad=LOOKS
    ),
    "an answer that says and calls": row(
        ASKS, good=call(("nowfn", {}), words="lookx upx", ids=True), bad=call(("otherfn", {}))
    ),
    "a second call": row(
        ASKS, LOOKS, tool("nineteenx"), good=call(("otherfn", {"ax": "Osloy"})), bad="badx"
    ),
    "schemas alone": row(user("whyx"), tools=TOOLS),
    "reasoning": row(user("9x"), good=THOUGHT, bad=OTHER),
    "reasoning alone differs": row(user("9x"), good=THOUGHT, bad=OTHER.replace("twox", "onex")),
    "reasoning in one answer": row(user("9x"), good=THOUGHT, bad="twox"),
    "reasoning beside": row(
        user("9x"),
        good=assistant("onex", reasoning_content="ninex timesx"),
        bad=assistant("twox", reasoning_content="guessx"),
    ),
    "reasoning before": row(user("9x"), assistant(THOUGHT), user("andx")),
    "reasoning before and in": row(
        user("9x"), assistant(THOUGHT), user("andx"), good=OTHER, bad=OTHER.replace("guess", "sure")
    ),
    "the same thought twice": row(
        user("9x"), assistant(THOUGHT), user("ninex timesx twelvex ?"), good=OTHER, bad=THOUGHT
    ),
    "reasoning without an end": row(user("9x"), good="<think>\nneverx endsx", bad="<think>\nbadx"),
    "reasoning without a start": row(
        user("9x"), good="ninex timesx\n</think>\n\nonex", bad="guessx\n</think>\n\ntwox"
    ),
    "empty reasoning": row(
        user("9x"), good="<think>\n\n</think>\n\nonex", bad="<think>\n\n</think>\n\ntwox"
    ),
    "reasoning twice": row(
        user("9x"), good=f"{THOUGHT}\n<think>\nmorex\n</think>\n\nthreex", bad="badx"
    ),
    "reasoning's marks as words": row(
        user("whatx isx <think> andx </think> forx?"), good="thex tagx </think> endsx itx"
    ),
    "its first mark as a word": row(user("whatx"), good="usex thex <think> tagx"),
    "an empty answer before": row(user("ax"), assistant(""), user("bx")),
    "an empty question before": row(user(""), assistant("bx"), user("cx")),
    "an empty system turn": row(system(""), user("bx")),
    "two questions": row(user("ax"), user("bx")),
    "begins with an answer": row(assistant("hellox"), user("bx")),
    "white space before": row(user(" \nonex\n "), assistant("\n yesx \n\n"), user("\ttwox ")),
    "marks that are words": row(user("[INST] onex [/INST] <<SYS>> twox"), good="### Goodx: [INST]"),
    "marks of tools": row(user("<tool_response>onex</tool_response>"), good="<tools>goodx</tools>"),
}
PLAIN = row(user("whyx thex catx"))


def with_mark(mark: str) -> dict[str, dict]:
    """A mark of the template in each place that a row has words in."""
    text = f"onex {mark} twox"
    schema = {"name": "weatherfn", "description": text, "parameters": {}}
    return {
        "a question": row(user(text)),
        "an answer": row(user("whyx"), good=text),
        "a rejected answer": row(user("whyx"), bad=text),
        "a system turn": row(system(text), user("whyx")),
        "an answer before": row(user("whyx"), assistant(text), user("andx")),
        "a tool's answer": row(ASKS, LOOKS, tool(text)),
        "an argument": row(ASKS, call(("weatherfn", {"townarg": text})), tool("nineteenx")),
        "a tool's name": row(ASKS, LOOKS, tool("nineteenx", name=text)),
        "a schema": row(user("whyx"), tools=[{"type": "function", "function": schema}]),
    }
