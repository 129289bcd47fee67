"""What a host learner does on the host: the callbacks of its pure functions."""

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np

from optix import checks
from optix.host.agent import HyperparamSet, Pipeline
from optix.host.memories import name_of
from optix.host.slots import HostStore
from optix.host.told import not_finite, note_returns, numbers_of, row_of
from optix.host.window import EpisodeData
from optix.types import Masked


def settings(initial: HyperparamSet, tunable: Sequence[str]) -> Callable:
    """Return `(values [N]) -> HyperparamSet`."""

    def settings(values):
        given = dict(zip(tunable, np.asarray(values).tolist(), strict=True))
        return HyperparamSet({**initial.params, **given})

    return settings


def beginner(store: HostStore, resets: bool) -> Callable:
    """Return the callback that gives a run first weights and a replay of its own."""

    def first(seeds):
        word, seed = np.asarray(seeds).tolist()
        slot = 0
        if resets:
            store.hold(0)  # an agent may keep what it came with
            store.release()
            store.agent.reset(seed)
            slot = store.new_slot()
        return np.int32(slot), store.memories.new_run(word)

    return first


def trainer(
    store: HostStore,
    pipeline: Pipeline,
    settings: Callable,
    names: tuple[str, ...],
    fresh: bool,
) -> Callable:
    """Return the callback of a window."""
    warned: list[str] = []  # one warning is enough
    agent, streams = store.agent, store.streams

    def collect(number, seed):
        seat, begins = streams.take(number)
        agent.carry = seat.carry
        try:
            data = pipeline.collect(agent, seat.envs, seed if begins else None)
            checks.record("the window", data, EpisodeData, "collect must return one")
        except BaseException:
            streams.drop(seat)
            raise
        seat.carry, agent.carry = agent.carry, None
        return seat, data

    def learn(data):
        """Return the numbers, and what is wrong with them in words."""
        store.release()
        numbers = numbers_of(agent.learn(data))
        failed = [f"{k} = {v}" for k, v in numbers.items() if not math.isfinite(v)]
        return numbers, f"learn returned {', '.join(failed)}" if failed else None

    def train(slot, number, run, values, seeds, active):
        slot, number, run = int(slot), int(number), name_of(run)
        if not active:
            nothing = np.zeros(len(names), np.float32)
            zero = np.int32(0)
            return np.int32(slot), np.int32(number), zero, np.True_, np.True_, nothing
        env_seed, agent_seed = np.asarray(seeds).tolist()
        store.hold(slot)
        agent.set_hyperparams(settings(values))
        agent.seed(agent_seed)
        store.memories.hand(run)
        seat, data = collect(number, env_seed)
        store.masked = isinstance(data.observations, Masked)
        latest = note_returns(seat, data)
        numbers, wrong = {}, not_finite(data)
        data_finite = wrong is None
        # of an environment that gives such data no episode is worth going on with
        goes_on = data_finite and not fresh
        number = streams.leave(seat) if goes_on else streams.rest(seat)
        if data_finite:
            numbers, wrong = learn(data)
            store.memories.take_back(run)
        if wrong is not None and not warned:
            warned.append(wrong)
            source = getattr(pipeline, "name", type(pipeline).__name__)
            warnings.warn(
                f"{source}: {wrong}; the policy stays as it was", stacklevel=2
            )
        return (
            np.int32(slot if wrong else store.new_slot()),
            np.int32(number),
            np.int32(data.length),
            np.bool_(data_finite),
            np.bool_(wrong is None),
            row_of(data, latest, numbers, names),
        )

    return train


def player(
    store: HostStore, judge: Pipeline, settings: Callable, episodes: int
) -> Callable:
    """Return the callback of an evaluation."""

    def play(slot, values, seeds):
        slot, seeds = int(slot), np.asarray(seeds).tolist()
        asked = seeds, np.asarray(values).tolist()
        # a stopped seed asks for the same score in every round of the others
        if store.scores.get(slot, (None,))[0] != asked:
            env_seed, agent_seed = seeds
            store.hold(slot)
            store.agent.set_hyperparams(settings(values))
            store.agent.seed(agent_seed)
            score = float(judge.evaluate(store.agent, env_seed, episodes))
            store.scores[slot] = asked, score
        return np.float32(store.scores[slot][1])

    return play
