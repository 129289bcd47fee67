"""Trials side by side in one compiled program: a free slot is filled without compiling.

On an accelerator the slots are mapped over all at once, on a CPU they go in turn, where a
slot that is free costs nothing.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from optix.run.programs import CAPACITY, own_errors, programs, vectorized, with_limits
from optix.types import Loop, LoopState, StepReport, StopReason


class Slots:
    """The runs of so many trials, each on so many keys; states are [slots * seeds, ...].

    Args:
        loop: that plays all of them.
        count: slots.
        seeds: runs of a trial.
        rounds: of a trial.
        vectorize: whether they run all at once; None does so except on a CPU.
    """

    def __init__(
        self, loop: Loop, count: int, seeds: int, rounds: int, vectorize: bool | None
    ):
        """See the class."""
        self.loop, self._count, self._seeds, self._rounds = loop, count, seeds, rounds
        self.vectorize = vectorized(loop, vectorize)
        self._programs = programs(loop, self.vectorize)
        donated = () if loop.learner.host is not None else 0
        self._put = jax.jit(_put, donate_argnums=donated)
        self._stop = jax.jit(_stop, donate_argnums=donated)
        self._take = jax.jit(
            lambda states, rows: jax.tree.map(lambda x: x[rows], states)
        )
        self._states: LoopState | None = None
        self._free = list(range(count))

    @property
    def free(self) -> int:
        """How many slots are free."""
        return len(self._free)

    def start(self, key: jax.Array, hyperparams: Mapping[str, float]) -> int:
        """Begin a trial in a free slot and return its number."""
        keys = jax.random.split(key, self._seeds)
        values = {
            name: jnp.full(self._seeds, value, jnp.float32)
            for name, value in hyperparams.items()
        }
        with own_errors(self.loop):
            fresh = self._programs.init(keys, values)
        fresh = with_limits(fresh, {"max_rounds": self._rounds})
        if self._states is None:
            self._states = _blank(fresh, self._count)
        slot = self._free[0]
        self._states = self._put(self._states, fresh, self._rows(slot))
        del self._free[0]
        return slot

    def advance(self, rounds: int) -> tuple[StepReport, np.ndarray]:
        """Play at most so many more rounds of every trial.

        Returns:
            Reports [slots, seeds, CAPACITY, ...] and how many of them mean anything,
            [slots, seeds].
        """
        assert self._states is not None
        left, reports, counts = rounds, [], []
        while left > 0:  # a dispatch keeps so many reports
            with own_errors(self.loop):
                self._states, *told = self._programs.advance(
                    self._states, np.int32(min(left, CAPACITY))
                )
                report, count = jax.device_get(told)
            if self.loop.learner.host is not None:
                self.loop.learner.host.keep(self._states)
            reports.append(report)
            counts.append(count)
            left -= CAPACITY
        return self._by_slot(reports, counts)

    def state(self, slot: int) -> LoopState:
        """Return the runs of a trial, [seeds, ...]."""
        assert self._states is not None
        return self._take(self._states, self._rows(slot))

    def finish(self, state: LoopState) -> LoopState:
        """Return the runs of a trial that is over, scored afresh."""
        with own_errors(self.loop):
            return jax.block_until_ready(self._programs.finish(state))

    def reasons(self, slot: int) -> list[StopReason]:
        """Return why each run of a trial has stopped, if it has."""
        assert self._states is not None
        reasons = np.asarray(self._states.stop_reason)[self._rows(slot)]
        return [StopReason(int(reason)) for reason in reasons]

    def release(self, slot: int) -> None:
        """Stop the runs of a slot, which is free from now on."""
        if self._states is not None:
            self._states = self._stop(self._states, self._rows(slot))
        self._free.append(slot)

    def forget(self) -> None:
        """Give the memory of all slots back; none may be taken."""
        self._states, self._free = None, list(range(self._count))

    def _rows(self, slot: int) -> np.ndarray:
        return np.arange(slot * self._seeds, (slot + 1) * self._seeds)

    def _by_slot(
        self, reports: Sequence[Any], counts: Sequence[np.ndarray]
    ) -> tuple[Any, np.ndarray]:
        """Return reports and counts by slot; only the rounds that were played."""
        shape = (self._count, self._seeds)

        def joined(*leaves):
            together = np.concatenate(leaves, axis=1)
            return together.reshape(shape + together.shape[1:])

        # rounds of a later dispatch follow full ones, or none is left of that run
        return jax.tree.map(joined, *reports), np.sum(counts, axis=0).reshape(shape)


def _put(states: LoopState, fresh: LoopState, rows: Any) -> LoopState:
    return jax.tree.map(lambda leaf, new: leaf.at[rows].set(new), states, fresh)


@functools.partial(jax.jit, static_argnums=1)
def _blank(fresh: LoopState, count: int) -> LoopState:
    """Return the states of slots that are all free, copies of a trial's."""
    stopped = _stop(fresh, jnp.arange(len(fresh.stop_reason)))
    return jax.tree.map(lambda x: jnp.concatenate([x] * count).copy(), stopped)


def _stop(states: LoopState, rows: Any) -> LoopState:
    """Return the states with some rows stopped, if they were not before."""
    reason = states.stop_reason
    stopped = jnp.where(
        reason[rows] == StopReason.RUNNING, StopReason.MAX_ROUNDS, reason[rows]
    )
    return states._replace(stop_reason=reason.at[rows].set(stopped))
