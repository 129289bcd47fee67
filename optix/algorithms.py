"""The table of algorithms, and an agent for an environment."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax

from optix import checks
from optix.agents import dqn, ppo, rainbow, recurrent_ppo, sac, td3
from optix.envs.spaces import spaces
from optix.learners.off_policy import PRIORITY, off_policy
from optix.learners.on_policy import on_policy
from optix.networks.continuous import ActorAndCritic, actor_and_critic
from optix.networks.mlp import actor_critic
from optix.networks.recurrent import recurrent_actor_critic
from optix.networks.values import action_values
from optix.neuroevo.brain import BrainNetwork
from optix.neuroevo.graph import NeuronGraph
from optix.neuroevo.network import graph_actor_critic
from optix.neuroevo.regions import Brain
from optix.types import Agent, Box, Discrete, Network


class Algorithm(NamedTuple):
    """What makes an agent and its learner, and with which options.

    agent: `(network, observation_shape, action_space, **options) -> Agent`.
    network: `(observation_shape, action_space, **options) -> network` of the agent.
    learner: `(agent, env, **options) -> Learner`.
    actions: the action spaces it can act in.
    hyperparams: {name: (default, low, high)} of the agent.
    tuned: {name: (low, high)} that a tuner named without bounds changes.
    options: those of the three whose default here is another one.
    """

    agent: Callable[..., Agent]
    network: Callable[..., Any]
    learner: Callable[..., Any]
    actions: tuple[type, ...]
    hyperparams: Mapping[str, tuple[float, float, float]]
    tuned: Mapping[str, tuple[float, float]]
    options: Mapping[str, Any] = {}

    def network_options(self) -> set[str]:
        """Return the names of the network's options."""
        return keywords(self.network)

    def agent_options(self) -> set[str]:
        """Return the names of the agent's options, hyperparameters included."""
        return keywords(self.agent) | set(self.hyperparams)

    def learner_options(self) -> set[str]:
        """Return the names of the learner's options, hyperparameters included."""
        return keywords(self.learner) | (
            set(PRIORITY) if self.learner is off_policy else set()
        )


def _row(module, network, learner, *actions, **options) -> Algorithm:
    name = module.__name__.rpartition(".")[-1]
    return Algorithm(
        getattr(module, name),
        network,
        learner,
        actions,
        module.HYPERPARAMS,
        module.TUNED,
        options,
    )


# of every environment, as the papers of SAC and TD3 have it; a window is 1024 steps
_AN_UPDATE_A_STEP = {"num_envs": 8, "num_steps": 128, "gradient_steps": 8}

ALGORITHMS = {
    "ppo": _row(ppo, actor_critic, on_policy, Discrete, Box),
    "recurrent_ppo": _row(
        recurrent_ppo, recurrent_actor_critic, on_policy, Discrete, Box
    ),
    "dqn": _row(dqn, action_values, off_policy, Discrete),
    "rainbow": _row(
        rainbow,
        action_values,
        off_policy,
        Discrete,
        dueling=True,
        num_atoms=51,
        prioritised=True,
        n_step=3,
    ),
    "sac": _row(sac, actor_and_critic, off_policy, Box, **_AN_UPDATE_A_STEP),
    "td3": _row(
        td3, actor_and_critic, off_policy, Box, stochastic=False, **_AN_UPDATE_A_STEP
    ),
}


NETWORKS = {  # by name, in place of the usual one of ppo and recurrent_ppo
    "graph": graph_actor_critic,
}


def make_agent(
    env: Any,
    algorithm: str | None = None,
    *,
    deterministic: bool = False,
    env_params: Any = None,
    network: Any = None,
    **options: Any,
) -> Agent:
    """Return an agent that fits the spaces of an environment.

    Args:
      env: an `Environment`, a gymnax name or instance, or a Gymnasium environment.
      algorithm: one of `ALGORITHMS`; None takes PPO where actions are discrete and SAC
        where they are a box; with a `network`, PPO, recurrent if the network remembers.
      deterministic: TD3, whose policy is deterministic, in place of SAC.
      env_params: of a gymnax environment.
      network: replaces the agent's default network; a `NeuronGraph`, a brain or one of
        `NETWORKS` by name is made an actor-critic.
      **options: any keyword of the agent (hyperparameters too) and of its network.

    Raises:
      ValueError: an unknown algorithm or option, an algorithm for other actions, spaces
        that no agent can use.

    >>> make_agent("Pendulum-v1", discount=0.98).hyperparams["discount"]
    0.98
    """
    observation_shape, action_space, name = spaces(env, env_params)
    network, names = build_network(network, observation_shape, action_space, options)
    row = choose(
        algorithm, action_space, name, deterministic=deterministic, network=network
    )
    known = row.agent_options() | (row.network_options() if network is None else names)
    checks.known_names("option", options, known)
    return build_agent(row, observation_shape, action_space, network, options)


