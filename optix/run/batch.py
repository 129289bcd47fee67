"""The seeds of a vmapped run that still cost something, by halves.

A vmapped program takes as long for a seed that has stopped as for one that runs. So
between two dispatches, once at least half of a batch has stopped, the driver goes on with
a batch of half the size: the seeds that run, in their order, and stopped ones where the
half is not full. Each size is one more program to compile, at most log2(S) of them.

XLA may round a product otherwise in a batch of another size. So a smaller one is first
tried beside the larger one for a round, and taken if it gives the same bits.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from optix.types import LoopState, StopReason


class Batch(NamedTuple):
    """What is played of S seeds: all of them until some are dropped."""

    state: LoopState  # [B, ...] on the device
    seeds: np.ndarray  # [B] int places in the run, ascending
    kept: list[np.ndarray] | None = None  # leaves [S, ...] on the host; those of the B
    # seeds are out of date. None while all seeds are played

    @property
    def running(self) -> np.ndarray:
        """Which of the seeds go on, [B] bool."""
        return np.asarray(self.state.stop_reason) == StopReason.RUNNING

    def smaller(self) -> int:
        """Return the size that the running seeds need: B halved as often as they fit."""
        size, running = len(self.seeds), int(self.running.sum())
        while running and 2 * running <= size and size > 1:
            size = math.ceil(size / 2)
        return size

    def rounds_left(self) -> int:
        """Return how many rounds at most the budgets leave a running seed."""
        left = np.asarray(self.state.limits.max_rounds) - np.asarray(self.state.round)
        return int(left[self.running].max(initial=0))

    def cut(self, size: int) -> "Batch":
        """Return a batch of `size` with all running seeds; the others stay on the host."""
        leaves = _to_host(self.state)
        kept = self._merged(leaves)
        stopped_last = np.argsort(~self.running, kind="stable")
        rows = np.sort(stopped_last[:size])
        state = _like(self.state, [leaf[rows] for leaf in leaves])
        return Batch(state, self.seeds[rows], kept)

    def whole(self) -> LoopState:
        """Return the state of all S seeds in the order of the run, [S, ...]."""
        if self.kept is None:
            return self.state
        return jax.device_put(self.on_host(), may_alias=False)

    def on_host(self) -> LoopState:
        """Return the same for a checkpoint: NumPy arrays, PRNG keys excepted.

        The device need not have the memory for all seeds again.
        """
        if self.kept is None:
            return self.state
        return _like(self.state, self._merged(_to_host(self.state)), place=False)

    def _merged(self, leaves: list[np.ndarray]) -> list[np.ndarray]:
        """Return the leaves of all S seeds, with those of the batch put in."""
        if self.kept is None:
            return leaves
        merged = []
        for kept, leaf in zip(self.kept, leaves, strict=True):
            kept = kept.copy()
            kept[self.seeds] = leaf
            merged.append(kept)
        return merged


def alike(batch: Batch, small: Batch, advance: Callable) -> tuple[Batch, Batch, bool]:
    """Play a round in both batches and throw it away; `advance` donates its argument.

    Returns:
        Both batches as they were, and whether each seed of `small` had the same bits.
    """
    rows, ends, before = np.searchsorted(batch.seeds, small.seeds), [], []
    for part in (batch, small):
        leaves = _to_host(part.state)
        end = advance(part.state, np.int32(1))[0]
        ends.append(_to_host(end))
        before.append(part._replace(state=_like(end, leaves)))
    same = all(
        large[rows].tobytes() == little.tobytes()
        for large, little in zip(*ends, strict=True)
    )
    return *before, same


def _to_host(state: LoopState) -> list[np.ndarray]:
    """Return copies of all leaves, of PRNG keys their data."""
    return [
        np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        for leaf in jax.tree.leaves(state)
    ]


def _like(state: LoopState, leaves: list[np.ndarray], place: bool = True) -> LoopState:
    """Return such leaves as a state, on the device if asked for; keys are always there."""
    olds, tree = jax.tree.flatten(state)
    news: list[Any] = []
    for old, new in zip(olds, leaves, strict=True):
        if _is_key(old):
            new = jax.random.wrap_key_data(
                jax.device_put(new), impl=jax.random.key_impl(old)
            )
        # a copy: XLA could otherwise write into memory that NumPy owns
        news.append(jax.device_put(new, may_alias=False) if place else new)
    return tree.unflatten(news)


def _is_key(leaf: jax.Array) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
