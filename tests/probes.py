"""Environments so small that the true value and the best action are known.

They speak gymnax's protocol without gymnax's base class, as a user's own would. Each
isolates one thing that an agent can get wrong, in the order of the failures: the value
of a constant, of an observation, of a later reward, the action, and the time limit.
"""

from typing import NamedTuple

import gymnasium.spaces
import jax
import jax.numpy as jnp
from gymnax.environments import spaces


class Params(NamedTuple):
    """Parameters of a probe; the length is of an episode that is cut, not ended."""

    max_steps_in_episode: int = 5
    reward: float = 1.0  # what a good step earns


class State(NamedTuple):
    """State of a probe."""

    obs: jax.Array  # [1] float32
    time: int = 0


class Probe:
    """An episode of one step in which nothing can be done, rewarded by 1.

    Value 1.
    """

    num_steps = 1  # after which the episode terminates; None never does
    default_params = Params()

    def observation_space(self, params):
        del params
        return spaces.Box(-1.0, 1.0, (1,))

    def action_space(self, params):
        del params
        return spaces.Discrete(2)

    def first_obs(self, key):
        del key
        return jnp.zeros(1)

    def next_obs(self, state):
        return state.obs

    def reward(self, state, action, params):
        del state, action
        return params.reward

    def reset_env(self, key, params):
        del params
        state = State(self.first_obs(key))
        return state.obs, state

    def step_env(self, key, state, action, params):
        del key
        reward = self.reward(state, action, params)
        state = State(self.next_obs(state), state.time + 1)
        terminated = False if self.num_steps is None else state.time >= self.num_steps
        return state.obs, state, reward, terminated, {}

    def is_truncated(self, state, params):
        return state.time >= params.max_steps_in_episode


class RewardIsObservation(Probe):
    """One step, rewarded by its observation of -1 or 1: that is its value."""

    def first_obs(self, key):
        return jax.random.rademacher(key, (1,), jnp.float32)

    def reward(self, state, action, params):
        del action
        return params.reward * state.obs[0]


class TwoSteps(Probe):
    """Observation 0 earns nothing, 1 after it earns 1.

    Values discount and 1.
    """

    num_steps = 2

    def next_obs(self, state):
        return state.obs + 1

    def reward(self, state, action, params):
        del action
        return params.reward * state.obs[0]


class ActionIsSign(RewardIsObservation):
    """One step: action 1 at observation 1 and 0 at -1 earn 1, the others -1."""

    def reward(self, state, action, params):
        right = (action == 1) == (state.obs[0] > 0)
        return jnp.where(right, params.reward, -params.reward)


class ActionIsTarget(RewardIsObservation):
    """One step with an action in [-2, 6], best at 4 for observation 1 and 0 for -1.

    In the units of an agent, [-1, 1], that is 0.5 and -0.5; the reward is minus the
    squared distance in the same units.
    """

    def action_space(self, params):
        del params
        return spaces.Box(-2.0, 6.0, (1,))

    def reward(self, state, action, params):
        distance = (action[0] - (2.0 + 2.0 * state.obs[0])) / 4.0
        return -params.reward * distance**2


class Endless(Probe):
    """Observation 0 earns 10, then 1 earns 1 for ever, cut off by the time limit.

    Values 10 + discount / (1 - discount) and 1 / (1 - discount). Who takes the cut for
    an end finds less, who bootstraps from the fresh episode's observation finds more.
    """

    num_steps = None

    def next_obs(self, state):
        return jnp.ones_like(state.obs)

    def reward(self, state, action, params):
        del action
        return jnp.where(state.obs[0] == 0, 10.0, params.reward)


class Recall(Probe):
    """Four steps: -1 or 1 is shown at the first only, and the last asks for it.

    At the last step action 1 after 1 and action 0 after -1 earn 1, the others -1; all
    other steps show 0 and earn nothing. Who remembers finds 1, who does not 0.
    """

    num_steps = 4

    def observation_space(self, params):
        del params
        return spaces.Box(-1.0, 1.0, (2,))

    def reset_env(self, key, params):
        del params
        shown = jax.random.rademacher(key, (), jnp.float32)
        state = State(jnp.array([shown, 0.0]))
        return self.visible(state), state

    def visible(self, state):
        shown = jnp.where(state.time == 0, state.obs[0], 0.0)
        return jnp.stack([shown, jnp.float32(state.time == self.num_steps - 1)])

    def step_env(self, key, state, action, params):
        del key
        right = (action == 1) == (state.obs[0] > 0)
        asked = state.time == self.num_steps - 1
        reward = jnp.where(right, params.reward, -params.reward) * asked
        state = State(state.obs, state.time + 1)
        return self.visible(state), state, reward, state.time >= self.num_steps, {}


