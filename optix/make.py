"""Where the parts meet: an agent, or an autonomous loop, from an environment's name."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp

from optix import checks
from optix.checks import OptionError
from optix.distributed.acting.learner import actors as acting
from optix.distributed.acting.learner import played
from optix.envs.copies import together
from optix.envs.environment import environment as named_environment
from optix.envs.spaces import spaces
from optix.host.adapter import adapted_agent, merged
from optix.host.agent import BaseAgent, HyperparamSet
from optix.learners.evaluate import evaluator
from optix.learners.on_policy import on_policy
from optix.loop.diagnostics import diagnostics as diagnosing
from optix.loop.loop import loop
from optix.loop.transforms import chain
from optix.networks.continuous import ActorAndCritic
from optix.neuroevo.graph.brain import BrainNetwork
from optix.neuroevo.graph.graph import NeuronGraph
from optix.neuroevo.graph.network import graph_actor_critic
from optix.neuroevo.graph.regions import Brain
from optix.neuroevo.graph.static import StaticGraph
from optix.population.population import population
from optix.registry import (
    ALGORITHMS,
    FRAMEWORKS,
    NETWORKS,
    TUNERS,
    Algorithm,
    keywords,
)
from optix.types import (
    ActionSpace,
    Agent,
    Box,
    Loop,
    Network,
    Numbered,
    Transform,
    Tuner,
)


def make(
    environment: Any,
    agent: str | None = None,
    *,
    env_params: Any = None,
    network: Any = None,
    tuner: Tuner | str | None = None,
    transforms: Transform | None = None,
    diagnostics: bool = False,
    validation: Any = None,
    score: Callable | None = None,
    async_envs: bool = False,
    resets: str | None = None,
    task: Callable | None = None,
    policies: int | None = None,
    actors: int | None = None,
    **options: Any,
) -> Loop:
    """Return the autonomous loop of an agent in an environment.

    Args:
      environment: a name of gymnax, or else of Gymnasium (which "gymnasium:CartPole-v1"
        forces) or of a family, as in "brax:ant" (`optix.envs.families`), an instance of
        gymnax's protocol or of a family's, a Gymnasium environment that Gymnasium can
        make again, a function that makes one, or an `Environment`.
      agent: the algorithm, one of `optix.registry.ALGORITHMS`; None takes PPO where
        actions are discrete and SAC where they are a box; with a `network`, PPO,
        recurrent if the network remembers; with `actors`, IMPALA.
      env_params: parameters of the environment, keywords of `gymnasium.make` for one of
        its; None takes the defaults.
      network: replaces the agent's default network; a `NeuronGraph`, a brain,
        what `freeze` makes of a graph, or "graph" for layers of neurons, is made an
        actor-critic.
      tuner: chooses hyperparameters during the run; "fixed" leaves them alone, "trust"
        steers PPO's learning rate by how far a round moves the policy; "spsa",
        "momentum", "backoff", "adaptive" and "pbt" tune the agent's usual ones within
        its usual bounds. None takes "trust" for PPO where nobody gives a learning rate,
        else "fixed": one that is given, here or to `Loop.init`, stays as it is.
      transforms: pure callbacks, see `optix.loop.transforms.chain`.
      diagnostics: detect loss spikes, entropy collapse, divergence that is too high and
        stale exploration, and act against them: `optix.loop.diagnostics` behind the
        other transforms.
      validation: an environment of the same spaces; its score then decides.
      score: `(policy, hyperparams, key) -> []`, any other score that then decides.
      async_envs: step environments of Gymnasium in processes of their own.
      resets: how ended episodes begin again on the device: "all", "shared" or "cached",
        see `optix.envs.resets.with_resets`; None chooses by the cost of a reset.
      task: `(key) -> parameters` of an environment on the device, drawn wherever an
        episode begins, in training and in evaluations: see `optix.envs.device`.
      policies: places of a population of such loops, which spawns another one where one
        has gone dormant; None for a single loop. Budgets are then those of all together.
      actors: how many play the environments, of Gymnasium, elsewhere than the learner
        learns; None plays them here. Their options are those of
        `optix.distributed.actors`, `engine="ray"` among them.
      **options: any keyword of the agent (hyperparameters too), of its network, of its
        learner (`on_policy` or `off_policy`), of the `loop` and, beside `policies`, of
        `optix.population.population.population`.

    Raises:
      ValueError: an unknown environment, agent or option, or a value out of range.

    >>> import jax
    >>> run = make("CartPole-v1", num_envs=8, num_steps=16, learning_rate=1e-3)
    >>> state, report = jax.jit(run.step)(run.init(jax.random.key(0)))
    >>> int(state.round), int(state.env_steps)
    (1, 128)
    """
    if actors is not None:
        checks.positive_int("actors", actors)
        agent = agent or _OF_ACTORS
    with _about("environment"):
        if actors is None:
            env = named_environment(
                environment,
                env_params,
                async_envs=async_envs,
                resets=resets,
                task=task,
            )
        else:
            env = _of_actors(environment, env_params, async_envs, resets, task)
    spaces = (env.observation_shape, env.action_space)
    network, names = build_network(network, *spaces, options)
    row = choose(agent, env.action_space, env.name, network=network)
    loop_names = keywords(loop) - {"transforms", "score"}
    known = row.agent_options() | row.learner_options() | loop_names
    known |= row.network_options() if network is None else names
    if actors is not None:
        if row.learner is not on_policy:
            raise OptionError(
                "actors is for algorithms that learn from windows, such as impala and "
                f"ppo, got it beside {agent}; leave it out, or take another agent"
            )
        known |= _ACTING
    several = keywords(population)
    if policies is not None:
        checks.positive_int("policies", policies)
        known |= several
    for name in sorted(several & (set(options) - known)):
        raise OptionError(f"{name} is of a population; pass policies= beside it")
    for name in sorted(_ACTING & (set(options) - known)):
        raise OptionError(f"{name} is of actors; pass actors= beside it")
    checks.known_names("option", options, known)
    if validation is not None and score is not None:
        raise OptionError("give validation= or score=, not both: one score decides")

    steered = tuner is None and usual_tuner(row, policies, options) == "trust"
    if tuner is None:
        tuner = "trust" if steered else "fixed"
    if isinstance(tuner, str):
        checks.known_names("tuner", [tuner], TUNERS)
        tuner = TUNERS[tuner](row.tuned)

    built = build_agent(row, *spaces, network, options)
    lanes = {"lanes": tuner.lanes} if isinstance(tuner, Tuner) else {}
    if actors is None:
        learner = build_learner(row, built, env, {**options, **lanes})
    else:
        chosen = _named({**row.options, **options}, _ACTING)
        learner = acting(built, environment, actors, env_params=env_params, **chosen)
    if validation is not None:
        with _about("validation"):
            held_out = named_environment(validation)
        if held_out.masked != env.masked:
            raise OptionError(
                f"the validation environment {held_out.name} must have action masks "
                f"where {env.name} has them, got masked={held_out.masked} beside "
                f"{env.masked}"
            )
        if (held_out.observation_shape, held_out.action_space) != spaces:
            raise OptionError(
                f"the validation environment {held_out.name} must have the spaces of "
                f"{env.name}, {spaces}, got "
                f"{(held_out.observation_shape, held_out.action_space)}"
            )
        score = evaluator(
            built,
            held_out,
            episodes=options.get("evaluation_episodes", 16),
            deterministic=options.get("deterministic_evaluation", True),
        )
        learner = learner._replace(host=together(learner.host, held_out.host))
    checks.boolean("diagnostics", diagnostics)
    if diagnostics:
        watching = diagnosing(env.action_space)
        transforms = watching if transforms is None else chain(transforms, watching)
    if policies is not None:
        loop_names -= _OF_ALL
    made = loop(
        learner,
        tuner,
        transforms=transforms,
        score=score,
        **_named(options, loop_names),
    )
    if policies is None:
        return _unless_given(made) if steered else made
    given: dict[str, Any] = {"bounds": made.tuner.bounds or row.tuned}
    return population(made, policies, **(given | _named(options, several)))


def _of_actors(
    environment: Any,
    env_params: Any,
    async_envs: bool,
    resets: str | None,
    task: Any,
) -> Any:
    """Return the environment that actors play, which is Gymnasium's."""
    if async_envs:
        raise OptionError("async_envs is not for actors, which are apart already")
    if resets is not None:
        raise OptionError("resets is of environments on the device, not of actors'")
    if task is not None:
        raise OptionError("task is of environments on the device, not of actors'")
    return played(environment, env_params)


