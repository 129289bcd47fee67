"""Where a study is kept: a journal in the folder, or what a URL names."""

import os
from pathlib import Path
from typing import Any

from optix import checks
from optix.trials.samplers import optuna

JOURNAL = "study.journal"
_ANSWERS_WITHIN = 10.0  # seconds


class SearchError(Exception):
    """A search can not go on; the message says why, and what to do."""


def storage_at(directory: Path | None, url: Any) -> Any:
    """Return a storage of Optuna's.

    Args:
        directory: of the search, for the journal; None keeps it in memory.
        url: None, a storage, or a URL: "redis://HOST", "grpc://HOST:PORT" for Optuna's
            proxy, or one of SQLAlchemy's such as "sqlite:///trials.db".

    Raises:
        OptionError: a URL of another kind.
        SearchError: it does not answer, or lacks a package.
    """
    storages = optuna().storages
    if isinstance(url, storages.BaseStorage):
        return url
    if url is None and directory is None:
        return storages.InMemoryStorage()
    if url is None:
        path = str(directory / JOURNAL)  # type: ignore
        _mend(path)
        return storages.JournalStorage(storages.journal.JournalFileBackend(path))
    if not isinstance(url, str) or "://" not in url:
        raise checks.OptionError(
            "storage must be a URL such as sqlite:///trials.db, redis://HOST or "
            f"grpc://HOST:PORT, or a storage of Optuna's, got {url!r}"
        )
    try:
        return _opened(url)
    except Exception as error:
        raise _silent(url, error) from error


def _opened(url: str) -> Any:
    storages = optuna().storages
    kind, _, rest = url.partition("://")
    if kind in ("redis", "rediss"):
        backend = storages.journal.JournalRedisBackend(url)
        return storages.JournalStorage(backend)
    if kind == "grpc":
        host, _, port = rest.rstrip("/").rpartition(":")
        if not host or not port.isdigit():
            raise ValueError("write grpc://HOST:PORT")
        proxy = storages.GrpcStorageProxy(host=host, port=int(port))
        proxy.wait_server_ready(timeout=_ANSWERS_WITHIN)
        return proxy
    return storages.RDBStorage(url)


def _silent(url: str, error: Exception) -> SearchError:
    why = str(error).strip().splitlines() or [type(error).__name__]
    return SearchError(
        f"the storage {url} does not answer ({why[0][:200]}); look whether it runs and "
        "whether its package is installed"
    )


def opened(make: Any, url: Any) -> Any:
    """Return what `make()` returns; a storage that fails there does not answer.

    Raises:
        SearchError: it does not.
    """
    try:
        return make()
    except (SearchError, checks.OptionError):
        raise
    except Exception as error:
        raise _silent(str(url or JOURNAL), error) from error


def _mend(path: str) -> None:
    """Cut a torn last line, left by a machine that went down, off a journal."""
    if not os.path.exists(path):
        return
    journal = optuna().storages.journal
    lock = journal.JournalFileSymlinkLock(path)
    lock.acquire()
    try:
        with open(path, "rb+") as file:
            content = file.read()
            if content and not content.endswith(b"\n"):
                file.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()
