"""Pushing to a Hub on this machine: real HTTP, the real client, and all that may go wrong."""

import pytest

from dpo_lite.errors import UserError
from dpo_lite.hub.account import account
from dpo_lite.hub.push import logged_in, preview, push
from tests.fake_hub import FINE, READ, WRITE, whoami
from tests.hub.test_staging import LISTED


def test_one_commit_with_exactly_the_files(run, hub, client):
    done = push(run, repo="me/demo")
    repo = hub.repos["me/demo"]
    assert sorted(repo.files) == sorted([".gitattributes", *LISTED])
    assert repo.commits == ["initial commit", "Adapter of demo-1"]
    assert (
        repo.files["adapter_model.safetensors"]
        == (run.adapter / "adapter_model.safetensors").read_bytes()
    )
    assert (done.private, done.created, done.changed) == (True, True, True)
    assert done.url == f"{hub.url}/me/demo"
    assert hub.seen("POST", "/api/validate-yaml") >= 1


@pytest.mark.slow
def test_repeating_changes_nothing(run, hub, client):
    push(run, repo="me/demo")
    before = hub.repos["me/demo"].sha
    again = push(run, repo="me/demo")
    assert not again.changed
    assert not again.created
    assert hub.repos["me/demo"].sha == before
    assert hub.seen("PUT", "/lfs/") == 2  # adapter and curves, once each


def test_the_visibility_is_read_back(run, hub, client):
    assert not push(run, repo="me/demo", private=False).private
    asked_private = push(run, repo="me/demo", private=True)
    assert not asked_private.private  # it was there, and stays public
    assert not asked_private.created


@pytest.mark.slow
def test_a_tokenizer_of_an_earlier_push_goes(run, hub, client):
    (run.adapter / "tokenizer.json").write_text("{}")
    push(run, repo="me/demo")
    assert "tokenizer.json" in hub.repos["me/demo"].files
    hub.repos["me/demo"].files["picture.png"] = b"the user's own"
    (run.adapter / "tokenizer.json").unlink()
    push(run, repo="me/demo")
    assert "tokenizer.json" not in hub.repos["me/demo"].files
    assert "picture.png" in hub.repos["me/demo"].files


def test_a_dry_run_asks_nothing(run, hub, client):
    client(None)
    assert [name for name, _ in preview(run, repo="me/demo").files] == LISTED
    assert hub.requests == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429, "headers": {"Retry-After": "0"}},
        {"status": 503},
        {"drop": True},
    ],
    ids=["429", "503", "broken"],
)
@pytest.mark.parametrize(
    "where", [("PUT", "/lfs/"), ("POST", "/commit/main")], ids=["lfs", "commit"]
)
def test_a_passing_fault_is_survived(run, hub, client, fault, where, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.fail(*where, times=1, **fault)
    assert push(run, repo="me/demo").changed
    assert sorted(hub.repos["me/demo"].files) == sorted([".gitattributes", *LISTED])
    assert len(hub.repos["me/demo"].commits) == 2


@pytest.mark.slow
def test_a_long_break_ends_in_words_and_a_repeat_goes_on(run, hub, client, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    said = []
    hub.fail("POST", "/commit/main", times=10**6, drop=True)
    with pytest.raises(UserError, match=r"the connection to the Hub broke.*push again"):
        push(run, said.append, repo="me/demo")
    assert len(said) == 2
    assert hub.repos["me/demo"].commits == ["initial commit"]
    sent = hub.seen("PUT", "/lfs/")
    hub.faults.clear()
    assert push(run, repo="me/demo").changed
    assert hub.seen("PUT", "/lfs/") == sent  # what is up already is not sent again


@pytest.mark.parametrize(
    ("token", "repo", "message"),
    [
        (None, "me/demo", "Nobody is logged in.*hf auth login"),
        ("hf_WrongWrongWrongWrongWrong", "me/demo", "does not know the token"),
        (READ, "me/demo", "can only read.*write access"),
        (FINE, "me/demo", "may not write to me/demo"),
        (WRITE, "other/demo", "other is neither you nor an organisation"),
    ],
)
def test_tokens_that_do_not_do(run, hub, client, token, repo, message):
    client(token)
    with pytest.raises(UserError, match=message) as caught:
        push(run, repo=repo)
    assert hub.repos == {}
    assert token is None or token not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_place_that_refuses(run, hub, client):
    hub.forbidden.add("me/demo")
    with pytest.raises(UserError, match="the token may not write there"):
        push(run, repo="me/demo")


def test_a_card_that_the_hub_refuses(run, hub, client):
    hub.fail("POST", "/api/validate-yaml", times=9, status=400)
    with pytest.raises(UserError, match="me/demo was not published"):
        push(run, repo="me/demo")
    assert hub.repos == {}


def test_a_fine_grained_token_writes_where_it_may(run, hub, client):
    client(FINE)
    assert push(run, repo="lab/demo").private


def test_who_is_logged_in(hub, client):
    found = logged_in()
    assert (found.name, found.organisations, found.source) == ("me", ("lab",), "from HF_TOKEN")
    assert found.permission() == "this token may write to me, lab"
    assert "only read" in account(whoami(READ), "").permission()
    assert WRITE not in repr(found)
    hub.fail("GET", "/whoami", times=9, status=500)
    with pytest.raises(UserError, match="The Hub did not answer: the Hub answered 500"):
        logged_in()


@pytest.mark.slow
def test_the_command(run, hub, command):
    dry = command("push", "demo-1", "--repo", "me/demo", "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "adapter_model.safetensors" in dry.stdout
    assert "library_name: peft" in dry.stdout
    assert "nothing was uploaded" in dry.stdout
    assert hub.repos == {}
    done = command("push", "demo-1", "--repo", "me/demo")
    assert done.returncode == 0, done.stderr
    assert f"{hub.url}/me/demo  (new, private)" in done.stdout
    assert "no new commit" in command("push", "demo-1", "--repo", "me/demo").stdout
    read_only = command("push", "demo-1", "--repo", "me/demo", token=READ)
    assert read_only.returncode == 1
    assert "can only read" in read_only.stderr
    assert "Traceback" not in read_only.stderr
    assert "me, from HF_TOKEN" in command("whoami").stdout


@pytest.mark.slow
def test_the_token_is_nowhere(run, hub, command, tmp_path):
    """In no output, not even with --debug, and in no file that anything wrote."""
    outputs = [
        command(*flags, "push", "demo-1", "--repo", "me/demo", *dry, token=token)
        for flags in ((), ("--debug",))
        for dry in ((), ("--dry-run",))
        for token in (WRITE, READ)
    ]
    assert any(output.returncode == 0 for output in outputs)
    secrets = [token.encode() for token in (WRITE, READ)]
    for output in outputs:
        assert not any(s in (output.stdout + output.stderr).encode() for s in secrets)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 10
    for path in written:
        assert not any(s in path.read_bytes() for s in secrets), path
    for repo in hub.repos.values():
        assert not any(s in content for s in secrets for content in repo.files.values())