class MaskState(NamedTuple):
    """State of `Masks`."""

    mask: jax.Array  # [4] bool
    time: jax.Array  # [] int32


class Masks:
    """Four steps of four actions, of which a mask that no observation shows allows some.

    An allowed action earns its number, a forbidden one costs 100 and ends the episode.
    The last action is allowed in one state of four, each other in every second, and the
    first where no other is: who takes the best that is allowed finds in every step the
    `BEST` mean of what is highest.
    """

    BEST = 3 / 4 + 3 / 4 * (2 / 2 + 1 / 4)
    default_params = Params(max_steps_in_episode=4)

    def action_mask(self, state, params):
        del params
        return state.mask

    def observation_space(self, params):
        del params
        return spaces.Box(-1.0, 1.0, (1,))

    def action_space(self, params):
        del params
        return spaces.Discrete(4)

    def drawn(self, key):
        mask = jax.random.uniform(key, (4,)) < jnp.array([0.0, 0.5, 0.5, 0.25])
        return mask.at[0].set(~mask.any())

    def reset_env(self, key, params):
        del params
        return jnp.zeros(1), MaskState(self.drawn(key), jnp.int32(0))

    def step_env(self, key, state, action, params):
        allowed = state.mask[action]
        reward = jnp.where(allowed, params.reward * action, -100.0)
        state = MaskState(self.drawn(key), state.time + 1)
        return jnp.zeros(1), state, reward, ~allowed, {}

    def is_truncated(self, state, params):
        return state.time >= params.max_steps_in_episode


class Dials(RewardIsObservation):
    """One step of four choices at once, of 3, 2, 4 and 2, each numbered from 1.

    `RIGHT` are the right ones at observation -1 and at 1; each earns a quarter.
    """

    RIGHT = jnp.array([[[3, 1], [4, 2]], [[1, 2], [2, 2]]])

    def action_space(self, params):
        del params
        return gymnasium.spaces.MultiDiscrete([[3, 2], [4, 2]], start=[[1, 1], [1, 1]])

    def reward(self, state, action, params):
        right = self.RIGHT[jnp.int32(state.obs[0] > 0)]
        return params.reward * (action == right).mean()


class MaskedDials(Masks):
    """`Masks` with two choices at once, of 3 and 2, each under masks of its own.

    An action earns the sum of its numbers. Each number but 0 is allowed in every second
    state, and 0 where no other is.
    """

    BEST = (2 / 2 + 1 / 4) + 1 / 2

    def action_space(self, params):
        del params
        return gymnasium.spaces.MultiDiscrete([3, 2])

    def drawn(self, key):
        free = jax.random.uniform(key, (5,)) < jnp.array([0.0, 0.5, 0.5, 0.0, 0.5])
        return free.at[0].set(~free[:3].any()).at[3].set(~free[3:].any())

    def step_env(self, key, state, action, params):
        allowed = state.mask[action + jnp.array([0, 3])].all()
        reward = jnp.where(allowed, params.reward * action.sum(), -100.0)
        state = MaskState(self.drawn(key), state.time + 1)
        return jnp.zeros(1), state, reward, ~allowed, {}


class Bits(NamedTuple):
    """State of `FlipBits`."""

    bits: jax.Array  # [n] float32, 0 or 1
    goal: jax.Array  # [n] float32
    time: jax.Array  # [] int32


class FlipBits:
    """Each action flips one of n bits; only the bits of the goal earn 1 and end it.

    An observation is the bits and then the goal. Who draws actions by chance finds a
    goal of 8 bits in 3 episodes of 100 (https://arxiv.org/abs/1707.01495).
    """

    def __init__(self, n=8):
        self.n = n
        self.default_params = Params(max_steps_in_episode=n)

    def achieved(self, obs):
        return obs[: self.n]

    def substitute(self, obs, goal):
        return obs.at[self.n :].set(goal)

    def reward(self, reached, goal):
        success = jnp.all(reached == goal)
        return 1.0 * success, success

    def observation_space(self, params):
        del params
        return spaces.Box(0.0, 1.0, (2 * self.n,))

    def action_space(self, params):
        del params
        return spaces.Discrete(self.n)

    def reset_env(self, key, params):
        del params
        drawn = jax.random.bernoulli(key, 0.5, (2, self.n)).astype(jnp.float32)
        return drawn.ravel(), Bits(*drawn, jnp.int32(0))

    def step_env(self, key, state, action, params):
        del key, params
        bits = state.bits.at[action].set(1 - state.bits[action])
        reward, success = self.reward(bits, state.goal)
        state = Bits(bits, state.goal, state.time + 1)
        return jnp.concatenate([bits, state.goal]), state, reward, success, {}

    def is_truncated(self, state, params):
        return state.time >= params.max_steps_in_episode
