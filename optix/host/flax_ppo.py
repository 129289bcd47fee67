"""PPO of discrete actions by JAX and flax, made as the agents of other frameworks are."""

from collections.abc import Mapping, Sequence
from typing import Any

from optix import checks
from optix.agents.ppo import HYPERPARAMS, ppo
from optix.host.adapter import merged
from optix.host.agent import HyperparamSet
from optix.host.jax_agent import JaxAgent
from optix.networks.mlp import actor_critic
from optix.types import Discrete

_SIZES = {"num_epochs", "num_minibatches"}


class FlaxPPOAgent(JaxAgent):
    """PPO (https://arxiv.org/abs/1707.06347) of discrete actions, compiled by JAX.

    Actor and critic are layers of flax. In the loop it is bound itself, see
    `optix.host.learner.host`; everything else that JAX agents can, by
    `as_base_agent(make_agent(...))`.

    Args:
      obs_dim: entries of an observation, or the shape of one.
      n_actions: number of actions.
      hyperparams: a `HyperparamSet` or {name: value}, over the defaults: learning_rate,
        discount, gae_lambda, clip_ratio, entropy_coefficient, value_coefficient,
        max_grad_norm, which the loop may tune, num_epochs and num_minibatches.
      hidden_size: width of the hidden layer of actor and critic, or of several.
      seed: of the first weights.
      **options: further keywords of `optix.agents.ppo.ppo`: normalize_observations,
        normalize_rewards, clip_values, target_kl, decay_over, ...

    Raises:
      ValueError: a size below one, an unknown hyperparameter or option, or a value out of
        its range.

    >>> import numpy as np
    >>> agent = FlaxPPOAgent(4, 2, {"learning_rate": 1e-3}, hidden_size=8)
    >>> agent.act(np.zeros(4)) in (0, 1), agent.get_hyperparams().params["clip_ratio"]
    (True, 0.2)
    """

    def __init__(
        self,
        obs_dim: int | Sequence[int],
        n_actions: int,
        hyperparams: HyperparamSet | Mapping[str, Any] | None = None,
        hidden_size: int | Sequence[int] = 64,
        seed: int = 0,
        **options: Any,
    ):
        """See the class."""
        whole = not isinstance(obs_dim, Sequence)
        name = "obs_dim" if whole else "obs_dim, a shape"
        shape = checks.shape(name, (obs_dim,) if whole else obs_dim)
        actions = Discrete(checks.positive_int("n_actions", n_actions))
        given = merged(hyperparams, {})
        known = {*HYPERPARAMS, *_SIZES}
        checks.known_names("hyperparameter of FlaxPPOAgent", given, known)
        widths = (
            hidden_size
            if isinstance(hidden_size, Sequence)
            else (checks.positive_int("hidden_size", hidden_size),)
        )
        network = actor_critic(shape, actions, hidden=widths)
        agent = ppo(network, shape, actions, **given, **options)
        super().__init__(agent, seed=seed)
