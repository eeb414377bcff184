"""One question to a judge that speaks OpenAI's chat completions, by the standard library.

The key is read from the environment when a question is sent, goes to that address alone (redirects
are refused) and is taken out of whatever the server says. What a server says is stored and shown,
so no more than a few megabytes of it are read, and for no longer than the timeout.
"""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from dpo_lite import __version__
from dpo_lite.errors import UserError
from dpo_lite.names import is_loopback
from dpo_lite.recipe import JudgeSection

KEY = "DPO_LITE_JUDGE_KEY"
AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529}  # statuses that may pass
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds before a question is asked again
MOST_BYTES = 4 << 20
MOST_SAID = 200  # letters of a server's words in a sentence

Messages = Sequence[dict[str, str]]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Reply:
    """``text``: as the judge wrote it; tokens as the server counts them, None where it does not."""

    text: str
    tokens_in: int | None = None
    tokens_out: int | None = None


class _Passing(Exception):
    """It may go well another time; ``wait``: seconds that the server asks for."""

    def __init__(self, words: str, wait: float | None = None):
        super().__init__(words)
        self.wait = wait


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any, **named: Any) -> None:
        """None, so that the status itself is the error."""


def check_judge(section: JudgeSection) -> None:
    """Raise UserError where the section names no judge, or its key would travel in the clear."""
    if not section.url or not section.model:
        missing = "judge.url" if not section.url else "judge.model"
        raise UserError(
            f"{missing} is missing: a judge needs its address and its name, such as"
            " judge.url=http://127.0.0.1:8000/v1 judge.model=qwen3-8b."
        )
    if _key() and urlsplit(section.url).scheme == "http" and not _on_this_machine(section.url):
        raise UserError(
            f"judge.url: the key in {KEY} would go to {section.url} unencrypted; take an https"
            f" address, or unset {KEY} where that judge wants none."
        )


def request_body(section: JudgeSection, messages: Messages) -> dict[str, Any]:
    """The JSON of a request; with the address it is all that decides the reply."""
    body = {
        "model": section.model,
        "messages": list(messages),
        "temperature": section.temperature,
        "max_tokens": section.max_tokens,
    }
    return {key: value for key, value in (body | section.body).items() if value is not None}


def complete(
    section: JudgeSection,
    messages: Messages,
    say: Say = lambda text: None,
    stopped: threading.Event | None = None,
) -> Reply:
    """The judge's reply. Asked again where that may help, each time after a longer wait.

    ``say`` is told of every wait; ``stopped`` ends one. Raises UserError where there is no reply.
    """
    stopped = stopped or threading.Event()
    for turn in range(section.retries + 1):
        try:
            return _ask_once(section, messages)
        except _Passing as error:
            last = error
        if turn == section.retries or stopped.is_set():
            break
        wait = min(last.wait or FIRST_WAIT * 2**turn, LONGEST_WAIT)
        say(f"the judge {last}; asking again in {wait:.0f} s ({turn + 1} of {section.retries})")
        if stopped.wait(wait):
            break
    raise UserError(
        f"The judge at {section.url} {last}, also when asked again; what it has answered is kept,"
        " so start it and give the same command again, or raise judge.timeout or judge.retries."
    )


def _ask_once(section: JudgeSection, messages: Messages) -> Reply:
    request = urllib.request.Request(
        f"{section.url}/chat/completions",
        json.dumps(request_body(section, messages)).encode(),
        {"Content-Type": "application/json", "User-Agent": f"dpo-lite/{__version__}"},
    )
    key = _key()
    if key:
        request.add_unredirected_header("Authorization", f"Bearer {key}")
    try:
        text = _received(section, request)
    except urllib.error.HTTPError as error:
        raise _refused(section, error, key) from None
    except urllib.error.URLError as error:
        raise _Passing(f"cannot be reached ({_short(str(error.reason), key)})") from None
    except TimeoutError:
        raise _Passing(f"gave no reply within {section.timeout:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Passing(f"broke off ({_short(repr(error), key)})") from None
    return _read(text, key)


def _received(section: JudgeSection, request: urllib.request.Request) -> bytes:
    """The reply's bytes; a server that sends a few now and then is slow as well."""
    handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
    if _on_this_machine(section.url or ""):
        handlers.append(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + section.timeout
    found = b""
    with urllib.request.build_opener(*handlers).open(request, timeout=section.timeout) as reply:
        while part := reply.read1(1 << 16):
            found += part
            if time.monotonic() > deadline:
                raise TimeoutError
            if len(found) > MOST_BYTES:
                raise _Passing(f"sent over {MOST_BYTES >> 20} MB in reply to one question")
    return found


def _refused(section: JudgeSection, error: urllib.error.HTTPError, key: str) -> Exception:
    with error:
        try:
            said = _short(error.read(MOST_BYTES).decode("utf-8", "replace"), key)
        except (OSError, http.client.HTTPException):
            said = ""
    words = f"answered {error.code}" + (f" ({said})" if said else "")
    if error.code in AGAIN:
        return _Passing(words, _seconds(error.headers.get("Retry-After")))
    if 300 <= error.code < 400:
        hint = "it points to another address; write that one into judge.url"
    elif error.code in (401, 403):
        hint = f"put the key that it wants into {KEY}"
    elif error.code in (404, 405):
        hint = "judge.url must be all before /chat/completions, and judge.model a name it has"
    else:
        hint = "look at judge.model, judge.max_tokens and judge.body"
    return UserError(f"The judge at {section.url} {words}; {hint}.")


def _read(text: bytes, key: str) -> Reply:
    """An empty text is a reply as well: of a judge that thought until its tokens were gone."""
    try:
        value = json.loads(text)
        said = value["choices"][0]["message"].get("content")
        usage = value.get("usage") or {}
        if isinstance(said, list):  # in parts, as some servers write it
            said = "".join(part.get("text") or "" for part in said)
        if not isinstance(said, str | None):
            raise TypeError
        counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        words = _short(text.decode("utf-8", "replace"), key)
        raise _Passing(f"does not reply as chat completions do ({words or 'nothing'})") from None
    whole = [count if isinstance(count, int) and count >= 0 else None for count in counts]
    plain = (said or "").encode("utf-8", "replace").decode()  # half of a surrogate pair is no text
    return Reply(_without_key(plain, key), *whole)


def _key() -> str:
    """Empty where there is none. Raises UserError for what no header can hold."""
    key = os.environ.get(KEY, "").strip()
    if not all("!" <= letter <= "~" for letter in key):  # else the fault would show it
        raise UserError(f"{KEY} holds spaces or letters that no key has; set it anew.")
    return key


def _without_key(text: str, key: str) -> str:
    return text.replace(key, "[key]") if key else text


def _short(text: str, key: str) -> str:
    """A server's words in a sentence: one line, not long, without the key."""
    seen = (letter if letter.isprintable() else " " for letter in _without_key(text, key))
    plain = " ".join("".join(seen).split())
    return plain if len(plain) <= MOST_SAID else plain[: MOST_SAID - 1] + "…"


def _seconds(text: str | None) -> float | None:
    try:
        wait = float(text or "")
    except ValueError:  # a date, which hardly anybody sends
        return None
    return wait if 0 < wait < float("inf") else None


def _on_this_machine(url: str) -> bool:
    return is_loopback(urlsplit(url).hostname or "")
