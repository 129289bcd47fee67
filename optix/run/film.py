"""Pictures as a file that plays, or as files of their own."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from optix.checks import OptionError
from optix.files import checked_path, replacing

SUFFIXES = (".gif", ".mp4", ".png", ".html")
_HUNDREDTHS = 100  # in which a GIF counts time


def checked_film(path: str | os.PathLike) -> Path:
    """Return where a film can be written, before anything is played for it.

    Raises:
        OptionError: no path, one in a folder that is not there, one whose suffix says
            nothing, or a film that needs a package.
    """
    where = checked_path(path, "episode.gif")
    if where.suffix.lower() not in SUFFIXES:
        raise OptionError(
            f"path must end in {', '.join(SUFFIXES)}, which says what is written, got "
            f"{os.fspath(path)!r}"
        )
    if where.suffix.lower() == ".mp4":
        _ffmpeg()
    return where


def write_film(path: Path, pictures: Iterable[np.ndarray], fps: int) -> None:
    """Write pictures [H, W, 3] uint8 of one size, in place of what was there.

    Args:
        path: .gif or .mp4; or .png, for files that are numbered: of "x.png"
            x-00000.png, x-00001.png and so on, in place of any that are there.
        pictures: at least one; they are asked for one by one.
        fps: pictures a second; a GIF has hundredths of a second between two of them.

    Raises:
        OptionError: it can not be written to.
    """
    kinds = {".gif": _write_gif, ".mp4": _write_mp4, ".png": _write_pngs}
    try:
        kinds[path.suffix.lower()](path, iter(pictures), fps)
    except OSError as error:
        raise OptionError(f"path can not be written to: {error}") from error


def _write_gif(path: Path, pictures: Iterator[np.ndarray], fps: int) -> None:
    from PIL import Image

    frames = (Image.fromarray(picture) for picture in pictures)
    first = next(frames)
    duration = max(1, round(_HUNDREDTHS / fps)) * (1000 // _HUNDREDTHS)
    with replacing(path) as file:
        first.save(
            file,
            format="GIF",
            save_all=True,
            append_images=frames,
            duration=duration,
            loop=0,
        )


def _write_mp4(path: Path, pictures: Iterator[np.ndarray], fps: int) -> None:
    first = _even(next(pictures))
    height, width = first.shape[:2]
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.mp4"
        writer = _ffmpeg().write_frames(
            str(film), (width, height), fps=fps, macro_block_size=1
        )
        writer.send(None)
        writer.send(np.ascontiguousarray(first))
        for picture in pictures:
            writer.send(np.ascontiguousarray(_even(picture)))
        writer.close()
        with film.open("rb") as made, replacing(path) as file:
            shutil.copyfileobj(made, file)


def _even(picture: np.ndarray) -> np.ndarray:
    """Return a picture of even sides, as the usual encoding wants them."""
    height, width = picture.shape[:2]
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _ffmpeg() -> Any:
    try:
        import imageio_ffmpeg  # type: ignore
    except ImportError as error:
        raise OptionError(
            "an MP4 needs the package imageio-ffmpeg; pip install "
            "'tensor-optix-jax[play]', or write a .gif"
        ) from error
    return imageio_ffmpeg


def _write_pngs(path: Path, pictures: Iterator[np.ndarray], fps: int) -> None:
    del fps
    from PIL import Image

    count = 0
    for picture in pictures:
        with replacing(numbered(path, count)) as file:
            Image.fromarray(picture).save(file, format="PNG")
        count += 1
    older = re.compile(rf"{re.escape(path.stem)}-(\d{{5,}}){re.escape(path.suffix)}")
    for other in path.parent.iterdir():
        found = older.fullmatch(other.name)
        if found and int(found[1]) >= count:
            with suppress(OSError):
                other.unlink()


def numbered(path: Path, number: int) -> Path:
    """Return the path of one of several pictures.

    >>> numbered(Path("a/x.png"), 7).as_posix()
    'a/x-00007.png'
    """
    return path.with_name(f"{path.stem}-{number:05d}{path.suffix}")
