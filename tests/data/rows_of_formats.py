"""A row of every format as its data sets have it, and the same row with the preference turned."""

import json

Q, GOOD, BAD, BAD2, RULES = (
    "Why is it red?",
    "GOOD: rust.",
    "BAD: paint.",
    "BAD 2: no.",
    "Be brief.",
)


def says(role, content):
    return {"role": role, "content": content}


def says_too(role, content):
    return {"from": role, "value": content}


ASK, ANSWER, REJECTED = says("user", Q), says("assistant", GOOD), says("assistant", BAD)
HELLO = [says("user", "Hello"), says("assistant", "Hi.")]
ASKED_AGAIN = [*HELLO, ASK]
SYSTEM = says("system", RULES)
DIALOGUE = f"\n\nHuman: Hello\n\nAssistant: Hi.\n\nHuman: {Q}\n\nAssistant:"
TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


def rated(response, *ratings):
    names = ("helpfulness", "honesty", "instruction_following", "truthfulness")
    notes = {n: {"Rating": r, "Rationale": "…"} for n, r in zip(names, ratings, strict=True)}
    return {"model": "m", "response": response, "annotations": notes, "overall_score": 7.0}


# name or name/variant -> a row with the columns of the data set
FIXTURES = {
    "triples": {"prompt": Q, "chosen": GOOD, "rejected": BAD},
    "triples/system": {"system": RULES, "prompt": Q, "chosen": GOOD, "rejected": BAD},
    "triples/rm-static": {
        **{"prompt": DIALOGUE, "response": GOOD, "chosen": GOOD, "rejected": BAD},
    },
    "triples/one-message": {"prompt": Q, "chosen": [ANSWER], "rejected": [REJECTED]},
    "conversational": {"prompt": ASKED_AGAIN, "chosen": [ANSWER], "rejected": [REJECTED]},
    "conversational/repeats-prompt": {
        "prompt": [SYSTEM, ASK],
        "chosen": [SYSTEM, ASK, ANSWER],
        "rejected": [SYSTEM, ASK, REJECTED],
    },
    "conversational/texts": {"prompt": [ASK], "chosen": GOOD, "rejected": BAD},
    "conversational/tools": {
        "prompt": [ASK],
        "chosen": [ANSWER],
        "rejected": [REJECTED],
        "tools": json.dumps(TOOLS),
        "chat_template_kwargs": {"enable_thinking": False},
    },
    "conversations": {"chosen": [*ASKED_AGAIN, ANSWER], "rejected": [*ASKED_AGAIN, REJECTED]},
    "conversations/ultrafeedback-binarized": {
        "prompt": "another text than the turns",
        "prompt_id": "ab12",
        "chosen": [ASK, ANSWER],
        "rejected": [ASK, REJECTED],
        "messages": [ASK, ANSWER],
        "score_chosen": 8.0,
        "score_rejected": 4.5,
    },
    "conversations/argilla-cleaned": {
        "source": "sharegpt",
        "prompt": Q,
        "chosen": [ASK, ANSWER],
        "chosen-rating": 5.0,
        "chosen-model": "a",
        "rejected": [ASK, REJECTED],
        "rejected-rating": 2.0,
        "rejected-model": "b",
    },
    "conversations/dpo-mix-7k": {
        "dataset": "capybara",
        "chosen": [SYSTEM, ASK, ANSWER],
        "rejected": [SYSTEM, ASK, REJECTED],
        "chosen_rating": 5.0,
        "rejected_rating": 4.0,
    },
    "conversations/capybara": {
        "source": "Dove",
        "conversation": [{"input": Q, "output": GOOD}],
        "prompt": Q,
        "chosen": [ASK, ANSWER],
        "rejected": [ASK, REJECTED],
        "rating_chosen": 5,
        "rating_rejected": 3,
    },
    "conversations/sharegpt-spelling": {
        "chosen": [says_too("human", Q), says_too("gpt", GOOD)],
        "rejected": [says_too("human", Q), says_too("gpt", BAD)],
    },
    "hh-rlhf": {"chosen": f"{DIALOGUE} {GOOD}", "rejected": f"{DIALOGUE} {BAD}"},
    "orca": {"system": RULES, "question": Q, "chosen": GOOD, "rejected": BAD},
    "distilabel-orca": {
        "system": RULES,
        "input": Q,
        "chosen": GOOD,
        "rejected": BAD,
        "generations": [BAD, GOOD],
        "order": ["rejected", "chosen"],
        "rating": [4.0, 9.0],
        "status": "swapped",
        "chosen_score": 9.0,
        "in_gsm8k_train": False,
    },
    "argilla-instruction": {
        "source": "evol_instruct",
        "instruction": Q,
        "chosen_response": GOOD,
        "rejected_response": BAD,
        "chosen_avg_rating": 4.5,
        "rejected_avg_rating": 4.0,
    },
    "alpaca-ranking": {
        "instruction": "Why is it red?",
        "input": "A bridge.",
        "chosen": GOOD,
        "rejected": BAD,
        "system": RULES,
        "history": [["Hello", "Hi."]],
    },
    "alpaca-ranking/plain": {"instruction": Q, "input": "", "chosen": GOOD, "rejected": BAD},
    "sharegpt-ranking": {
        "conversations": [
            *(says_too("human", "Hello"), says_too("gpt", "Hi."), says_too("human", Q)),
        ],
        "chosen": says_too("gpt", GOOD),
        "rejected": says_too("gpt", BAD),
        "system": RULES,
    },
    "messages-ranking": {"messages": [SYSTEM, ASK], "chosen": ANSWER, "rejected": REJECTED},
    "ms-swift": {"messages": [SYSTEM, ASK, ANSWER], "rejected_response": BAD},
    "ms-swift/messages": {"messages": [ASK, ANSWER], "rejected_messages": [ASK, REJECTED]},
    "openai-preference": {
        "input": {"messages": [SYSTEM, ASK], "tools": [], "parallel_tool_calls": True},
        "preferred_output": [ANSWER],
        "non_preferred_output": [REJECTED],
    },
    "stack-exchange-paired": {
        "qid": 7,
        "question": Q,
        "date": "2012-01-01",
        "metadata": ["https://example.org"],
        "response_j": GOOD,
        "response_k": BAD,
    },
    "shp": {
        "post_id": "p",
        "domain": "askscience_train",
        "history": Q,
        "human_ref_A": BAD,
        "human_ref_B": GOOD,
        "labels": 0,
        "score_A": 10,
        "score_B": 30,
        "score_ratio": 3.0,
    },
    "tldr-comparisons": {
        "info": {
            **{"id": "t3", "post": "I tripped.", "title": "Ow", "subreddit": "tifu"},
            **{"site": None, "article": None},
        },
        "summaries": [
            {"text": BAD, "policy": "sup1", "note": None},
            {"text": GOOD, "policy": "ref", "note": None},
        ],
        "choice": 1,
        "worker": "w",
        "batch": "batch3",
        "split": "train",
        "extra": {"confidence": 8},
    },
    "tldr-comparisons/article": {
        "info": {"id": "c1", "post": None, "title": "Ow", "subreddit": None, "article": "News."},
        "summaries": [{"text": GOOD, "policy": "ref"}, {"text": BAD, "policy": "sup1"}],
        "choice": 0,
        "batch": "cnndm0",
    },
    "helpsteer2-preference": {
        "prompt": f"Hello\n\n<extra_id_1>Assistant\nHi.\n\n<extra_id_1>User\n{Q}",
        "response_1": GOOD,
        "response_2": BAD,
        "preference_strength": -2,
        "preference_statement": "…",
        "split": "train",
    },
    "helpsteer3-preference": {
        "domain": "general",
        "language": "english",
        "context": ASKED_AGAIN,
        "response1": BAD,
        "response2": GOOD,
        "overall_preference": 1,
        "individual_preference": [{"score": 1, "reasoning": "…"}],
    },
    "pku-saferlhf": {
        "prompt": Q,
        "response_0": BAD,
        "response_1": GOOD,
        "is_response_0_safe": True,
        "is_response_1_safe": True,
        "better_response_id": 1,
        "safer_response_id": 0,
    },
    "arena": {
        "question_id": "q",
        "model_a": "m",
        "model_b": "n",
        "winner": "model_b",
        "conversation_a": [*ASKED_AGAIN, REJECTED],
        "conversation_b": [*ASKED_AGAIN, ANSWER],
        "turn": 2,
        "anony": True,
    },
    "arena/parts": {
        "winner": "model_a",
        "conversation_a": [
            says("user", [{"type": "text", "text": Q, "image": None}]),
            says("assistant", [{"type": "text", "text": GOOD, "image": None}]),
        ],
        "conversation_b": [
            says("user", [{"type": "text", "text": Q, "image": None}]),
            says("assistant", [{"type": "text", "text": BAD, "image": None}]),
        ],
    },
    "arena-pairwise": {
        "id": 1,
        "model_a": "m",
        "model_b": "n",
        "prompt": json.dumps([Q]),
        "response_a": json.dumps([BAD]),
        "response_b": json.dumps([GOOD]),
        "winner_model_a": 0,
        "winner_model_b": 1,
        "winner_tie": 0,
    },
    "arena-pairwise/texts": {
        **{"prompt": Q, "response_a": GOOD, "response_b": BAD},
        **{"winner_model_a": 1, "winner_model_b": 0, "winner_tie": 0},
    },
    "nectar": {
        "prompt": f"{DIALOGUE} ",
        "answers": [
            {"answer": BAD, "model": "m", "rank": 2.0},
            {"answer": GOOD, "model": "n", "rank": 1.0},
            {"answer": BAD2, "model": "o", "rank": 3.0},
        ],
        "turns": 1,
        "num_responses": 3,
        "source": ["lmsys-chat-1m"],
        "good_natured": True,
    },
    "ultrafeedback": {
        "source": "evol_instruct",
        "instruction": Q,
        "models": ["m", "n", "o"],
        "completions": [
            rated(BAD, "3", "N/A", "4", "3"),
            rated(BAD2, "1", "2", "1", "1"),
            rated(GOOD, "5", "N/A", "N/A", "4"),
        ],
        "correct_answers": ["None"],
    },
    "ranking": {"prompt": Q, "responses": [BAD, GOOD, BAD2], "scores": [1.5, 4, -1]},
    "ranking/ranks": {
        "prompt": [SYSTEM, ASK],
        "responses": [REJECTED, ANSWER, [says("assistant", BAD2)]],
        "ranks": [2, 1, 3],
    },
    "kto": {"prompt": [ASK], "completion": [ANSWER], "label": True},
    "kto/texts": {"system": RULES, "prompt": Q, "completion": GOOD, "label": True, "rating": 9.0},
    "kto-messages": {"messages": [*ASKED_AGAIN, ANSWER], "label": True, "tools": None},
    "kto-messages/sharegpt": {
        "conversations": [says_too("human", Q), says_too("gpt", GOOD)],
        "kto_tag": "true",
        "system": RULES,
    },
    "kto-alpaca": {"instruction": Q, "input": "", "output": GOOD, "kto_tag": 1, "system": RULES},
    "sft-messages": {"prompt": Q, "prompt_id": "a", "messages": [*ASKED_AGAIN, ANSWER]},
    "sft-messages/sharegpt": {
        "conversations": [says_too("human", Q), says_too("gpt", GOOD), says_too("human", "Thanks")],
        "system": RULES,
    },
    "sft-completion": {"prompt": [SYSTEM, ASK], "completion": [ANSWER]},
    "sft-completion/texts": {"prompt": Q, "completion": GOOD},
    "sft-alpaca": {"instruction": Q, "input": "", "output": GOOD, "text": "all of it"},
    "prompts": {"prompt": [SYSTEM, ASK]},
    "prompts/texts": {"system": RULES, "prompt": Q, "source": "exam"},
}


