"""Starts the web page. Every option that an environment variable could set is set here."""

from __future__ import annotations

import asyncio
import getpass
import hmac
import os
import socket
import sys
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported

import gradio as gr
from starlette.middleware import Middleware

from dpo_lite.errors import UserError
from dpo_lite.names import is_loopback
from dpo_lite.ui import pulse
from dpo_lite.ui.client import Worker
from dpo_lite.ui.guard import LOOPBACK, Guard
from dpo_lite.ui.page import build
from dpo_lite.ui.shared import Page

HERE = Path(__file__).parent
PASSWORD_VARIABLE = "DPO_LITE_PASSWORD"
USER = "dpo-lite"
MAX_UPLOAD = "200mb"


def serve(
    runs: str | Path = "runs",
    recipes: str | Path = "my-recipes",
    host: str = "127.0.0.1",
    port: int = 7860,
    share: bool = False,
    inbrowser: bool = False,
    block: bool = True,
    allow_code: bool = False,
) -> gr.Blocks:
    """Open the page and serve it until Ctrl-C (``block``), or return at once.

    Raises UserError where the port is taken, and where others could reach the page without a
    password. Behind a password nobody can have Python code of a base or a reward run, unless it is
    allowed by ``allow_code``.
    """
    password = None
    if share or not is_loopback(host):
        password = ask_password()
    check_port(host, port)
    page = Page(
        runs=Path(runs),
        recipes=Path(recipes),
        worker=Worker(runs),
        allow_code=allow_code or password is None,
        local=password is None,
    )
    blocks = build(page)
    blocks.queue(max_size=64, default_concurrency_limit=8)
    blocks._queue.sleep_when_free = 0.02  # Gradio looks for events a thousand times a second
    blocks.launch(**launch_options(host, port, share, password), inbrowser=inbrowser)
    pulse.serve(page, blocks.app)
    shown = "localhost" if host in ("0.0.0.0", "::") else host
    print(f"dpo-lite is at http://{shown}:{port}  (Ctrl-C ends the page; runs go on)", flush=True)
    if blocks.share_url:
        print(f"shared at {blocks.share_url}", flush=True)
    if password:
        print(f"whoever opens it logs in as {USER} with the password", flush=True)
    if block:
        try:
            blocks.block_thread()
        finally:
            page.worker.close()
    return blocks


def launch_options(host: str, port: int, share: bool, password: str | None) -> dict[str, Any]:
    """The arguments of ``Blocks.launch``."""
    hosts = None if password else {*LOOPBACK, host}
    return {
        "server_name": host,
        "server_port": port,
        "share": share,
        "auth": login(password) if password else None,
        "auth_message": f"User: {USER}",
        "root_path": "",
        "run_history": False,  # it would keep what was typed in the browser's storage
        "enable_monitoring": False,
        "mcp_server": False,
        "ssr_mode": False,
        "pwa": False,
        "num_workers": 0,  # a worker of gradio would outlive a killed server and keep its port
        "show_error": False,
        "quiet": True,
        "prevent_thread_lock": True,
        "footer_links": [],
        "allowed_paths": [],
        "max_file_size": MAX_UPLOAD,
        "strict_cors": True,
        "theme": theme(),
        "css": (HERE / "style.css").read_text(encoding="utf-8"),
        "head": "".join(f"<script>{_script(name)}</script>" for name in ("page.js", "reach.js")),
        "app_kwargs": {"middleware": [Middleware(Guard, hosts=hosts)]},
    }


def _script(name: str) -> str:
    """A file as a script that shares no names with another's."""
    return "{\n" + (HERE / name).read_text(encoding="utf-8") + "\n}"


def login(password: str):
    """Gradio's check of user and password. One wrong try a second, whoever asks."""
    turn = asyncio.Lock()

    async def check(user: str, given: str) -> bool:
        right = hmac.compare_digest(given.encode(), password.encode())
        if right and user == USER:
            return True
        async with turn:
            await asyncio.sleep(1)
        return False

    return check


def ask_password() -> str:
    """From the environment or typed in; never from the command line, where ps shows it."""
    password = os.environ.get(PASSWORD_VARIABLE, "")
    if not password and sys.stdin.isatty():
        print("Others can reach this page and start runs with it, so it needs a password.")
        password = getpass.getpass("password: ")
    if len(password) < 8:
        raise UserError(
            "--share and --host let others in, so they need a password of at least 8 characters: "
            f"set {PASSWORD_VARIABLE}, or type it when asked."
        )
    return password


def check_port(host: str, port: int) -> None:
    """Fail in words before Gradio does so at length."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"The page cannot open {host}:{port} ({error.strerror}); choose another --port."
            ) from None


def theme() -> gr.themes.Base:
    """Gradio's plainest theme in our colours, with the system's own fonts: nothing is fetched."""
    made = gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        secondary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_md,
        text_size=gr.themes.sizes.text_md,
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "SF Mono", "Cascadia Mono", "Menlo", "Consolas", "monospace"],
    )
    return made.set(
        body_background_fill="#f6f7f9",
        body_background_fill_dark="#12161c",
        body_text_color="#1c2430",
        body_text_color_dark="#e4e8ed",
        block_background_fill="#ffffff",
        block_background_fill_dark="#1a2028",
        background_fill_primary_dark="#1a2028",
        background_fill_secondary_dark="#12161c",
        border_color_primary="#dfe3e8",
        border_color_primary_dark="#2f3742",
        block_border_color="#dfe3e8",
        block_border_color_dark="#2f3742",
        input_background_fill="#ffffff",
        input_background_fill_dark="#12161c",
        block_shadow="none",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_title_text_weight="550",
        block_title_text_color="#1c2430",
        block_title_text_color_dark="#e4e8ed",
        button_primary_background_fill="#0f766e",
        button_primary_background_fill_hover="#0c5f59",
        button_primary_background_fill_dark="#12796f",
        button_primary_background_fill_hover_dark="#158077",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#ffffff",
        button_primary_border_color="#0f766e",
        button_primary_border_color_dark="#12796f",
        # Edges at 3 : 1 and words at 4.5 : 1 to what is behind them, as WCAG 2.1 AA asks.
        button_border_width="1px",
        button_secondary_border_color="#858f9d",
        button_secondary_border_color_dark="#6b7684",
        button_secondary_border_color_hover="#5b6675",
        button_secondary_border_color_hover_dark="#9ba6b3",
        button_primary_border_color_hover="#0c5f59",
        button_primary_border_color_hover_dark="#158077",
        input_border_width="1px",
        input_border_color="#858f9d",
        input_border_color_dark="#6b7684",
        color_accent="#0f766e",
        checkbox_border_color="#858f9d",
        checkbox_border_color_dark="#6b7684",
        checkbox_background_color_selected_dark="#12796f",
        link_text_color="#0f766e",
        link_text_color_visited="#0f766e",
        link_text_color_hover="#0c5f59",
        link_text_color_dark="#3dbcae",
        link_text_color_visited_dark="#3dbcae",
        link_text_color_hover_dark="#5ed0c3",
        body_text_color_subdued="#5b6675",
        body_text_color_subdued_dark="#9ba6b3",
        input_placeholder_color="#5b6675",
        input_placeholder_color_dark="#9ba6b3",
        block_info_text_color="#5b6675",
        block_info_text_color_dark="#9ba6b3",
        button_secondary_background_fill="#ffffff",
        button_secondary_background_fill_hover="#f0f3f6",
        button_secondary_background_fill_dark="#232b35",
        button_secondary_background_fill_hover_dark="#2b3541",
        button_large_text_weight="550",
        button_small_text_weight="500",
    )
