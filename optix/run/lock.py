"""The lock of a folder, which the system gives back however the process ends."""

import contextlib
import functools
import os
from pathlib import Path

try:
    import fcntl
except ImportError:  # as on Windows; there optix trains, but keeps no folder
    fcntl = None

from optix.run.description import RunFolderError

_held: set[int] = set()  # descriptors of locks of this process


def take(path: Path, folder: Path) -> int:
    """Return a descriptor that holds the lock at `path`, for `release`.

    Raises:
        RunFolderError: another process holds it, or this system has no such locks.
        OSError: there can be no file of that name.
    """
    if fcntl is None:
        raise RunFolderError(
            f"{folder} can not be locked on this system, which has no fcntl (such as "
            "Windows); run optix on Linux or macOS, or train without a directory"
        )
    _close_in_children()
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.read(lock, 32).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise RunFolderError(
            f"{folder} is in use by another run (process {owner}); wait for its "
            "end or choose another folder"
        ) from None
    with contextlib.suppress(OSError):  # only the message of others needs the number
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
    _held.add(lock)
    return lock


def release(lock: int) -> None:
    """Give a lock back."""
    _held.discard(lock)
    os.close(lock)


@functools.cache
def _close_in_children() -> None:
    """Keep a forked child, such as an environment's worker, from holding the locks."""

    def close() -> None:
        for descriptor in _held:
            os.close(descriptor)
        _held.clear()

    os.register_at_fork(after_in_child=close)
