"""MinAtar whose images are vectors, for networks without a convolution."""

import math

from gymnax.environments import spaces
from gymnax.environments.minatar.breakout import MinBreakout


class FlatBreakout(MinBreakout):
    """Breakout that shows its image as a vector."""

    def get_obs(self, state, params=None, key=None):
        return super().get_obs(state, params, key).reshape(-1)

    def observation_space(self, params):
        return spaces.Box(0, 1, (math.prod(super().observation_space(params).shape),))