def build_network(
    network: Any,
    observation_shape: tuple[int, ...],
    action_space: Discrete | Box,
    options: Mapping[str, Any],
) -> tuple[Any, set[str]]:
    """Return a network and the names of the options it took.

    A name of `NETWORKS`, a graph and a brain become an actor-critic; other networks are
    returned as they are. `options` may hold names of other parts too.
    """
    if isinstance(network, str):
        checks.known_names("network", [network], NETWORKS)
        factory = NETWORKS[network]
        names = keywords(factory)
        return factory(observation_shape, action_space, **_named(options, names)), names
    if isinstance(network, BrainNetwork):
        network = network.build()
    if isinstance(network, Brain):
        network = network.graph
    if isinstance(network, NeuronGraph):
        names = {"keep_weights"}
        network = graph_actor_critic(
            observation_shape, action_space, graph=network, **_named(options, names)
        )
        return network, names
    if network is not None and not isinstance(network, Network | ActorAndCritic):
        raise ValueError(
            "network must be a Network, a NeuronGraph, a brain or one of "
            f"{', '.join(NETWORKS)}, got a {type(network).__name__}; "
            "optix.networks.module.module_network makes one of a flax module"
        )
    return network, set()


def choose(
    algorithm: str | None,
    action_space: Discrete | Box,
    env_name: str,
    *,
    deterministic: bool = False,
    network: Any = None,
) -> Algorithm:
    """Return the row of an algorithm, or the one that space and network ask for."""
    if deterministic and isinstance(action_space, Discrete):
        raise ValueError(
            f"deterministic=True needs a Box of actions, but {env_name} has "
            f"{action_space}; evaluation is deterministic with every agent"
        )
    if deterministic and algorithm not in (None, "td3"):
        raise ValueError(f"deterministic=True means td3, got algorithm {algorithm!r}")
    algorithm = "td3" if deterministic else algorithm or _usual(action_space, network)
    checks.known_names("agent", [algorithm], ALGORITHMS)
    row = ALGORITHMS[algorithm]
    if not isinstance(action_space, row.actions):
        fitting = [
            name
            for name, r in ALGORITHMS.items()
            if isinstance(action_space, r.actions)
        ]
        raise ValueError(
            f"{algorithm} takes {row.actions[0].__name__} actions, but {env_name} has "
            f"{action_space}; {', '.join(fitting)} would work"
        )
    return row


def usual_agent(
    env: Any, env_params: Any = None, network: Any = None, **options: Any
) -> str:
    """Return the name of the algorithm that `make_agent` picks where none is named."""
    observation_shape, action_space, _ = spaces(env, env_params)
    network, _ = build_network(network, observation_shape, action_space, options)
    return _usual(action_space, network)


def _usual(action_space: Discrete | Box, network: Any) -> str:
    if isinstance(network, Network):
        return "recurrent_ppo" if jax.tree.leaves(network.initial_carry(1)) else "ppo"
    return "ppo" if isinstance(action_space, Discrete) else "sac"


def build_agent(
    row: Algorithm,
    observation_shape: tuple[int, ...],
    action_space: Discrete | Box,
    network: Any,
    options: Mapping[str, Any],
) -> Agent:
    """Return the agent of a row; `options` may hold names of other parts too."""
    options = {**row.options, **options}
    shapes = observation_shape, action_space
    if network is None:
        network = row.network(*shapes, **_named(options, row.network_options()))
    return row.agent(network, *shapes, **_named(options, row.agent_options()))


def build_learner(row: Algorithm, agent: Agent, env: Any, options: Mapping) -> Any:
    """Return the learner of a row; `options` may hold names of other parts too."""
    options = {**row.options, **options}
    return row.learner(agent, env, **_named(options, row.learner_options()))


def keywords(function: Callable) -> set[str]:
    """Return the names of a function's keyword-only parameters."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def _named(options, names):
    return {name: value for name, value in options.items() if name in names}
