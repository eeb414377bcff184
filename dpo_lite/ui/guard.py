"""What a request must be before it reaches the page.

A page on 127.0.0.1 is open to every web site that the same browser visits: by a name that resolves
to 127.0.0.1 (DNS rebinding), by a form that posts across sites, by a frame. So the host must be one
of ours, which Starlette sees to, a request that changes something must come from our own page,
nobody may frame it, and the browser is told to load nothing from elsewhere, whatever text a model
writes. What is no request of the page at all is told so, in one line of the log.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.middleware.trustedhost import TrustedHostMiddleware

POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self'; "
    "img-src 'self' data: blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
MOST_SHOWN = 100  # letters of a refused request in the log
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Guard:
    """ASGI middleware. ``hosts``: names by which the page may be called; None: any (a login)."""

    def __init__(self, app, hosts: Iterable[str] | None = LOOPBACK):
        names = ["*"] if hosts is None else [f"[{h}]" if ":" in h else h for h in hosts]
        self.app = TrustedHostMiddleware(app, names, www_redirect=False)

    async def __call__(self, scope, receive, send):
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        fault = self.fault(scope)
        if fault is None:
            await self._pass(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _refuse(_with_headers(send), fault)

    async def _pass(self, scope, receive, send):
        """Have the page answer. Gradio takes for granted that its own script asks: a body that is
        no such thing, an event or a part that there is not, are exceptions of all kinds there, and
        Starlette prints each at length."""
        begun = False

        async def sending(message):
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception as error:
            if scope["type"] != "http" or os.environ.get("DPO_LITE_DEBUG"):
                raise
            what = f"{scope['method']} {scope['path']}"[:MOST_SHOWN]
            print(f"{what!r} was refused: {type(error).__name__}", file=sys.stderr, flush=True)
            if begun:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            else:
                await _refuse(send, "This is no request that the page makes.", 400)

    def fault(self, scope) -> str | None:
        """Why a request is refused; None for a good one."""
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        if len(headers.get("host", [])) != 1 or len(headers.get("origin", [])) > 1:
            return "A request needs one Host header."
        origin = headers.get("origin", [None])[0]
        if origin is not None and _authority(origin) != headers["host"][0].lower():
            return "This page answers only to itself, not to other sites."
        site = headers.get("sec-fetch-site", [None])[0]
        reads = scope["type"] == "http" and scope["method"] in ("GET", "HEAD")
        visits = reads and headers.get("sec-fetch-mode", [None])[0] == "navigate"
        if site in ("cross-site", "same-site") and not visits:
            return "This page answers only to itself, not to other sites."
        return None


def _authority(origin: str) -> str:
    """``host[:port]`` of an origin; `` `` for the opaque ``null``, which equals no host."""
    try:
        return urlsplit(origin).netloc.lower() if "://" in origin else ""
    except ValueError:  # half an address in brackets
        return ""


def _with_headers(send):
    async def sending(message):
        if message["type"] == "http.response.start":
            given = [(k, v) for k, v in message["headers"] if k.decode("latin-1") not in HEADERS]
            ours = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in HEADERS.items()]
            message = message | {"headers": [*given, *ours]}
        await send(message)

    return sending


async def _refuse(send, fault: str, status: int = 403) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": fault.encode()})
