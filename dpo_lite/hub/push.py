"""Upload a staged adapter in one commit: private first, repeatable, and every fault in words."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dpo_lite.errors import UserError
from dpo_lite.hub.account import NEW_TOKEN, Account, who
from dpo_lite.hub.staging import TOKENIZER, Staged, stage
from dpo_lite.runs.folder import Run

# huggingface_hub repeats each request for about half a minute. After that the whole push is begun
# anew: what is up already is not sent again.
WAITS = (5.0, 30.0)
PASSING = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Published:
    """What went up and how the Hub now shows it."""

    staged: Staged
    url: str
    commit: str  # address of the commit
    private: bool  # read back from the Hub
    created: bool
    changed: bool  # False: everything was there already, and no commit was made


def preview(run: Run, **options) -> Staged:
    """What ``push`` would upload: files, sizes and the card. Needs no token and changes nothing."""
    with tempfile.TemporaryDirectory() as folder:
        return stage(run, Path(folder), **options)


def push(run: Run, say: Callable[[str], None] = lambda text: None, **options) -> Published:
    """Publish a run's adapter; ``options`` are those of ``stage``.

    Raises UserError in one sentence. Repeating it is safe: equal files make no new commit, and an
    upload that broke off goes on with the files that are missing.
    """
    with tempfile.TemporaryDirectory() as folder:
        staged = stage(run, Path(folder), **options)
        return upload(staged, Path(folder), f"Adapter of {_label(run, options)}", say)


def upload(
    staged: Staged, folder: Path, message: str, say: Callable[[str], None] = lambda text: None
) -> Published:
    """Send a staged folder, and try again where the connection or the Hub fails for a while."""
    from huggingface_hub.errors import HTTPError

    for wait in (*WAITS, None):
        try:
            return _upload_once(staged, folder, message)
        except (HTTPError, OSError, RuntimeError, ValueError) as error:
            fault, passing = explain(error, staged.repo)
            if wait is None or not passing:
                raise UserError(fault) from None
            say(f"{fault} Trying again in {wait:.0f} s.")
            time.sleep(wait)
    raise AssertionError("unreachable")


def _upload_once(staged: Staged, folder: Path, message: str) -> Published:
    from huggingface_hub import HfApi, ModelCard
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    if fault := who().fault(staged.repo):
        raise UserError(fault)
    ModelCard(staged.card).validate()  # the Hub's own check, before anything is made
    api = HfApi()
    created = not api.repo_exists(staged.repo)
    api.create_repo(staged.repo, private=staged.private, exist_ok=True)
    before = api.model_info(staged.repo).sha
    names = [name for name, _ in staged.files]
    commit = api.upload_folder(
        repo_id=staged.repo,
        folder_path=folder,
        allow_patterns=names,
        # A tokenizer of an earlier push would be loaded with this adapter.
        delete_patterns=[name for name in TOKENIZER if name not in names],
        commit_message=message,
    )
    after = api.model_info(staged.repo)
    return Published(
        staged,
        url=f"{api.endpoint}/{staged.repo}",
        commit=commit.commit_url,
        private=bool(after.private),
        created=created,
        changed=commit.oid != before,
    )


def logged_in() -> Account:
    """Who is logged in. Raises UserError where nobody is, or the Hub cannot say."""
    from huggingface_hub.errors import HTTPError

    try:
        return who()
    except (HTTPError, OSError) as error:
        raise UserError(explain(error)[0]) from None


def explain(error: BaseException, repo: str | None = None) -> tuple[str, bool]:
    """The sentence for a failed call, and whether trying again later may help."""
    from huggingface_hub.errors import HTTPError

    failed = f"{repo} was not published" if repo else "The Hub did not answer"
    # A file that failed in mid-upload is reported as a RuntimeError around the real reason.
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    response = getattr(error, "response", None)
    if response is not None:
        status = response.status_code
        reasons = {
            400: f"the Hub did not accept it ({_first_line(error)})",
            401: "the Hub does not know the token; run `hf auth login`, or set HF_TOKEN anew",
            403: f"the token may not write there; {NEW_TOKEN}",
            404: "the Hub finds no such place; check the name",
            409: "somebody else changed the repository at the same time; try again",
            413: "the Hub says that it is too large",
            429: "the Hub asks to wait, too many requests were made; try again in some minutes",
        }
        reason = reasons.get(status, f"the Hub answered {status}; try again later")
        return f"{failed}: {reason}.", status in PASSING
    if isinstance(error, HTTPError | ConnectionError | TimeoutError):
        return (
            f"{failed}: the connection to the Hub broke "
            f"({_first_line(error) or type(error).__name__}); push again, and it goes on with what "
            "is missing.",
            True,
        )
    return f"{failed}: {_first_line(error) or type(error).__name__}.", False


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else ""


def _label(run: Run, options: dict) -> str:
    checkpoint = options.get("checkpoint")
    return run.name if checkpoint is None else f"{run.name}, checkpoint {checkpoint}"
