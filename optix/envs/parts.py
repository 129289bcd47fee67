"""Observations of several parts as one vector, and back.

Dictionaries and tuples of gymnax and Gymnasium, within each other too, become one vector
as `gymnasium.spaces.flatten` makes it: parts in the order of the space, which Gymnasium
sorts by name where it is given a plain dictionary; an array with its last axis varying
fastest; a number of `Discrete` one-hot, and so each entry of a `MultiDiscrete`.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optix import checks
from optix.envs.kinds import count, first_of, holds, is_a, sizes_of
from optix.types import PyTree


def has_parts(space: Any) -> bool:
    """Return whether observations of a space are something else than one array."""
    return is_a(space, "Dict") or is_a(space, "Tuple")


class Parts:
    """Between the observations of a space and vectors of them.

    size: of the vector.
    dtype: uint8 where all parts are boxes of that type, else float32.
    """

    def __init__(self, name: str, space: Any):
        """Take a space; `name` is of the environment, for messages.

        Raises:
          ValueError: a part that is no array of numbers.
        """
        self._name, self._space = name, space
        leaves = list(_leaves(name, "", space))
        self.size = sum(size for _, _, size in leaves)
        if not self.size:
            raise checks.OptionError(
                f"observations of {name} must have at least one entry, got {space}"
            )
        small = all(
            is_a(leaf, "Box") and leaf.dtype == np.uint8 for _, leaf, _ in leaves
        )
        self.dtype = np.dtype(np.uint8 if small else np.float32)

    def join(self, observation: PyTree) -> Any:
        """Return observations [...] of the space as vectors [..., size].

        They are of NumPy where all parts are, else of JAX.

        Raises:
          ValueError: a part is missing or has another shape.
        """
        rows = self._rows("", self._space, observation)
        on_device = any(isinstance(row, jax.Array) for row in rows)
        xp: Any = jnp if on_device else np
        return xp.concatenate([xp.asarray(row, self.dtype) for row in rows], -1)

    def split(self, vector: Any) -> PyTree:
        """Return the parts of vectors [..., size], as the space has them.

        A network of one's own begins with it: `parts = env.parts.split(obs)`. They are
        in the type of the vector; what is one-hot stays so, [..., n].
        """
        start = 0

        def taken(space: Any) -> PyTree:
            nonlocal start
            if is_a(space, "Dict"):
                return {key: taken(inner) for key, inner in space.spaces.items()}
            if is_a(space, "Tuple"):
                return tuple(taken(inner) for inner in space.spaces)
            shape = _shape(self._name, "", space)
            size = math.prod(shape)
            part = vector[..., start : start + size]
            start += size
            return part.reshape(*vector.shape[:-1], *shape)

        return taken(self._space)

    def _rows(self, where: str, space: Any, value: Any) -> list[Any]:
        """Return the part `where` as rows [..., size of each leaf]."""
        inner = _inner(space)
        if inner is None:
            return [self._row(where, space, value)]
        rows = []
        for key, part in inner:
            here = f"{where}[{key!r}]"
            try:
                # a record of JAX's has fields where its space has names
                named = isinstance(key, str) and not isinstance(value, Mapping)
                found = getattr(value, key) if named else value[key]
            except (AttributeError, KeyError, IndexError, TypeError) as error:
                raise checks.OptionError(
                    f"the observation of {self._name} must have the part {here} of its "
                    f"space, got {_forms(value)}; mend the environment or its wrapper"
                ) from error
            rows += self._rows(here, part, found)
        return rows

    def _row(self, where: str, space: Any, value: Any) -> Any:
        value = value if isinstance(value, jax.Array) else np.asarray(value)
        rank = len(space.shape)
        lead = value.shape[: value.ndim - rank]
        if value.shape[len(lead) :] != tuple(space.shape):
            raise checks.OptionError(
                f"the part {where} of the observation of {self._name} must be of {space}, "
                f"got the shape {value.shape}; mend the environment or its wrapper"
            )
        kept = is_a(space, "Box") and self.dtype != np.uint8
        if isinstance(value, np.ndarray) and not kept and not holds(space, value):
            raise checks.OptionError(
                f"the part {where} of the observation of {self._name} must be of {space}, "
                f"got {value!r}; mend the environment or its wrapper"
            )
        if is_a(space, "Discrete"):
            return _one_hot(value - first_of(space), int(space.n))
        if is_a(space, "MultiDiscrete"):
            flat = (value - space.start).reshape(*lead, -1)
            sizes = sizes_of(where, space)
            hot = [_one_hot(flat[..., i], size) for i, size in enumerate(sizes)]
            xp: Any = jnp if isinstance(value, jax.Array) else np
            return xp.concatenate(hot, -1)
        return value.reshape(*lead, -1) if value.size else value.reshape(*lead, 0)


def _inner(space: Any) -> list[tuple[Any, Any]] | None:
    """Return what a space holds by name or number, None of one that is an array."""
    if is_a(space, "Dict"):
        return list(space.spaces.items())
    if is_a(space, "Tuple"):
        return list(enumerate(space.spaces))
    return None


def _leaves(name: str, where: str, space: Any) -> Iterator[tuple[str, Any, int]]:
    """Yield (where, space, size) of each part that is an array."""
    inner = _inner(space)
    if inner is None:
        yield where, space, math.prod(_shape(name, where, space))
    for key, part in inner or ():
        yield from _leaves(name, f"{where}[{key!r}]", part)


def _shape(name: str, where: str, space: Any) -> tuple[int, ...]:
    """Return the shape of a part as `split` gives it."""
    what = f"the part {where} of observations of {name}"
    if is_a(space, "Discrete"):
        return (count(what, space),)
    if is_a(space, "MultiDiscrete"):
        return (sum(sizes_of(what, space)),)
    if is_a(space, "Box") or is_a(space, "MultiBinary"):
        return tuple(int(size) for size in space.shape)
    raise checks.OptionError(
        f"{what} must be a Box, Discrete, MultiDiscrete or MultiBinary, or a Dict or "
        f"Tuple of these, got {space}; leave it out with a wrapper"
    )


def _one_hot(value: Any, size: int) -> Any:
    if isinstance(value, jax.Array):
        return jax.nn.one_hot(value, size, dtype=jnp.float32)
    return (value[..., None] == np.arange(size)).astype(np.float32)


def _forms(value: Any) -> Any:
    return jax.tree.map(lambda x: f"{np.shape(x)}", value)
