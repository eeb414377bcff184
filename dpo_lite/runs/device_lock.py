"""One at a time on the device: whoever loads a model for long holds the lock, others wait in line.

The lock is a file lock, so the system gives it back when its holder ends, however it ends. Each
waiter leaves a ticket, a small file named by the time of asking; the oldest ticket whose process
lives goes next. Everybody can read who holds and who waits, so a holder that is idle (the page's
worker with a loaded model) can see that it is wanted.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dpo_lite.errors import UserError
from dpo_lite.files import cache_faults_told, cache_folder, write_json
from dpo_lite.runs.system import is_alive, process_started

POLL_SECONDS = 0.2
SHOWN = 3  # names of those who wait

# The lock of each folder that this process holds; it counts how often it was entered.
_held: dict[Path, FileLock] = {}
_held_guard = threading.Lock()


def lock_folder(device: str | None = None) -> Path:
    """Where the lock of a device lies, by its name in CUDA_VISIBLE_DEVICES; without one that of
    this process's, which is the GPU that CUDA would take first."""
    if device is None:
        device = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    device = device.strip() or "none"
    safe = "".join(c if c.isalnum() or c in "-." else "_" for c in device)
    return cache_folder() / f"device-{safe}"


@contextlib.contextmanager
def device_locks(devices: Iterable[str], owner: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold several devices; always in the same order, so that no two wait for each other."""
    with contextlib.ExitStack() as held:
        for device in sorted(set(devices)):
            held.enter_context(device_lock(owner, say=say, device=device))
        yield


@contextlib.contextmanager
def device_lock(
    owner: str,
    wait: bool = True,
    say: Callable[[str], None] = lambda text: None,
    device: str | None = None,
) -> Iterator[None]:
    """Hold the device. ``owner`` is what others read, such as ``run quickstart-1``.

    While others hold it, ``say`` is told who, whenever that changes; without ``wait`` a UserError
    is raised instead. A process that holds the lock already passes at once. ``device`` as in
    ``lock_folder``.
    """
    folder = lock_folder(device)
    if not _enter_again(folder):
        _acquire(folder, owner, wait, say)
    try:
        yield
    finally:
        _leave(folder)


def holder(folder: Path | None = None) -> str | None:
    """Who holds the device, or the one whose lock lies in ``folder``; None where nobody does."""
    facts = _read((folder or lock_folder()) / "holder.json")
    return facts["owner"] if facts and _lives(facts) else None


def waiters() -> list[str]:
    """Who waits for the device, the next one first."""
    return [facts["owner"] for _, facts in _line(lock_folder())]


def _enter_again(folder: Path) -> bool:
    """Pass where this process holds the lock already."""
    with _held_guard:
        if folder not in _held:
            return False
        _held[folder].acquire()
        return True


def _leave(folder: Path) -> None:
    """The last of this process to leave gives the lock back."""
    with _held_guard:
        lock = _held[folder]
        if lock.lock_counter == 1:
            del _held[folder]
            (folder / "holder.json").unlink(missing_ok=True)
        lock.release()


def _acquire(folder: Path, owner: str, wait: bool, say: Callable[[str], None]) -> None:
    with cache_faults_told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        ticket = _take_ticket(folder, owner)
    # Without the soft fallback, whose file would outlive a killed holder.
    lock = FileLock(folder / "lock", blocking=False, thread_local=False, fallback_to_soft=False)
    try:
        _wait_for_turn(folder, ticket, lock, wait, say)
        write_json(folder / "holder.json", _me(owner))
        with _held_guard:
            _held[folder] = lock
    except BaseException:
        lock.release()
        raise
    finally:
        ticket.unlink(missing_ok=True)


def _wait_for_turn(folder: Path, ticket: Path, lock: FileLock, wait: bool, say) -> None:
    last_text = None
    while True:
        before = [facts["owner"] for _, facts in _line(folder, ticket.name)]
        if not before and _try_lock(lock):
            return
        held_by = holder(folder)
        if not wait:
            user = held_by or next(iter(before), "another process")  # whose name is not known yet
            raise UserError(f"The device is in use by {user}; wait for its end or stop it.")
        text = f"waiting for the device: {held_by or 'another process'} has it"
        if before:
            text += f", {_names(before)} {'is' if len(before) == 1 else 'are'} next"
        if text != last_text and (held_by or before):
            say(text)
            last_text = text
        # Whoever is further back looks less often, for looking takes longer there.
        time.sleep(POLL_SECONDS * max(len(before), 1))


def _names(waiting: list[str]) -> str:
    rest = len(waiting) - SHOWN
    return ", ".join(waiting[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _take_ticket(folder: Path, owner: str) -> Path:
    """Tickets sort by the time of asking; the name appears with its content."""
    ticket = folder / f"ticket-{time.time_ns():020d}-{os.getpid()}-{threading.get_ident()}.json"
    write_json(ticket, _me(owner))
    return ticket


def _line(folder: Path, before: str = "u") -> list[tuple[Path, dict[str, Any]]]:
    """The tickets of living processes, oldest first; those of dead ones are removed.

    ``before``: only those that come before the ticket of that name; any comes before "u".
    """
    line = []
    for path in sorted(path for path in folder.glob("ticket-*.json") if path.name < before):
        facts = _read(path)
        if facts is None:
            continue
        if _lives(facts):
            line.append((path, facts))
        else:
            path.unlink(missing_ok=True)
    return line


def _me(owner: str) -> dict[str, Any]:
    pid = os.getpid()
    return {"owner": owner, "pid": pid, "pid_started": process_started(pid)}


def _lives(facts: dict[str, Any]) -> bool:
    return is_alive(facts["pid"], facts["pid_started"])


def _read(path: Path) -> dict[str, Any] | None:
    """What a holder or a waiter says of itself; None where it is gone, or says nothing of use."""
    try:
        facts = json.loads(path.read_bytes())
        sound = isinstance(facts["owner"], str) and isinstance(facts["pid"], int)
        return facts if sound and isinstance(facts["pid_started"], str | None) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _try_lock(lock: FileLock) -> bool:
    """Take the lock, if nobody else has it."""
    try:
        lock.acquire()
    except Timeout:
        return False
    except OSError as error:  # a network disk without locks, another user's folder
        raise UserError(
            f"{lock.lock_file} cannot be locked ({error.strerror}); set DPO_LITE_CACHE to a folder"
            " of your own on a local disk."
        ) from None
    return True
