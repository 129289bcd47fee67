"""Every name that a user can say: algorithms, networks, tuners."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from optix.agents import (
    dqn,
    impala,
    ppo,
    pqn,
    rainbow,
    recurrent_ppo,
    recurrent_pqn,
    sac,
    td3,
)
from optix.checks import OptionError
from optix.learners.memory import PRIORITY
from optix.learners.off_policy import off_policy
from optix.learners.on_policy import on_policy
from optix.networks.continuous import actor_and_critic
from optix.networks.mlp import actor_critic
from optix.networks.recurrent import recurrent_action_values, recurrent_actor_critic
from optix.networks.values import action_values
from optix.neuroevo.graph.network import graph_actor_critic
from optix.tuners.adaptive import adaptive
from optix.tuners.backoff import backoff
from optix.tuners.fixed import fixed
from optix.tuners.momentum import momentum
from optix.tuners.pbt import pbt
from optix.tuners.spsa import spsa
from optix.tuners.trust import trust
from optix.types import ActionSpace, Agent, Box, Discrete, MultiDiscrete, Tuner


class Algorithm(NamedTuple):
    """What makes an agent and its learner, and with which options.

    agent: `(network, observation_shape, action_space, **options) -> Agent`.
    network: `(observation_shape, action_space, **options) -> network` of the agent.
    learner: `(agent, env, **options) -> Learner`.
    actions: the action spaces it can act in.
    hyperparams: {name: (default, low, high)} of the agent.
    tuned: {name: (low, high)} that a tuner named without bounds changes.
    options: those of the three whose default here is another one.
    base: the agent that this one passes further options on to, if there is one.
    steered: whether a learning rate that is not given is one that `trust` steers.
    """

    agent: Callable[..., Agent]
    network: Callable[..., Any]
    learner: Callable[..., Any]
    actions: tuple[type, ...]
    hyperparams: Mapping[str, tuple[float, float, float]]
    tuned: Mapping[str, tuple[float, float]]
    options: Mapping[str, Any] = {}
    base: Callable[..., Agent] | None = None
    steered: bool = False

    def network_options(self) -> set[str]:
        """Return the names of the network's options."""
        return keywords(self.network)

    def agent_options(self) -> set[str]:
        """Return the names of the agent's options, hyperparameters included."""
        names = keywords(self.agent) | (keywords(self.base) if self.base else set())
        return (names | set(self.hyperparams)) - {"reading"}

    def learner_options(self) -> set[str]:
        """Return the names of the learner's options, hyperparameters included."""
        more = set(PRIORITY) if self.learner is off_policy else set()
        return (keywords(self.learner) | more) - {"lanes"}  # those of the tuner


class Framework(NamedTuple):
    """Where the agents of another framework are; nothing is imported until one is made.

    module: the import package of the adapter.
    package: that of the framework itself.
    extra: of this package, which installs it.
    agents: {algorithm: names of its classes for discrete actions and for a box, None
        where it has none}.
    """

    module: str
    package: str
    extra: str
    agents: Mapping[str, tuple[str | None, str | None]]

    def agent(self, algorithm: str, action_space: ActionSpace) -> str:
        """Return the name of the class of an algorithm, or raise ValueError."""
        if isinstance(action_space, MultiDiscrete):
            raise OptionError(
                f"{self.module} has no agent for {action_space}; framework='jax' has "
                "ppo, recurrent_ppo and impala"
            )
        place = 0 if isinstance(action_space, Discrete) else 1
        found = self.agents.get(algorithm, (None, None))[place]
        if found is None:
            fitting = [name for name, pair in self.agents.items() if pair[place]]
            raise OptionError(
                f"{self.module} has no {algorithm} for {action_space}; "
                f"{', '.join(fitting)} would work"
            )
        return found


FRAMEWORKS = {  # beside "jax"
    "torch": Framework(
        "optix_torch",
        "torch",
        "torch",
        {
            "ppo": ("TorchPPOAgent", "TorchGaussianPPOAgent"),
            "recurrent_ppo": ("TorchRecurrentPPOAgent", None),
            "dqn": ("TorchDQNAgent", None),
            "rainbow": ("TorchRainbowDQNAgent", None),
            "sac": (None, "TorchSACAgent"),
            "td3": (None, "TorchTD3Agent"),
        },
    ),
    "tf": Framework(
        "optix_tensorflow",
        "tensorflow",
        "tensorflow",
        {
            "ppo": ("TFPPOAgent", "TFGaussianPPOAgent"),
            "dqn": ("TFDQNAgent", None),
            "sac": (None, "TFSACAgent"),
            "td3": (None, "TFTDDAgent"),
        },
    ),
}


