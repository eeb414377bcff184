"""Requests that another web site could cause are refused; our own pass, with headers."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from dpo_lite.ui.guard import HEADERS, LOOPBACK, Guard


def client(hosts=LOOPBACK):
    async def answer(request):
        return PlainTextResponse("inside")

    app = Starlette(
        routes=[Route("/", answer, methods=["GET", "POST"])],
        middleware=[Middleware(Guard, hosts=hosts)],
    )
    return TestClient(app, base_url="http://127.0.0.1:7860")


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:1", "LOCALHOST", "[::1]:7860"])
def test_our_own_names_pass(host):
    assert client().get("/", headers={"host": host}).text == "inside"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "evil.example:7860",
        "a@127.0.0.1",
        "127.0.0.1/x",
        "127.0.0.1:x",
        "",
    ],
)
def test_other_names_are_refused(host):
    answer = client().get("/", headers={"host": host})
    assert answer.status_code == 400
    assert "inside" not in answer.text


def test_two_names_are_none():
    hosts = [("host", "127.0.0.1"), ("host", "evil.example")]
    for headers in (hosts, hosts[::-1]):
        assert client().get("/", headers=headers).status_code == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"host": "evil.example"}, 400), ({"origin": "http://evil.example"}, None)],
)
def test_sockets_are_guarded_too(headers, status):
    """Both are refused before a connection stands."""
    with (
        pytest.raises(WebSocketDisconnect) as refused,
        client().websocket_connect("ws://127.0.0.1:7860/", headers=headers),
    ):
        pass
    assert getattr(refused.value, "status_code", None) == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://127.0.0.1:7860"}, 200),
        ({"origin": "http://127.0.0.1:7861"}, 403),  # another program on the same machine
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 403),  # a posted form
    ],
)
def test_who_may_post(headers, status):
    assert client().post("/", headers=headers).status_code == status


def test_a_link_on_another_site_may_lead_here():
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client().get("/", headers=headers).status_code == 200
    headers["sec-fetch-mode"] = "no-cors"  # but a picture or a script may not be taken from here
    assert client().get("/", headers=headers).status_code == 403


def test_with_a_login_any_name_but_no_foreign_origin():
    headers = {"host": "box.lan:7860", "origin": "http://box.lan:7860"}
    assert client(None).post("/", headers=headers).status_code == 200
    headers["origin"] = "http://evil.example"
    assert client(None).post("/", headers=headers).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "evil.example"])
def test_every_answer_has_the_headers(host):
    answer = client().get("/", headers={"host": host})
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
