"""A server on this machine that speaks as much of chat completions as a judge does."""

import contextlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from dpo_lite.recipe import JudgeSection


class StandIn:
    """``reply(body)`` gives the text of a reply, or (status, headers, bytes) of a fault."""

    def __init__(self, reply):
        self.reply, self.bodies, self.headers = reply, [], []
        self.together = self.most_together = 0
        self.lock = threading.Lock()

    @property
    def asked(self):
        return len(self.bodies)

    def section(self, **keys):
        return JudgeSection(**{"url": self.url, "model": "stand-in", "timeout": 5.0} | keys)


@contextlib.contextmanager
def stand_in(reply):
    state = StandIn(reply)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with state.lock:
                state.bodies.append(body)
                state.headers.append(dict(self.headers))
                state.together += 1
                state.most_together = max(state.together, state.most_together)
            found = state.reply(body) if self.path == "/v1/chat/completions" else (404, {}, b"no")
            with state.lock:
                state.together -= 1
            status, headers, content = found if isinstance(found, tuple) else spoken(found)
            with contextlib.suppress(OSError):  # whoever asked has gone
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        def log_message(self, *arguments):
            """Nothing on the screen."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def spoken(text, tokens=(100, 20)):
    """A whole reply as servers write it."""
    value = {"choices": [{"message": {"role": "assistant", "content": text}}]}
    if tokens:
        value["usage"] = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    return 200, {"Content-Type": "application/json"}, json.dumps(value).encode()


def shown(body):
    """The two answers of a question for a preference, in the order shown."""
    text = body["messages"][0]["content"]
    parts = []
    for name in ("answer A", "answer B"):
        start = text.index("\n", text.index(f"[{name} ")) + 1
        parts.append(text[start : text.index(f"\n[end of {name} ")])
    return parts


def prefers(better):
    """A judge that prefers the answer for which ``better(answer)`` is larger."""

    def reply(body):
        a, b = map(better, shown(body))
        return f"Well. VERDICT: {'TIE' if a == b else 'A' if a > b else 'B'}"

    return reply


def slowly(seconds, reply):
    def later(body):
        time.sleep(seconds)
        return reply(body)

    return later
