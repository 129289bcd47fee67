"""Files that are there as a whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from optix.checks import OptionError


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a file to write, which takes the place of `path` once all of it is on the disk.

    If anything fails, what was there stays.

    Raises:
        OSError: it can not be written to.
        OptionError: a folder is in the way.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "note"
        >>> with replacing(path) as file:
        ...     _ = file.write(b"whole")
        >>> path.read_bytes()
        b'whole'
    """
    path = Path(path)
    unfinished = path.with_name(f"{path.name}.tmp")
    for place in (unfinished, path):
        if place.is_dir():
            raise OptionError(
                f"{place} must be a file to be written, it is a folder; move it away"
            )
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise


def folder_path(name: str, path: Any) -> Path:
    """Return the path of a folder, which need not be there.

    Raises:
      ValueError: `path`, which the user calls `name`, is no path.
    """
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise OptionError(f"{name} must be the path of a folder, got {path!r}")
    return Path(os.fsdecode(path))


def checked_path(path: str | os.PathLike, example: str) -> Path:
    """Return where a file can be written, before anything is computed for it.

    Args:
      path: of the file.
      example: of such a name, for messages.

    Raises:
      ValueError: no path, one in a folder that is not there, or the path of a folder.
    """
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise OptionError(f"path must name a file, like {example!r}, got {path!r}")
    where = Path(os.fsdecode(path))
    if where.is_dir():
        raise OptionError(f"path must name a file, got the folder {where}")
    if not where.parent.is_dir():
        raise OptionError(
            f"path must be in a folder that is there, got {where}; make {where.parent} "
            "first"
        )
    return where