_ACTING = keywords(acting) - {"agent", "env_factory", "num_actors", "env_params"}
_OF_THE_RATE = {"learning_rate", "decay_over"}
_OF_ACTORS = "impala"  # corrects for the age of a policy
_OF_ALL = {"max_rounds", "max_env_steps"}  # budgets of a population, not of its members


@contextmanager
def _about(keyword: str) -> Iterator[None]:
    """Put the keyword before a ValueError that does not name it."""
    try:
        yield
    except ValueError as error:
        if re.search(rf"\b{keyword}\b", str(error)):
            raise
        raise checks.OptionError(f"{keyword}: {error}") from error


@overload
def make_agent(
    env: Any,
    algorithm: str | None = None,
    *,
    framework: Literal["jax"] | None = None,
    deterministic: bool = False,
    env_params: Any = None,
    network: Any = None,
    hyperparams: HyperparamSet | Mapping[str, Any] | None = None,
    **options: Any,
) -> Agent: ...
@overload
def make_agent(
    env: Any,
    algorithm: str | None = None,
    *,
    framework: Literal["torch", "tf"],
    deterministic: bool = False,
    env_params: Any = None,
    network: None = None,
    hyperparams: HyperparamSet | Mapping[str, Any] | None = None,
    **options: Any,
) -> BaseAgent: ...
def make_agent(
    env: Any,
    algorithm: str | None = None,
    *,
    framework: str | None = None,
    deterministic: bool = False,
    env_params: Any = None,
    network: Any = None,
    hyperparams: HyperparamSet | Mapping[str, Any] | None = None,
    **options: Any,
) -> Agent | BaseAgent:
    """Return an agent that fits the spaces of an environment.

    Args:
      env: an `Environment`, a name, an instance of gymnax's protocol, a Gymnasium
        environment or a function that makes one.
      algorithm: one of `ALGORITHMS`; None takes PPO where actions are discrete and SAC
        where they are a box; with a `network`, PPO, recurrent if the network remembers.
      framework: "jax", the default, returns an `Agent` of JAX (`as_base_agent` makes a
        `BaseAgent` of it); "torch" and "tf" one of that framework, a `BaseAgent` for an
        environment of Gymnasium.
      deterministic: TD3, whose policy is deterministic, in place of SAC.
      env_params: of a gymnax environment, or keywords of `gymnasium.make`.
      network: of JAX, replaces the agent's default network; a `NeuronGraph`, a brain or
        one of `NETWORKS` by name is made an actor-critic.
      hyperparams: options too, as a `HyperparamSet` or {name: value}; the defaults hold
        for what is not named.
      **options: any keyword of the agent (hyperparameters too) and of its network; of
        another framework, those of its `for_env`.

    Raises:
      ValueError: an unknown framework, algorithm or option, an algorithm for other
        actions or that the framework has not, spaces that no agent can use.
      ModuleNotFoundError: the framework is not installed.

    >>> make_agent("Pendulum-v1", discount=0.98).hyperparams["discount"]
    0.98
    """
    checks.boolean("deterministic", deterministic)
    if framework is not None:
        checks.known_names("framework", [framework], ("jax", *FRAMEWORKS))
    if algorithm is not None:
        checks.known_names("algorithm", [algorithm], ALGORITHMS)
    options = merged(hyperparams, options)
    with _about("env"):
        observation_shape, action_space, name = spaces(env, env_params)
    if framework in FRAMEWORKS:
        if network is not None:
            raise OptionError(
                f"network is one of JAX, got it beside framework={framework!r}; give "
                "modules of your own to the agent's class"
            )
        row = FRAMEWORKS[framework]
        kind = choose(algorithm, action_space, name, deterministic=deterministic)
        (algorithm,) = (known for known, x in ALGORITHMS.items() if x is kind)
        agent = row.agent(algorithm, action_space)
        where = row.module, row.package, row.extra, agent
        return adapted_agent(*where, env, env_params, options)
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
    action_space: ActionSpace,
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
    if isinstance(network, NeuronGraph | StaticGraph):
        names = {"keep_weights"}
        network = graph_actor_critic(
            observation_shape, action_space, graph=network, **_named(options, names)
        )
        return network, names
    if network is not None and not isinstance(network, Network | ActorAndCritic):
        raise OptionError(
            "network must be a Network, a NeuronGraph, a brain or one of "
            f"{', '.join(NETWORKS)}, got a {type(network).__name__}; "
            "optix.networks.module.module_network makes one of a flax module"
        )
    return network, set()


