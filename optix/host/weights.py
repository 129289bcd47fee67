"""Weights as plain arrays, {name: array}, of any framework, and where they are kept."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from optix import checks


def weights_file(path: Any, ending: str, *, written: bool = False) -> Path:
    """Return `path` with an ending, added if it lacks.

    Args:
      path: as a user gave it.
      ending: of such files, ".npz" say.
      written: whether it must be there.

    Raises:
      FileNotFoundError: it must, and is not; or the folder that it will be in is not.

    >>> weights_file("policy", ".npz").name, weights_file("policy.npz", ".npz").name
    ('policy.npz', 'policy.npz')
    """
    text = str(path)
    file = Path(text if text.endswith(ending) else text + ending)
    if written and not file.is_file():
        raise FileNotFoundError(f"there are no weights at {file}; save_weights first")
    if not file.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {file.parent}; make it first")
    return file


def check_shape(name: str, own: Any, given: Any) -> None:
    """Raise ValueError unless an array of a state is of the shape of one's own.

    Args:
      name: of both.
      own: what has a shape; None where there is no such array.
      given: likewise.
    """
    wanted = None if own is None else tuple(own.shape)
    found = None if given is None else tuple(np.shape(given))
    if found == wanted:
        return
    rule = "not be there" if wanted is None else f"be of the shape {list(wanted)}"
    got = "nothing" if found is None else f"the shape {list(found)}"
    raise checks.OptionError(
        f"{name} of the state must {rule}, got {got}; it is of another network or agent"
    )


def averaged(
    own: Mapping[str, Any], others: Sequence[Mapping[str, Any]], kept: tuple[str, ...]
) -> dict[str, Any]:
    """Return the mean of arrays by name; whole numbers are those of the first.

    Args:
      own: what stays where a name begins with one of `kept`.
      others: at least one.
      kept: beginnings of names.

    >>> averaged({}, [{"w": np.float32([1, 2])}, {"w": np.float32([3, 2])}], ())
    {'w': array([2., 2.], dtype=float32)}
    """
    mean = dict(own)
    for name, first in others[0].items():
        if name.startswith(kept):
            continue
        mean[name] = first
        if jnp.issubdtype(first.dtype, jnp.floating):
            rows = [np.asarray(other[name], np.float64) for other in others]
            mean[name] = np.asarray(np.mean(rows, 0), first.dtype)
    return mean