# of every environment, as the papers of SAC and TD3 have it; a window is 1024 steps
_AN_UPDATE_A_STEP = {"num_envs": 8, "num_steps": 128, "gradient_steps": 8}

# of few samples each, where there is neither a replay nor a target
_MANY_UPDATES = {"num_envs": 32, "num_steps": 64}

ALGORITHMS = {
    "ppo": Algorithm(
        agent=ppo.ppo,
        network=actor_critic,
        learner=on_policy,
        actions=(Discrete, MultiDiscrete, Box),
        hyperparams=ppo.HYPERPARAMS,
        tuned=ppo.TUNED,
        steered=True,
    ),
    "recurrent_ppo": Algorithm(
        agent=recurrent_ppo.recurrent_ppo,
        network=recurrent_actor_critic,
        learner=on_policy,
        actions=(Discrete, MultiDiscrete, Box),
        hyperparams=ppo.HYPERPARAMS,
        tuned=ppo.TUNED,
        base=ppo.ppo,
        steered=True,
    ),
    "pqn": Algorithm(
        agent=pqn.pqn,
        network=action_values,
        learner=on_policy,
        actions=(Discrete,),
        hyperparams=pqn.HYPERPARAMS,
        tuned=pqn.TUNED,
        options={"layer_norm": True, **_MANY_UPDATES},
    ),
    "recurrent_pqn": Algorithm(
        agent=recurrent_pqn.recurrent_pqn,
        network=recurrent_action_values,
        learner=on_policy,
        actions=(Discrete,),
        hyperparams=pqn.HYPERPARAMS,
        tuned=pqn.TUNED,
        options={"num_minibatches": 4, **_MANY_UPDATES},
        base=pqn.pqn,
    ),
    "impala": Algorithm(
        agent=impala.impala,
        network=actor_critic,
        learner=on_policy,
        actions=(Discrete, MultiDiscrete, Box),
        hyperparams=impala.HYPERPARAMS,
        tuned=impala.TUNED,
    ),
    "dqn": Algorithm(
        agent=dqn.dqn,
        network=action_values,
        learner=off_policy,
        actions=(Discrete,),
        hyperparams=dqn.HYPERPARAMS,
        tuned=dqn.TUNED,
    ),
    "rainbow": Algorithm(
        agent=rainbow.rainbow,
        network=action_values,
        learner=off_policy,
        actions=(Discrete,),
        hyperparams=rainbow.HYPERPARAMS,
        tuned=rainbow.TUNED,
        options={"dueling": True, "num_atoms": 51, "prioritised": True, "n_step": 3},
    ),
    "sac": Algorithm(
        agent=sac.sac,
        network=actor_and_critic,
        learner=off_policy,
        actions=(Box,),
        hyperparams=sac.HYPERPARAMS,
        tuned=sac.TUNED,
        options=_AN_UPDATE_A_STEP,
    ),
    "td3": Algorithm(
        agent=td3.td3,
        network=actor_and_critic,
        learner=off_policy,
        actions=(Box,),
        hyperparams=td3.HYPERPARAMS,
        tuned=td3.TUNED,
        options={"stochastic": False, **_AN_UPDATE_A_STEP},
    ),
}

NETWORKS = {  # by name, in place of the usual one of ppo and recurrent_ppo
    "graph": graph_actor_critic,
}


_STEERED = (1e-6, 1e-2)  # above, CartPole's policies do not stay good
TUNERS: Mapping[str, Callable[[Any], Tuner]] = {
    "adaptive": adaptive,
    "backoff": backoff,
    "fixed": lambda bounds: fixed(),
    "momentum": momentum,
    "pbt": pbt,
    "spsa": spsa,
    "trust": lambda bounds: trust({"learning_rate": _STEERED}),
}


def keywords(function: Callable) -> set[str]:
    """Return the names of a function's keyword-only parameters."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