def choose(
    algorithm: str | None,
    action_space: ActionSpace,
    env_name: str,
    *,
    deterministic: bool = False,
    network: Any = None,
) -> Algorithm:
    """Return the row of an algorithm, or the one that space and network ask for."""
    if not isinstance(action_space, Numbered | Box):
        kind = type(action_space)
        raise OptionError(
            f"actions of {env_name} must be a Discrete, a MultiDiscrete or a Box of "
            f"optix.types, got a {kind.__module__}.{kind.__name__}; give its Environment "
            "one of those"
        )
    if deterministic and not isinstance(action_space, Box):
        raise OptionError(
            f"deterministic=True needs a Box of actions, but {env_name} has "
            f"{action_space}; evaluation is deterministic with every agent"
        )
    if deterministic and algorithm not in (None, "td3"):
        raise OptionError(f"deterministic=True means td3, got algorithm {algorithm!r}")
    if algorithm is None:
        algorithm = _usual(action_space, network)
    algorithm = "td3" if deterministic else algorithm
    if isinstance(algorithm, BaseAgent):
        raise OptionError(
            f"agent must be the name of an algorithm, got a {type(algorithm).__name__}; "
            "an agent outside JAX learns by RLOptimizer(agent, pipeline).run(), or by "
            "train(loop(host(agent, pipeline), fixed()))"
        )
    checks.known_names("agent", [algorithm], ALGORITHMS)
    row = ALGORITHMS[algorithm]
    if not isinstance(action_space, row.actions):
        fitting = [
            name
            for name, r in ALGORITHMS.items()
            if isinstance(action_space, r.actions)
        ]
        raise OptionError(
            f"{algorithm} takes {row.actions[0].__name__} actions, but {env_name} has "
            f"{action_space}; {', '.join(fitting)} would work"
        )
    return row


