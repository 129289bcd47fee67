"""Where the parts meet: an autonomous loop from an environment's name."""

from collections.abc import Callable, Mapping
from typing import Any

from optix import checks
from optix.algorithms import build_agent, build_learner, build_network, choose, keywords
from optix.envs.device import device
from optix.learners.evaluate import evaluator
from optix.loop.loop import loop
from optix.tuners.fixed import fixed
from optix.tuners.spsa import spsa
from optix.types import Environment, Loop, Transform, Tuner

TUNERS: Mapping[str, Callable[[Any], Tuner]] = {
    "fixed": lambda bounds: fixed(),
    "spsa": spsa,
}


def make(
    environment: Any,
    agent: str | None = None,
    *,
    env_params: Any = None,
    network: Any = None,
    tuner: Tuner | str = "fixed",
    transforms: Transform | None = None,
    validation: Any = None,
    score: Callable | None = None,
    **options: Any,
) -> Loop:
    """Return the autonomous loop of an agent in an environment on the device.

    Args:
      environment: a gymnax name, an instance of its protocol, or an `Environment`.
      agent: the algorithm, one of `optix.algorithms.ALGORITHMS`; None takes PPO where
        actions are discrete and SAC where they are a box; with a `network`, PPO,
        recurrent if the network remembers.
      env_params: parameters of the environment; None takes its defaults.
      network: replaces the agent's default network; a `NeuronGraph`, a brain, or
        "graph" for layers of neurons, is made an actor-critic.
      tuner: chooses hyperparameters during the run; "fixed" leaves them alone, "spsa"
        tunes the agent's usual ones within its usual bounds.
      transforms: pure callbacks, see `optix.loop.transforms.chain`.
      validation: an environment of the same spaces; its score then decides.
      score: `(policy, key) -> []`, any other score that then decides.
      **options: any keyword of the agent (hyperparameters too), of its network, of its
        learner (`on_policy` or `off_policy`) and of the `loop`.

    Raises:
      ValueError: an unknown environment, agent or option, or a value out of range.

    >>> import jax
    >>> run = make("CartPole-v1", num_envs=8, num_steps=16, learning_rate=1e-3)
    >>> state, report = jax.jit(run.step)(run.init(jax.random.key(0)))
    >>> int(state.round), int(state.env_steps)
    (1, 128)
    """
    env = _environment(environment, env_params)
    spaces = (env.observation_shape, env.action_space)
    network, names = build_network(network, *spaces, options)
    row = choose(agent, env.action_space, env.name, network=network)
    loop_names = keywords(loop) - {"transforms", "score"}
    known = row.agent_options() | row.learner_options() | loop_names
    known |= row.network_options() if network is None else names
    checks.known_names("option", options, known)
    if validation is not None and score is not None:
        raise ValueError("give validation= or score=, not both: one score decides")

    if isinstance(tuner, str):
        checks.known_names("tuner", [tuner], TUNERS)
        tuner = TUNERS[tuner](row.tuned)

    built = build_agent(row, *spaces, network, options)
    learner = build_learner(row, built, env, options)
    if validation is not None:
        held_out = _environment(validation, None)
        if (held_out.observation_shape, held_out.action_space) != spaces:
            raise ValueError(
                f"the validation environment {held_out.name} must have the spaces of "
                f"{env.name}, {spaces}, got "
                f"{(held_out.observation_shape, held_out.action_space)}"
            )
        score = evaluator(
            built,
            held_out,
            episodes=options.get("evaluation_episodes", 16),
            deterministic=options.get("deterministic_evaluation", True),
            axis_name=options.get("axis_name"),
        )
    loop_options = {name: options[name] for name in loop_names & set(options)}
    return loop(learner, tuner, transforms=transforms, score=score, **loop_options)


def _environment(environment: Any, params: Any) -> Environment:
    if isinstance(environment, Environment):
        if params is not None:
            raise ValueError(
                f"env_params are for a name or an instance, got {params!r} beside the "
                f"Environment {environment.name}; give them to device(...)"
            )
        return environment
    return device(environment, params)