def as_each(value, names):
    return {name: value for name in names.split()}


TLDR = "SUBREDDIT: r/tifu\n\nTITLE: Ow\n\nPOST: I tripped.\n\nTL;DR:"
PROMPTS = {  # where the prompt is not Q alone
    **as_each(
        [SYSTEM, ASK],
        "triples/system conversational/repeats-prompt conversations/dpo-mix-7k orca "
        "distilabel-orca messages-ranking ms-swift openai-preference ranking/ranks kto/texts "
        "kto-messages/sharegpt kto-alpaca "
        "sft-messages/sharegpt sft-completion prompts prompts/texts",
    ),
    **as_each(
        ASKED_AGAIN,
        "triples/rm-static conversational conversations hh-rlhf helpsteer2-preference "
        "helpsteer3-preference arena nectar sft-messages kto-messages",
    ),
    "alpaca-ranking": [SYSTEM, *HELLO, says("user", f"{Q}\nA bridge.")],
    "sharegpt-ranking": [SYSTEM, *ASKED_AGAIN],
    "tldr-comparisons": [says("user", TLDR)],
    "tldr-comparisons/article": [says("user", "Article:\nNews.\n\nTL;DR:")],
}


def swapped(*columns):
    return lambda row: {**row, columns[0]: row[columns[1]], columns[1]: row[columns[0]]}


