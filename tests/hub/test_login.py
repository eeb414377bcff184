"""Logging in by a code, with huggingface_hub's pieces as they are called."""

import pytest

from dpo_lite.errors import UserError
from dpo_lite.hub import login

INFO = {
    "device_code": "secret",
    "user_code": "ABCD-EFGH",
    "verification_uri": "https://hub.example/device",
    "interval": 5,
    "expires_in": 60,
}


class Refused(Exception):
    def __init__(self, code):
        super().__init__("told why")
        self.error_code = code


@pytest.fixture
def hub(monkeypatch):
    """Put in answers of the Hub: each poll takes the next one. Returns what was kept."""
    kept = []

    def put(*answers):
        waiting = list(answers)

        def poll(info):
            assert info["expires_in"] < info["interval"]  # one request, then it is told
            answer = waiting.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        pieces = {
            "request_device_code": lambda: dict(INFO),
            "poll_device_token": poll,
            "_save_oauth_token": kept.append,
        }
        monkeypatch.setattr(login, "_piece", pieces.get)
        return kept

    return put


def test_the_code_is_waited_for_and_the_answer_kept_by_huggingface_hub(hub):
    token = {"access_token": "t"}
    kept = hub(Refused("expired_token"), Refused("expired_token"), token)
    code = login.ask_code()
    assert (code.text, code.address) == ("ABCD-EFGH", "https://hub.example/device")
    assert len(list(login.wait_for(code))) == 2
    assert kept == [token]


def test_a_refusal_and_time_that_runs_out_are_told(hub):
    kept = hub(Refused("access_denied"))
    with pytest.raises(UserError, match="told why"):
        list(login.wait_for(login.ask_code()))
    late = login.ask_code()
    late.info["expires_in"] = 0
    with pytest.raises(UserError, match="not used in time"):
        list(login.wait_for(late))
    assert kept == []


def test_an_address_that_is_none_is_not_shown(hub, monkeypatch):
    hub()
    monkeypatch.setitem(INFO, "verification_uri", "javascript:alert(1)")
    with pytest.raises(UserError, match="no address"):
        login.ask_code()


def test_the_installed_version_is_asked_whether_it_can(monkeypatch):
    pytest.importorskip("huggingface_hub.utils._oauth_device")
    assert login.offered()
    monkeypatch.setitem(login.PIECES, "huggingface_hub._login", ("no_such_piece",))
    assert not login.offered()
