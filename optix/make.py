"""Where the parts meet: an autonomous loop from an environment's name."""

import inspect
from collections.abc import Callable
from typing import Any

from optix import checks
from optix.agents.ppo import HYPERPARAMS, TUNED, ppo
from optix.envs.device import device
from optix.learners.evaluate import evaluator
from optix.learners.on_policy import on_policy
from optix.loop.loop import loop
from optix.networks.mlp import actor_critic
from optix.tuners.fixed import fixed
from optix.tuners.spsa import spsa
from optix.types import Environment, Loop, Network, Transform, Tuner

AGENTS = ("ppo",)
TUNERS = {"fixed": fixed, "spsa": lambda: spsa(TUNED)}


def make(
    environment: Any,
    agent: str = "ppo",
    *,
    env_params: Any = None,
    network: Network | None = None,
    tuner: Tuner | str = "fixed",
    transforms: Transform | None = None,
    validation: Any = None,
    score: Callable | None = None,
    **options: Any,
) -> Loop:
    """Return the autonomous loop of an agent in an environment on the device.

    Args:
      environment: a gymnax name, an instance of its protocol, or an `Environment`.
      agent: the algorithm, one of `AGENTS`.
      env_params: parameters of the environment; None takes its defaults.
      network: replaces the agent's default network.
      tuner: chooses hyperparameters during the run; "fixed" leaves them alone, "spsa"
        tunes the agent's usual ones within its usual bounds.
      transforms: pure callbacks, see `optix.loop.transforms.chain`.
      validation: an environment of the same spaces; its score then decides.
      score: `(policy, key) -> []`, any other score that then decides.
      **options: any keyword of the agent (hyperparameters too), of its network
        (`actor_critic`), of its learner (`on_policy`) and of the `loop`.

    Raises:
      ValueError: an unknown environment, agent or option, or a value out of range.

    >>> import jax
    >>> run = make("CartPole-v1", num_envs=8, num_steps=16, learning_rate=1e-3)
    >>> state, report = jax.jit(run.step)(run.init(jax.random.key(0)))
    >>> int(state.round), int(state.env_steps)
    (1, 128)
    """
    checks.known_names("agent", [agent], AGENTS)
    network_names = set() if network is not None else _keywords(actor_critic)
    agent_names = (_keywords(ppo) | set(HYPERPARAMS)) - {"axis_name"}
    learner_names = _keywords(on_policy)
    loop_names = _keywords(loop) - {"transforms", "score"}
    everything = network_names | agent_names | learner_names | loop_names
    checks.known_names("option", options, everything)
    if validation is not None and score is not None:
        raise ValueError("give validation= or score=, not both: one score decides")

    if isinstance(tuner, str):
        checks.known_names("tuner", [tuner], TUNERS)
        tuner = TUNERS[tuner]()

    def of(names):
        return {name: value for name, value in options.items() if name in names}

    env = _environment(environment, env_params)
    spaces = (env.observation_shape, env.action_space)
    network = network or actor_critic(*spaces, **of(network_names))
    axis = of({"axis_name"})
    built = ppo(network, *spaces, **of(agent_names), **axis)
    learner = on_policy(built, env, **of(learner_names))
    if validation is not None:
        held_out = _environment(validation, None)
        if (held_out.observation_shape, held_out.action_space) != spaces:
            raise ValueError(
                f"the validation environment {held_out.name} must have the spaces of "
                f"{env.name}, {spaces}, got "
                f"{(held_out.observation_shape, held_out.action_space)}"
            )
        episodes = options.get("evaluation_episodes", 16)
        mode = options.get("deterministic_evaluation", True)
        score = evaluator(
            built, held_out, episodes=episodes, deterministic=mode, **axis
        )
    return loop(learner, tuner, transforms=transforms, score=score, **of(loop_names))


def _environment(environment: Any, params: Any) -> Environment:
    if isinstance(environment, Environment):
        if params is not None:
            raise ValueError(
                f"env_params are for a name or an instance, got {params!r} beside the "
                f"Environment {environment.name}; give them to device(...)"
            )
        return environment
    return device(environment, params)


def _keywords(function: Callable) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
