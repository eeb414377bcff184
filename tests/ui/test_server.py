"""How the page is started: who may reach it, what stays off, what is not loaded."""

import asyncio
import io
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from dpo_lite.errors import UserError
from dpo_lite.names import is_loopback
from dpo_lite.ui import server


@pytest.mark.parametrize(
    ("host", "safe"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("box", False)],
)
def test_only_loopback_needs_no_password(host, safe):
    assert is_loopback(host) is safe


@pytest.mark.parametrize("options", [{"host": "0.0.0.0"}, {"share": True}])
@pytest.mark.parametrize("password", ["", "short"])
def test_others_are_let_in_only_with_a_password(options, password, monkeypatch):
    monkeypatch.setenv(server.PASSWORD_VARIABLE, password)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(UserError, match=server.PASSWORD_VARIABLE):
        server.serve(**options)


def test_the_environment_opens_nothing(monkeypatch):
    """Gradio lets variables fill what is left unset; here nothing is."""
    options = server.launch_options("127.0.0.1", 7860, share=False, password=None)
    off = "share run_history enable_monitoring mcp_server ssr_mode pwa show_error".split()
    assert {name: options[name] for name in off} == dict.fromkeys(off, False)
    assert options["allowed_paths"] == options["footer_links"] == []
    assert options["server_name"] == "127.0.0.1"
    assert options["max_file_size"]
    (guard,) = options["app_kwargs"]["middleware"]
    assert guard.kwargs["hosts"] == {"127.0.0.1", "localhost", "::1"}


def test_a_taken_port_is_one_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="choose another --port"):
            server.check_port("127.0.0.1", taken.getsockname()[1])


def test_the_login_takes_the_password_and_nothing_else():
    check = server.login("correct horse")

    async def tries():
        return await check("dpo-lite", "correct horse"), await check("dpo-lite", "wrong")

    # In a thread of its own: a browser of other tests may run a loop in this one.
    with ThreadPoolExecutor() as pool:
        assert pool.submit(lambda: asyncio.run(tries())).result() == (True, False)


@pytest.mark.slow
def test_the_page_needs_no_torch_and_no_outside_font():
    code = (
        "import sys, os; os.environ['GRADIO_ANALYTICS_ENABLED'] = 'True'\n"
        "from pathlib import Path\n"
        "from dpo_lite.ui import server, page\n"
        "page.build(page.Page(Path('runs'), Path('mine'), server.Worker('runs')))\n"
        "assert not server.theme()._stylesheets, 'a font comes from outside'\n"
        "import gradio.analytics as a; assert not a.analytics_enabled()\n"
        "heavy = {'torch', 'transformers', 'datasets', 'peft'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