def usual_agent(
    env: Any, env_params: Any = None, network: Any = None, **options: Any
) -> str:
    """Return the name of the algorithm that is picked where none is named."""
    if options.get("actors") is not None:
        return _OF_ACTORS
    observation_shape, action_space, _ = spaces(env, env_params)
    network, _ = build_network(network, observation_shape, action_space, options)
    return _usual(action_space, network)


def _unless_given(made: Loop) -> Loop:
    """Return a loop with `trust` that leaves the rate of a run that is given one."""

    def marked(state, given, held=False):
        held = held | bool(made.tuner.bounds.keys() & dict(given or {}).keys())
        tuner = state.tuner._replace(held=jnp.bool_(held))
        best = state.best._replace(hyperparams=made.tuner.centre(tuner))
        return state._replace(tuner=tuner, best=best)

    def init(key, hyperparams=None):
        return marked(made.init(key, hyperparams), hyperparams)

    def restart(state, policy, hyperparams, key):
        new = made.restart(state, policy, hyperparams, key)
        return marked(new, hyperparams, state.tuner.held)

    return made._replace(init=init, restart=restart)


def usual_tuner(row: Algorithm, policies: int | None, options: Iterable[str]) -> str:
    """Return the name of the tuner that is picked where none is named.

    It is "trust" where nobody says a rate; members of a population have their own.
    """
    given = _OF_THE_RATE & set(options)
    return "trust" if row.steered and policies is None and not given else "fixed"


def _usual(action_space: ActionSpace, network: Any) -> str:
    if isinstance(network, Network):
        return "recurrent_ppo" if jax.tree.leaves(network.initial_carry(1)) else "ppo"
    return "sac" if isinstance(action_space, Box) else "ppo"


def build_agent(
    row: Algorithm,
    observation_shape: tuple[int, ...],
    action_space: ActionSpace,
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
    names = row.learner_options() | (keywords(row.learner) & {"lanes"})
    return row.learner(agent, env, **_named(options, names))


def _named(options, names):
    return {name: value for name, value in options.items() if name in names}
