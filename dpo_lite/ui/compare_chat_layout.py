"""The chat as it is laid out in the Compare tab."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from dpo_lite.compare.chat import Chat
from dpo_lite.ui.chat_views import SCRIPT, conversation

OWN, TOGETHER = "each with its own words", "all from the preferred answer"


@dataclass(frozen=True)
class ChatPart:
    """``chat`` is the conversation, ``editing`` the column of the last turn that is rewritten."""

    chat: gr.State
    editing: gr.State
    system: gr.Textbox
    follow: gr.Radio
    message: gr.HTML
    shown: gr.HTML
    edit: gr.Column
    words: gr.Textbox
    save: gr.Button
    leave: gr.Button
    user: gr.Textbox
    send: gr.Button
    stop: gr.Button
    again: gr.Button
    new: gr.Button


def lay_out_chat() -> ChatPart:
    chat, editing = gr.State(Chat()), gr.State(None)
    with gr.Row():
        system = gr.Textbox(
            label="System prompt",
            lines=1,
            max_lines=6,
            info="Before the first turn; another one begins a new chat",
            elem_id="chat-system",
            elem_classes="dl-field",
            scale=3,
            min_width=260,
        )
        follow = gr.Radio(
            [OWN, TOGETHER],
            value=TOGETHER,
            label="They go on",
            info="Only answers to the same messages are pairs to learn from",
            elem_id="chat-follow",
            scale=2,
            min_width=260,
        )
    shown = gr.HTML(
        conversation(Chat()),
        padding=False,
        elem_id="chat-shown",
        min_height=120,
        js_on_load=SCRIPT,
    )
    message = gr.HTML("", padding=False, elem_id="chat-told")
    with gr.Column(visible=False, elem_id="chat-edit") as edit:
        words = gr.Textbox(
            label="The answer in your words",
            lines=3,
            max_lines=14,
            elem_id="chat-words",
            elem_classes="dl-field",
        )
        with gr.Row(elem_classes="dl-buttons"):
            small = {"size": "sm", "scale": 0}
            save = gr.Button("Save answer", elem_id="chat-save", min_width=130, **small)
            leave = gr.Button("Leave as it was", elem_id="chat-leave", min_width=150, **small)
    user = gr.Textbox(
        label="Your turn",
        lines=2,
        max_lines=8,
        elem_id="chat-user",
        elem_classes="dl-field",
        info="Shift and Enter sends",
    )
    with gr.Row(elem_classes="dl-buttons"):
        size = {"size": "md", "scale": 0}
        send = gr.Button("Send", variant="primary", elem_id="chat-send", min_width=140, **size)
        stop = gr.Button("Stop", elem_id="chat-stop", interactive=False, min_width=90, **size)
        again = gr.Button("Regenerate", elem_id="chat-again", min_width=130, **size)
        new = gr.Button("New chat", elem_id="chat-new", min_width=120, **size)
    return ChatPart(
        chat,
        editing,
        system,
        follow,
        message,
        shown,
        edit,
        words,
        save,
        leave,
        user,
        send,
        stop,
        again,
        new,
    )
