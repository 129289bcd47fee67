"""What a host agent hands over, as bytes for a checkpoint: arrays, or a folder of files.

Both are zip archives, the same for the same content, and nothing in them is executed.
"""

import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import numpy as np

from optix import checks


def checked_arrays(what: str, arrays: object) -> dict[str, np.ndarray]:
    """Return {name: array} as it came; raise for what no checkpoint can be made of."""
    if not isinstance(arrays, Mapping) or not all(isinstance(n, str) for n in arrays):
        raise checks.OptionError(
            f"{what} must return {{name: array}}, got {type(arrays).__name__}"
        )
    checked = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in checked.items():
        if array.dtype.hasobject:
            raise checks.OptionError(
                f"{what} must return arrays of numbers, got {arrays[name]!r} for "
                f"{name!r}; take it apart into arrays"
            )
    return checked


def bytes_of_arrays(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return arrays as an archive of .npy files."""
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        for name, array in checked_arrays("state", arrays).items():
            with files.open(zipfile.ZipInfo(name), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    return archive.getvalue()


def arrays_of(archive: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of `bytes_of_arrays`."""
    arrays = {}
    with zipfile.ZipFile(BytesIO(archive)) as files:
        for name in files.namelist():
            with files.open(name) as file:
                arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
    return arrays


def bytes_of_folder(folder: Path) -> bytes:
    """Return all files of a folder."""
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as files:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                name = file.relative_to(folder).as_posix()
                files.writestr(zipfile.ZipInfo(name), file.read_bytes())
    return archive.getvalue()


def unpack_folder(archive: bytes, folder: Path) -> None:
    """Write the files of `bytes_of_folder` into a folder."""
    with zipfile.ZipFile(BytesIO(archive)) as files:
        files.extractall(folder)
