"""The table of data formats: a new one is an entry here.

A format is a set of columns with a test for each. The tests are strict enough that a row of one
public data set matches one format; where it does not, the user is asked to name it
(dpo_lite.data.recognition). Each entry names its converter and how its prompt alone is read.
"""

from __future__ import annotations

from dpo_lite.data import converters as to
from dpo_lite.data import fields
from dpo_lite.data import prompts as ask
from dpo_lite.data.format_rules import (
    ANSWER,
    CONVERSATION,
    DIALOGUE,
    EITHER,
    FLAG,
    INPUT,
    MESSAGE,
    MESSAGES,
    NO_TURNS,
    NUMBER,
    NUMBERS,
    POST,
    RANKED,
    RATED,
    REPLY,
    RESPONSES,
    ROUNDS,
    SUMMARIES,
    TEXT,
    Format,
    column_words,
)

PAIR = {"chosen": ANSWER, "rejected": ANSWER}
WINNERS = {"winner_model_a": FLAG, "winner_model_b": FLAG}
OTHERS = ("chosen", "rejected", "rejected_response", "rejected_messages")
LABELS = (*OTHERS, "label", "kto_tag")

ANSWERED: tuple[Format, ...] = (
    Format(
        "triples",
        "texts, with or without `system`; a `\\n\\nHuman: …` prompt is split into turns",
        {"prompt": TEXT, **PAIR},
        to.columns("prompt", "chosen", "rejected"),
        ask.column("prompt"),
    ),
    Format(
        "conversational",
        "TRL's explicit prompt: turns, then the two answers, with or without the prompt before "
        "them; `tools` and `chat_template_kwargs` go to the chat template",
        {"prompt": MESSAGES, "chosen": REPLY, "rejected": REPLY},
        to.conversational,
        ask.templated(fields.prompt),
    ),
    Format(
        "conversations",
        "two whole conversations that share all but the last answer (UltraFeedback-binarized, "
        "dpo-mix-7k, Capybara, Skywork; TRL's implicit prompt); a text `prompt` beside them is "
        "ignored, equal ratings are ties",
        {"chosen": CONVERSATION, "rejected": CONVERSATION, "prompt": NO_TURNS},
        to.conversations,
        ask.conversation("chosen", "rejected"),
    ),
    Format(
        "hh-rlhf",
        "two dialogues `\\n\\nHuman: … \\n\\nAssistant: …`, split at the last `Assistant:`",
        {"chosen": DIALOGUE, "rejected": DIALOGUE},
        to.hh_rlhf,
        ask.alone(ask.before_last_answer),
    ),
    Format(
        "ranking",
        "any number of responses with `scores` (higher is better) or `ranks` (1 is best)",
        {"prompt": EITHER, "responses": RESPONSES, "scores|ranks": NUMBERS},
        to.ranking,
        ask.templated(fields.prompt),
    ),
    Format(
        "kto",
        "one answer a row, good or bad (TRL's unpaired preferences, kto-mix-14k); as it is for "
        "task: kto, else paired where the prompts are the same",
        {"prompt": EITHER, "completion": EITHER, "label|kto_tag": FLAG},
        to.kto,
        ask.templated(fields.prompt),
        grouped=True,
    ),
    Format(
        "kto-messages",
        "a conversation whose last answer is good or bad, taken likewise (ms-swift's `label`, "
        "LLaMA-Factory's `kto_tag`)",
        {"messages|conversations": MESSAGES, "label|kto_tag": FLAG},
        to.kto_messages,
        ask.conversation("messages", "conversations"),
        lacks=OTHERS,
        grouped=True,
    ),
    Format(
        "kto-alpaca",
        "texts, with or without `input`, `system` and `history`; good or bad, taken likewise "
        "(LLaMA-Factory's `kto_tag`)",
        {"instruction": TEXT, "output": TEXT, "label|kto_tag": FLAG},
        to.kto_alpaca,
        ask.alone(ask.instruction),
        lacks=OTHERS,
        grouped=True,
    ),
    Format(
        "sft-completion",
        "demonstrations: texts or lists of messages",
        {"prompt": EITHER, "completion": EITHER},
        to.sft_completion,
        ask.templated(fields.prompt),
        lacks=LABELS,
    ),
    Format(
        "sft-messages",
        "demonstrations: a conversation, of which the last answer is trained on",
        {"messages|conversations": MESSAGES},
        to.sft_messages,
        ask.conversation("messages", "conversations"),
        lacks=LABELS,
    ),
    Format(
        "sft-alpaca",
        "demonstrations: texts, with or without `input`, `system` and `history`",
        {"instruction": TEXT, "output": TEXT},
        to.sft_alpaca,
        ask.alone(ask.instruction),
        lacks=LABELS,
    ),
    Format(
        "orca",
        "texts, with or without `system` (Intel orca_dpo_pairs)",
        {"question": TEXT, **PAIR},
        to.columns("question", "chosen", "rejected"),
        ask.column("question"),
        lacks=("prompt",),
    ),
    Format(
        "distilabel-orca",
        "texts, with or without `system`; `status` may be tie (distilabel-intel-orca-dpo-pairs)",
        {"input": TEXT, "status": TEXT, **PAIR},
        to.distilabel_orca,
        ask.column("input"),
        lacks=("prompt", "question", "instruction"),
    ),
    Format(
        "argilla-instruction",
        "texts, with or without `system` (argilla ultrafeedback-binarized-preferences)",
        {"instruction": TEXT, "chosen_response": TEXT, "rejected_response": TEXT},
        to.columns("instruction", "chosen_response", "rejected_response"),
        ask.column("instruction"),
    ),
    Format(
        "alpaca-ranking",
        "texts, with or without `input`, `system` and `history` (LLaMA-Factory alpaca)",
        {"instruction": TEXT, **PAIR},
        to.alpaca_ranking,
        ask.alone(ask.instruction),
        lacks=("prompt", "question"),
    ),
    Format(
        "sharegpt-ranking",
        "turns, then one of two messages (LLaMA-Factory sharegpt: DPO-En-Zh-20k)",
        {"conversations": MESSAGES, "chosen": MESSAGE, "rejected": MESSAGE},
        to.behind_turns("conversations"),
        ask.turns("conversations"),
    ),
    Format(
        "messages-ranking",
        "turns, then one of two messages (axolotl)",
        {"messages": MESSAGES, "chosen": MESSAGE, "rejected": MESSAGE},
        to.behind_turns("messages"),
        ask.turns("messages"),
    ),
    Format(
        "ms-swift",
        "a conversation that ends with the preferred answer, and the other answer or conversation",
        {"messages": MESSAGES, "rejected_response|rejected_messages": EITHER},
        to.ms_swift,
        ask.conversation("messages"),
    ),
    Format(
        "openai-preference",
        "OpenAI's fine-tuning file: `input` holds the messages; `preferred_output` is preferred",
        {"input": INPUT, "preferred_output": MESSAGES, "non_preferred_output": MESSAGES},
        to.openai_preference,
        ask.openai_input,
    ),
    Format(
        "stack-exchange-paired",
        "texts; `response_j` is preferred (lvwerra stack-exchange-paired)",
        {"question": TEXT, "response_j": TEXT, "response_k": TEXT},
        to.columns("question", "response_j", "response_k"),
        ask.column("question"),
    ),
    Format(
        "shp",
        "texts; `labels` 1 prefers A; a `score_ratio` under 2 is too weak (Stanford SHP)",
        {"history": TEXT, "human_ref_A": TEXT, "human_ref_B": TEXT, "labels": FLAG},
        to.shp,
        ask.alone(lambda row: fields.user(fields.text(row, "history"))),
    ),
    Format(
        "tldr-comparisons",
        "two summaries, of which `choice` is preferred, from 0 (OpenAI summarize_from_feedback)",
        {"info": POST, "summaries": SUMMARIES, "choice": FLAG},
        to.tldr_comparisons,
        ask.alone(ask.post),
    ),
    Format(
        "helpsteer2-preference",
        "texts; a negative strength prefers the first, 0 is a tie (NVIDIA HelpSteer2, preference)",
        {"prompt": TEXT, "response_1": TEXT, "response_2": TEXT, "preference_strength": NUMBER},
        to.helpsteer2,
        ask.alone(ask.marked_turns),
    ),
    Format(
        "helpsteer3-preference",
        "turns and two texts; a negative number prefers the first, 0 is a tie (NVIDIA HelpSteer3)",
        {"context": MESSAGES, "response1": TEXT, "response2": TEXT, "overall_preference": NUMBER},
        to.helpsteer3,
        ask.alone(lambda row: fields.messages(row, "context")),
    ),
    Format(
        "pku-saferlhf",
        "texts; `better_response_id` is the number of the preferred one (PKU-SafeRLHF)",
        {"prompt": TEXT, "response_0": TEXT, "response_1": TEXT, "better_response_id": FLAG},
        to.pku_saferlhf,
        ask.column("prompt"),
    ),
    Format(
        "arena",
        "two conversations that share all but the last answer; `winner` is model_a, model_b or a "
        "tie (LMSYS chatbot_arena_conversations, LMArena)",
        {"conversation_a": MESSAGES, "conversation_b": MESSAGES, "winner": TEXT},
        to.arena,
        ask.alone(lambda row: fields.turns_before_answer(row, "conversation_a")),
    ),
    Format(
        "arena-pairwise",
        "texts, or lists of one text; more rounds are dropped (lmsys-arena-human-preference-55k)",
        {**dict.fromkeys(("prompt", "response_a", "response_b"), ROUNDS), **WINNERS},
        to.arena_pairwise,
        ask.alone(lambda row: fields.user(ask.only_round(row, "prompt"))),
    ),
    Format(
        "nectar",
        "`answers` with a rank each, 1 is best (Berkeley Nectar)",
        {"prompt": EITHER, "answers": RANKED},
        to.nectar,
        ask.column("prompt"),
    ),
    Format(
        "ultrafeedback",
        "`completions` with ratings, ranked by their mean (OpenBMB UltraFeedback)",
        {"instruction": TEXT, "completions": RATED},
        to.ultrafeedback,
        ask.column("instruction"),
    ),
)

# Columns that ask; all others that a format needs say that it is that format.
ASKING = ("prompt", "question", "instruction", "input", "history", "info", "context")

PROMPTS_ALONE = Format(
    "prompts",
    "prompts alone, text or turns that end with the user, with or without `system` (TRL's "
    "prompt-only); for task: ppo",
    {"prompt": EITHER},
    ask.templated(fields.prompt),
    ask.templated(fields.prompt),
    lacks=tuple(
        dict.fromkeys(
            name
            for f in ANSWERED
            for names in f.needs
            for name in names.split("|")
            if name not in ASKING
        )
    ),
)
FORMATS = (*ANSWERED, PROMPTS_ALONE)


def formats_table() -> str:
    """The Markdown table of docs/data-formats.md."""
    lines = ["| `data.format` | columns | what it is |", "| --- | --- | --- |"]
    lines += [f"| `{f.name}` | {column_words(f.needed())} | {f.description} |" for f in FORMATS]
    return "\n".join(lines) + "\n"
