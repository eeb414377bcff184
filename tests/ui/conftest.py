"""A server of one's own in a folder of one's own, and a headless browser to look at it."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.ui.pages import settled

CHROMIUM = Path("/usr/bin/chromium")
ROOT = Path(__file__).parents[2]
START_SECONDS = 180  # on a machine that has other things to do


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_page(folder, port, environment=os.environ, log=subprocess.DEVNULL):
    """Start the page from ``folder``, so runs and recipes are there; wait until it answers."""
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "app.py"), "--port", str(port)],
        cwd=folder,
        # A device of its own, so that it waits for no run of anybody else.
        env={**environment, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": f"page-{port}"},
        stdout=log,
        stderr=None if log == subprocess.DEVNULL else log,
    )
    patience = time.monotonic() + START_SECONDS
    while server.poll() is None and time.monotonic() < patience:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=5).read()
            return server
        time.sleep(0.1)
    server.kill()
    raise AssertionError("the page did not start")


@contextlib.contextmanager
def serve(folder, **how):
    """The address of a page that is served from ``folder``; ``how`` as in ``start_page``."""
    port = free_port()
    server = start_page(folder, port, **how)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the page is served from; empty, unless a file's own fixture of this name fills it."""
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def address(folder, chromium):
    with serve(folder) as address:
        yield address


@pytest.fixture(scope="session")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip("there is no Chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium):
    """``visit(address)`` opens a page; script errors and requests to elsewhere fail a test."""
    contexts, faults = [], []

    def visit(address, width=1280):
        context = chromium.new_context(viewport={"width": width, "height": 900})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: faults.append(dialog.message))
        page.on(
            "request",
            lambda r: None if r.url.startswith((address, "data:")) else faults.append(r.url),
        )
        page.goto(address)
        settled(page)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert faults == []