def turned(column, key):
    """The grades of a list of objects the other way round."""

    def turn(row):
        grades = [item[key] for item in row[column]]
        order = sorted(grades, key=json.dumps)
        place = {json.dumps(g): order[-1 - i] for i, g in enumerate(order)}
        return {**row, column: [{**o, key: place[json.dumps(o[key])]} for o in row[column]]}

    return turn


TURNS = {  # the same row with the preference the other way round
    **as_each(
        swapped("chosen", "rejected"),
        "triples conversational conversations hh-rlhf orca distilabel-orca alpaca-ranking "
        "sharegpt-ranking messages-ranking",
    ),
    "argilla-instruction": swapped("chosen_response", "rejected_response"),
    "ms-swift/messages": swapped("messages", "rejected_messages"),
    "ms-swift": lambda row: {"messages": [SYSTEM, ASK, REJECTED], "rejected_response": GOOD},
    "openai-preference": swapped("preferred_output", "non_preferred_output"),
    "stack-exchange-paired": swapped("response_j", "response_k"),
    "shp": lambda row: {**row, "labels": 1},
    "tldr-comparisons": lambda row: {**row, "choice": 1 - row["choice"]},
    "helpsteer2-preference": lambda row: {**row, "preference_strength": 1},
    "helpsteer3-preference": lambda row: {**row, "overall_preference": -3},
    "pku-saferlhf": lambda row: {**row, "better_response_id": 0},
    "arena": lambda row: {**row, "winner": {"model_b": "model_a"}.get(row["winner"], "model_b")},
    "arena-pairwise": swapped("winner_model_a", "winner_model_b"),
    "nectar": turned("answers", "rank"),
    "ultrafeedback": lambda row: {
        **row,
        "completions": [rated(t, r, r, r, r) for t, r in ((BAD, "2"), (BAD2, "5"), (GOOD, "1"))],
    },
    "ranking": lambda row: {**row, "scores": [-score for score in row["scores"]]},
    "ranking/ranks": lambda row: {**row, "ranks": [2, 3, 1]},
    "kto": lambda row: {**row, "label": False},
    "kto-messages": lambda row: {**row, "label": False},
    "kto-messages/sharegpt": lambda row: {**row, "kto_tag": "false"},
    "kto-alpaca": lambda row: {**row, "kto_tag": 0},
}
