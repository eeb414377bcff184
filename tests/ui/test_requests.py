"""What no page sends: an answer each, nothing of the disk, and no traceback in the log."""

import json
import logging
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from dpo_lite.recipe import load_recipe, to_yaml
from dpo_lite.runs.folder import create_run
from dpo_lite.ui import server
from dpo_lite.ui.blocks import remembered_names
from dpo_lite.ui.client import Worker
from tests.ui.conftest import free_port

API = "/gradio_api"
SECRET = "what stands in no answer"
JSON = {"content-type": "application/json"}
FORM = {"content-type": "multipart/form-data; boundary=x"}
PART = b'--x\r\nContent-Disposition: form-data; name="files"'


def event(**changes):
    return {"json": {"data": [], "fn_index": 0, "session_hash": "s"} | changes}


POSTS = {
    f"{API}/queue/join": [
        {"content": b'{"data": [', "headers": JSON},
        {"content": b"\xff\xfe", "headers": JSON},
        {"content": b"\xff\xfe", "headers": {"content-type": "text/plain"}},
        {"content": b"[" * 100_000, "headers": JSON},
        {"content": b"{}", "headers": {"content-type": "multipart/form-data"}},
        {"content": b"{}", "headers": {"content-type": b"\xff/;;="}},
        {"json": [1]},
        *(event(fn_index=number) for number in (99_999, -1, 10**30, 1.5, "a", None)),
        event(session_hash=None),
    ],
    f"{API}/run/predict": [event(fn_index=number) for number in (99_999, -1, None)],
    f"{API}/call/nothing": [{"json": {"data": []}}],
    f"{API}/api/predict": [{"json": {"data": []}}],
    f"{API}/upload": [
        {},
        {"json": {}},
        {"content": b"abc", "headers": {"content-type": "multipart/form-data"}},
        {"content": b"abc", "headers": FORM},
        {"content": PART + b"\r\n\r\nabc\r\n--x--\r\n", "headers": FORM},
        {"content": b"--x\r\n" + b"A" * 70_000 + b": b\r\n\r\nc\r\n--x--\r\n", "headers": FORM},
    ],
    f"{API}/component_server": [
        {"json": {}},
        {"json": {"session_hash": "x", "component_id": 9999, "fn_name": "a", "data": []}},
        {"content": b"--", "headers": FORM},
    ],
    f"{API}/cancel": [{"json": {"a": 1}}],
    "/": [{}],
    "/login": [{}],
}
GETS = [
    f"{API}/upload_progress?upload_id=nope",
    f"{API}/custom_component/x/client/component/..%2f..%2fx",
    f"{API}/proxy=http://example.com/",
    f"{API}/mcp/sse",
    "/monitoring",
    "/static/%2e%2e/%2e%2e/x",
    "/assets/%2e%2e/%2e%2e/x",
]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A page with a run and a file that is nobody's business, and what uvicorn logs of it."""
    folder = tmp_path_factory.mktemp("requests")
    (folder / "secret.txt").write_text(SECRET)
    run = create_run(folder / "runs", "one", "one")
    run.recipe_file.write_text(to_yaml(load_recipe("quickstart")))
    (run.path / "log.txt").write_text(SECRET)
    port, logged = free_port(), []
    blocks = server.serve(folder / "runs", folder / "recipes", port=port, block=False)
    handler = logging.Handler(logging.WARNING)
    handler.emit = logged.append
    logging.getLogger("uvicorn.error").addHandler(handler)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        yield SimpleNamespace(client=client, logged=logged, folder=folder, blocks=blocks)
    logging.getLogger("uvicorn.error").removeHandler(handler)
    blocks.close()


@pytest.fixture
def ask(served, capsys):
    """Ask, and look afterwards that nothing was printed at length."""

    def asked(method, path, **how):
        answer = served.client.request(method, path, **how)
        assert SECRET not in answer.text
        return answer

    yield asked
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err + printed.out
    assert [record.getMessage() for record in served.logged] == []


