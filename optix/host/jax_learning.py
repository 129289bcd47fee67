"""How an agent on the device learns from the windows that a pipeline hands over."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from optix import checks
from optix.host.jax_programs import Programs
from optix.host.jax_view import View
from optix.host.replay import Replay
from optix.host.window import EpisodeData
from optix.learners.memory import PRIORITY
from optix.types import Agent, Policy, Trajectory, Transition


class ReplayOptions(NamedTuple):
    """How an agent with a replay learns; as the keywords of `off_policy`.

    gradient_steps: updates each time; None makes as many as environment steps.
    """

    batch_size: int = 128
    capacity: int = 100_000
    learning_starts: int = 1_000
    n_step: int = 1
    prioritised: bool = False
    collect_steps: int = 1
    gradient_steps: int | None = None

    def updates(self, num_envs: int) -> int:
        """Return how many updates follow `collect_steps` of so many environments."""
        if self.gradient_steps is None:
            return self.collect_steps * num_envs
        return self.gradient_steps


class Outcome(NamedTuple):
    """What came of a window."""

    policy: Policy  # as before, where it was not finite
    numbers: dict[str, float]
    finite: bool


def replay_options(
    given: Mapping[str, Any],
) -> tuple[ReplayOptions, dict[str, float]]:
    """Return the checked options, and the floats that a tuner may change.

    Raises:
      ValueError: an unknown name, or a value out of its range.
    """
    prioritised = checks.boolean("prioritised", given.get("prioritised", False))
    floats = PRIORITY if prioritised else {}
    names = {*ReplayOptions._fields, *floats}
    checks.known_names("option of as_base_agent", given, names)
    options = ReplayOptions(**{k: v for k, v in given.items() if k not in floats})
    for name, value in options._asdict().items():
        if name != "prioritised" and (name, value) != ("gradient_steps", None):
            checks.positive_int(name, value)
    own = {k: v for k, v in given.items() if k in floats}
    return options, checks.floats("option of as_base_agent", own, floats)


def trajectory(
    window: EpisodeData, view: View, discounted_return: np.ndarray
) -> Trajectory:
    """Return a window [T, B] of raw observations, with the actions as the agent's own."""
    extras = {k: v for k, v in window.extras.items() if k not in ("began", "action")}
    action = window.extras.get("action")
    if action is None:
        lead = window.rewards.shape
        given = np.asarray(window.actions)
        rows = view.restore(given.reshape(-1, *given.shape[2:]))
        action = rows.reshape(*lead, *rows.shape[1:])
    whole = np.issubdtype(action.dtype, np.integer)
    columns: Any = (
        view.raw(window.observations),
        np.asarray(action, np.int32 if whole else np.float32),
        window.rewards,
        window.terminated,
        window.truncated,
        view.raw(window.next_observations),
    )
    returns = np.asarray(discounted_return, np.float32)
    return Trajectory(*columns, extras={**extras, "discounted_return": returns})


def learn_window(
    agent: Agent,
    programs: Programs,
    policy: Policy,
    window: Trajectory,
    hyperparams: Mapping[str, float],
    key: jax.Array,
) -> Outcome:
    """Learn from a window once, or from as much of it as minibatches divide."""
    steps = usable_steps(agent, *window.reward.shape)
    window = jax.tree.map(lambda x: x[:steps], window)
    learned = programs.learn(policy, window, hyperparams, key)
    finite = bool(learned.finite)
    numbers = {name: float(x) for name, x in learned.info.items()}
    return Outcome(learned.policy if finite else policy, numbers, finite)


def learn_replay(
    programs: Programs,
    policy: Policy,
    memory: Replay,
    updates: int,
    options: ReplayOptions,
    hyperparams: Mapping[str, float],
    exponent: float,
    rng: np.random.Generator,
    next_key: Callable[[], jax.Array],
) -> Outcome:
    """Make updates from what is drawn of a replay; `exponent` is of its weights."""
    new, rows = policy, []
    for _ in range(updates):
        drawn = memory.sample(
            rng,
            options.batch_size,
            discount=hyperparams["discount"],
            n_step=options.n_step,
            importance_exponent=exponent,
        )
        columns: Any = drawn[:5]
        items = Transition(*columns)
        learned = programs.update(new, items, drawn.weight, hyperparams, next_key())
        new = learned.policy
        rows.append((learned.finite, learned.info))
        if options.prioritised:
            error = np.asarray(learned.priority, np.float64)
            memory.prioritise(drawn.index, error ** hyperparams["priority_exponent"])
    finite = all(bool(one) for one, _ in rows)
    names = rows[0][1] if rows else {}
    numbers = {name: float(np.mean([row[name] for _, row in rows])) for name in names}
    # a window whose updates went astray changes nothing
    return Outcome(new if finite else policy, numbers, finite)


def usable_steps(agent: Agent, steps: int, num_envs: int) -> int:
    """Return how many of the steps [T, B] can be learned from: all, or a few less.

    Raises:
      ValueError: not even one.
    """
    for count in range(steps, 0, -1):
        try:
            agent.check_window(count, num_envs)
        except ValueError:
            continue
        return count
    agent.check_window(steps, num_envs)
    return steps
