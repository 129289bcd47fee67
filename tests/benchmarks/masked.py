"""Environments that need a memory, for the learning benchmark."""

from gymnax.environments import spaces
from gymnax.environments.classic_control.cartpole import CartPole


class MaskedCartPole(CartPole):
    """CartPole that shows positions only: velocities must be remembered from them."""

    def get_obs(self, state, params=None, key=None):
        return super().get_obs(state, params, key)[::2]

    def observation_space(self, params):
        whole = super().observation_space(params)
        return spaces.Box(whole.low[::2], whole.high[::2], (2,))
