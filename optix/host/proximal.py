"""What PPO agents of every framework do besides going down a loss.

Rewards are scaled with those of this window in the scale, advantages are generalised, and
an episode cut by its time limit is bootstrapped from the observation at which it was cut.
"""

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from optix import checks
from optix.agents.ppo import HYPERPARAMS
from optix.host.advantages import ReturnScale, advantages, following_values
from optix.host.network_agent import Floats, NetworkAgent
from optix.host.normalizers import RewardNormalizer
from optix.host.window import EpisodeData

INFO = ("policy_loss", "value_loss", "entropy", "kl", "clip_fraction", "grad_norm")


class WindowLearner(NetworkAgent):
    """An agent that learns from each window once, as PPO does.

    An adapter's agents derive from this and from its own; they call `with_limit` before
    their own parts are made, and `with_rewards` after.
    """

    FLOATS: Floats = HYPERPARAMS
    SIZES = {"num_epochs": (4, 1), "num_minibatches": (4, 1)}
    unit: ClassVar = (2, "samples")  # the least in a minibatch

    def with_limit(self, target_kl: float | None) -> None:
        """Have a hyperparameter for the divergence at which updates end, if given."""
        if target_kl is not None:
            self.FLOATS = {**self.FLOATS, "target_kl": (target_kl, 0.0, 1e9)}
            checks.within("target_kl", target_kl, 0.0, 1e9)

    def with_rewards(
        self, normalizer: RewardNormalizer | None, normalized: bool
    ) -> None:
        """Scale rewards by a normaliser that was given, by one of one's own, or not."""
        if normalizer is not None:
            checks.record(
                "reward_normalizer",
                normalizer,
                RewardNormalizer,
                "or leave it out: normalize_rewards=True has one of its own",
            )
            self.records["returns"] = normalizer
        elif checks.boolean("normalize_rewards", normalized):
            self.records["returns"] = ReturnScale()

    def scaled(self, window: EpisodeData) -> np.ndarray:
        """Return the rewards [T, B] by the scale that has seen them too."""
        scale = self.records.get("returns")
        if scale is None:
            return window.rewards
        began = self.began(window)
        if isinstance(scale, RewardNormalizer):
            scale.reset(began)
            for reward, ended in zip(window.rewards, window.dones, strict=True):
                scale.step(reward)
                scale.reset(ended)
            return scale.normalize(window.rewards)
        discount = self.hyperparams["discount"]
        scale.observe(window.rewards, window.dones, began, discount)
        return window.rewards * scale.inverse()

    def advantages(
        self,
        window: EpisodeData,
        reward: np.ndarray,
        values: np.ndarray,
        value_after: Callable[[np.ndarray, np.ndarray], np.ndarray],
    ) -> np.ndarray:
        """Return [T, B] of values [T, B] and what finds those of cut episodes."""
        ends = window.terminated, window.truncated
        following = following_values(values, *ends, value_after)
        h = self.hyperparams
        return advantages(
            reward, values, following, *ends, h["discount"], h["gae_lambda"]
        )

    def minibatches(self, units: int) -> int:
        """Return how many parts an epoch of so many units has.

        Raises:
          ValueError: too few units for each to hold some.
        """
        parts, (least, unit) = self.hyperparams["num_minibatches"], self.unit
        if units < least * parts:
            raise checks.OptionError(
                f"num_minibatches={parts} must leave {least} {unit} to each, got a "
                f"window of {units}; collect longer windows or make fewer minibatches"
            )
        return parts