def test_what_is_no_request_of_the_page_is_told_so(ask):
    for path, requests in POSTS.items():
        for how in requests:
            answer = ask("POST", path, **how)
            assert 400 <= answer.status_code < 500, (path, how, answer.status_code)
    for path in GETS:
        assert 400 <= ask("GET", path).status_code < 500, path
    half = PART + b'; filename="../../a.jsonl"\r\n\r\nabc'
    assert ask("POST", f"{API}/upload", content=half, headers=FORM).json() == []  # nothing is kept


def test_no_path_leads_to_a_file(ask, served):
    paths = [
        "/etc/passwd",
        *(str(file) for file in served.folder.rglob("*") if file.is_file()),
        "..%2f..%2fetc/passwd",
        f"{served.folder}%2fruns%2f..%2fsecret.txt",
        "%00",
        "C:\\x",
        "a" * 5_000,
    ]
    for path in paths:
        for place in (f"{API}/file=", f"{API}/stream/", "/file=", "/static/", "/"):
            assert 400 <= ask("GET", place + path).status_code < 500, place + path


def test_headers_of_any_size_are_answered(ask):
    assert ask("GET", "/pulse", headers={"x": "a" * 20_000}).status_code == 200
    for origin in ("http://[", "null", "http://", "//", "http://127.0.0.1:1@evil.example"):
        assert ask("POST", "/pulse", headers={"origin": origin}).status_code == 403


def test_the_pulse_takes_names_alone(ask, served):
    for runs in ("../secret.txt", "%00", "one/../../secret.txt", "a," * 10_000, "<script>"):
        answer = ask("GET", "/pulse", params={"runs": runs})
        assert answer.status_code == 200
        assert "<script>" not in answer.text


def test_an_event_with_inputs_that_are_none_is_no_fault(ask, served):
    """Of the page's own event: too few inputs, and some of another kind."""
    number, inputs = next(
        (number, len(event.inputs))
        for number, event in served.blocks.fns.items()
        if event.name == "tick" and len(event.targets) == 1 and event.targets[0][1] == "click"
    )
    few = [[], [["one"]]]
    odd = [[kept, 0.8, *[None] * (inputs - 2)] for kept in (5, {"a": 1})]
    for place, data in enumerate([*few, *odd]):
        told = heard(ask, served, f"odd-{place}", fn_index=number, data=data)
        assert told["success"] is (data in odd)  # what a browser kept is passed over


def heard(ask, served, session, **changes):
    assert ask("POST", f"{API}/queue/join", **event(session_hash=session, **changes)).is_success
    with served.client.stream("GET", f"{API}/queue/data?session_hash={session}") as answer:
        for line in answer.iter_lines():
            if "process_completed" in line:
                return json.loads(line.removeprefix("data:"))
    raise AssertionError("no answer")


@pytest.mark.parametrize("kept", [None, 5, "a", {"a": 1}, [["a"], 5, None]])
def test_a_browsers_storage_may_hold_anything(kept):
    names = remembered_names(render=False)
    assert names.preprocess(kept) == []
    assert names.preprocess(["one", 5]) == ["one"]


def test_a_download_leaves_nothing_behind(served, monkeypatch, tmp_path):
    """But for the copy that Gradio serves, and knows to take away."""
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    adapter = served.folder / "runs" / "one" / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    download = next(e.fn for e in served.blocks.fns.values() if e.name == "download")
    for _ in range(3):
        kept, _note = download("one")
    assert list(tmp_path.iterdir()) == []
    assert Path(kept).is_file()
    assert any(kept in files for files in served.blocks.temp_file_sets)
    assert served.blocks.delete_cache is not None
    Path(kept).unlink()


def test_the_worker_is_not_started_by_any_of_it(served):
    assert Worker(served.folder / "runs").state()["loaded"] is None
