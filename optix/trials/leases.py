"""Who plays a trial, and whether they live.

Each worker counts up in an attribute of the study. One whose count has not moved for
`PATIENCE` seconds of the observer's own clock is dead: no clocks are compared. On one
machine the process is looked at as well, so that a search that was killed goes on at once.
"""

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE, BEAT = 30.0, 5.0  # seconds
_ENDED = -1


class Lease:
    """What a worker holds while it lives, and its view of the others.

    As a context manager it counts up, in a thread of its own.

    Args:
        study: that the workers share.
        patience: seconds without a sign of life after which a worker is dead.
        clock: `() -> seconds`.
    """

    def __init__(
        self,
        study: Any,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ):
        """See the class."""
        self.name = f"{_machine()}/{os.getpid()}/{secrets.token_hex(4)}"
        self._study, self._patience, self._clock = study, patience, clock
        self._seen: dict[Any, tuple[Any, float]] = {}  # {owner: (count, when it moved)}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._count = 0

    def __enter__(self) -> "Lease":
        """Begin to count."""
        self._note(self._count)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """End: others may take over at once what was not finished."""
        self._over.set()
        self._thread.join()
        with contextlib.suppress(Exception):  # the storage may be what failed
            self._note(_ENDED)

    def dead(self, owner: str | None, what: Any = None) -> bool:
        """Return whether a worker is gone.

        Args:
            owner: its name; None for a trial that nobody has put a name to, `what`.
            what: the trial.
        """
        if owner == self.name:
            return False
        count = None
        if owner is not None:
            count = self._study.user_attrs.get(_key(owner))
            if count == _ENDED or not _lives_here(owner):
                return True
        now, who = self._clock(), owner or what
        before, moved = self._seen.get(who, (count, now))
        if before != count:
            moved = now
        self._seen[who] = count, moved
        return now - moved >= self._patience

    def _note(self, count: int) -> None:
        self._study.set_user_attr(_key(self.name), count)

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            self._count += 1
            with contextlib.suppress(Exception):  # the main thread will find out
                self._note(self._count)


def workers(study: Any) -> int:
    """Return how many workers there have been."""
    return sum(name.startswith("worker ") for name in study.user_attrs)


def _key(owner: str) -> str:
    return f"worker {owner}"


def _machine() -> str:
    """Return a name of where process numbers mean the same."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8])
        parts.append(os.readlink("/proc/self/ns/pid").strip("pid:[]"))
    return "-".join(parts)


def _lives_here(owner: str) -> bool:
    """Return False if a process of this machine is gone; of others nothing is known."""
    machine, process, _ = owner.rsplit("/", 2)
    if machine != _machine():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
