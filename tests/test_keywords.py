"""Every keyword of every factory x values that few of them take.

Each is accepted, and then what the factory makes can be traced, or it is one ValueError
that names the keyword. Keywords are found by inspection: a new one is covered by being
there, a new factory by a row. Nothing is compiled.
"""

import inspect
import re
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
from optix.buffers.compact import compact
from optix.buffers.hindsight import hindsight
from optix.buffers.n_step import n_step
from optix.buffers.prioritised import prioritised
from optix.buffers.uniform import uniform
from optix.distributed.acting.asynchronous import AsyncActorLearner
from optix.distributed.acting.learner import actors
from optix.envs.device import device
from optix.envs.environment import environment
from optix.envs.hosted import hosted
from optix.envs.resets import with_resets
from optix.host.jax_agent import as_base_agent
from optix.host.live import LivePipeline
from optix.learners.collect import collector
from optix.learners.evaluate import evaluator
from optix.learners.off_policy import PRIORITY, off_policy
from optix.learners.on_policy import on_policy
from optix.loop.diagnostics import diagnostics
from optix.loop.loop import loop
from optix.loop.modulation import neuromodulation
from optix.loop.transforms import chain
from optix.make import make, make_agent
from optix.networks.continuous import actor_and_critic
from optix.networks.mlp import actor_critic
from optix.networks.recurrent import recurrent_action_values, recurrent_actor_critic
from optix.networks.values import action_values
from optix.population.average import average, keep_if_not_worse, top
from optix.population.ensemble import ensemble, stack
from optix.population.meta import meta_controller
from optix.population.population import population
from optix.tuners.adaptive import adaptive
from optix.tuners.backoff import backoff
from optix.tuners.fixed import fixed
from optix.tuners.momentum import momentum
from optix.tuners.pbt import pbt
from optix.tuners.space import space
from optix.tuners.spsa import spsa
from optix.tuners.trust import trust
from optix.types import Box, Discrete, Trajectory, Transition
from tests import probes, toys
from tests.envs.counting import Counting

NAN, INF = float("nan"), float("inf")
VALUES = [-1, 0, NAN, INF, 1e30, "x", None, True, 1.5, 10**20]

SHAPE, ACTIONS, BOX = (1,), Discrete(2), Box((1,))
KEY = jax.random.key(0)
ENV = device(probes.Probe())
NUMBER = jnp.zeros(())
ROW = Transition(jnp.zeros(1), jnp.int32(0), NUMBER, NUMBER, jnp.zeros(1))
HEADS = actor_critic(SHAPE, ACTIONS, hidden=(2,))
VALUES_OF_ACTIONS = action_values(SHAPE, ACTIONS, hidden=(2,))
ATOMS = action_values(SHAPE, ACTIONS, hidden=(2,), num_atoms=3)
MEMORY = recurrent_actor_critic(SHAPE, ACTIONS, hidden=(2,), cell_size=2)
BOTH = actor_and_critic(SHAPE, BOX, hidden=(2,))
MEANS = actor_and_critic(SHAPE, BOX, hidden=(2,), stochastic=False)
WINDOWS = ppo.ppo(HEADS, SHAPE, ACTIONS)
TURNED = recurrent_action_values(SHAPE, ACTIONS, hidden=(2,), cell_size=2)
COUNTS = ppo.ppo(actor_critic((2,), Discrete(3), hidden=(2,)), (2,), Discrete(3))
RUN = loop(toys.target_learner(), fixed(), max_rounds=1)
TWO = stack([WINDOWS.init(key) for key in jax.random.split(KEY)])
REPLAYS = dqn.dqn(VALUES_OF_ACTIONS, SHAPE, ACTIONS)


class Waiting:
    """A source of which nothing comes."""

    def stream(self):
        return iter(())


def traced_agent(agent):
    policy = jax.eval_shape(agent.init, KEY)
    obs = jnp.zeros((3, *SHAPE))
    carry = agent.initial_carry(3)
    jax.eval_shape(
        lambda policy: agent.act(policy, carry, obs, agent.hyperparams, KEY, True),
        policy,
    )


def traced_network(network):
    jax.eval_shape(network.init, KEY)


def traced_networks(networks):
    for network in networks:
        traced_network(network)


def traced_buffer(buffer):
    def story():
        state = buffer.init(ROW)
        row = jax.tree.map(lambda x: x[None], ROW)
        state = buffer.add(state, row, jnp.ones(1, bool))
        return buffer.sample(state, KEY, 1, 0.5)

    jax.eval_shape(story)


def traced_tuner(tuner):
    def story():
        return tuner.ask(tuner.init({"rate": jnp.float32(1)}, KEY))

    jax.eval_shape(story)


def traced_line(line):
    no = jnp.zeros((), bool)
    step = Trajectory(jnp.zeros(1), NUMBER, NUMBER, no, no, jnp.zeros(1))
    jax.eval_shape(lambda: line.init(step, 2))


class Row(NamedTuple):
    """How a factory is called, and what its product must bear."""

    factory: object
    parts: dict  # what it must be given
    names: tuple = ()  # keywords that `**` stands for
    traced: object = lambda product: None
    base: object = None  # another factory whose keywords it passes on
    left_out: tuple = ()  # another file's


def agent_row(module, factory, network, space, word="network", base=None):
    parts = {word: network, "observation_shape": SHAPE, "action_space": space}
    names = tuple(getattr(module, "HYPERPARAMS", ppo.HYPERPARAMS))
    return Row(factory, parts, names, traced_agent, base, left_out=("reading",))


ROWS = {
    "ppo": agent_row(ppo, ppo.ppo, HEADS, ACTIONS),
    "recurrent_ppo": agent_row(
        ppo, recurrent_ppo.recurrent_ppo, MEMORY, ACTIONS, base=ppo.ppo
    ),
    "pqn": agent_row(pqn, pqn.pqn, VALUES_OF_ACTIONS, ACTIONS),
    "recurrent_pqn": agent_row(
        pqn, recurrent_pqn.recurrent_pqn, TURNED, ACTIONS, base=pqn.pqn
    ),
    "impala": agent_row(impala, impala.impala, MEMORY, ACTIONS),
    "dqn": agent_row(dqn, dqn.dqn, VALUES_OF_ACTIONS, ACTIONS),
    "rainbow": agent_row(rainbow, rainbow.rainbow, ATOMS, ACTIONS),
    "sac": agent_row(sac, sac.sac, BOTH, BOX, "networks"),
    "td3": agent_row(td3, td3.td3, MEANS, BOX, "networks"),
    "on_policy": Row(on_policy, {"agent": WINDOWS, "env": ENV}),
    "off_policy": Row(
        off_policy, {"agent": REPLAYS, "env": ENV, "prioritised": True}, tuple(PRIORITY)
    ),
    "collector": Row(collector, {"agent": WINDOWS, "env": ENV, "num_envs": 2}),
    "evaluator": Row(evaluator, {"agent": WINDOWS, "env": ENV}),
    **{
        factory.__name__: Row(
            factory,
            {"observation_shape": SHAPE, "action_space": actions},
            traced=traced,
        )
        for factory, actions, traced in (
            (actor_critic, BOX, traced_network),
            (recurrent_actor_critic, ACTIONS, traced_network),
            (action_values, ACTIONS, traced_network),
            (recurrent_action_values, ACTIONS, traced_network),
            (actor_and_critic, BOX, traced_networks),
        )
    },
    "uniform": Row(uniform, {"capacity": 8}, traced=traced_buffer),
    "prioritised": Row(prioritised, {"capacity": 8}, traced=traced_buffer),
    "compact": Row(
        compact, {"buffer": uniform(8), "dtype": "uint8"}, traced=traced_buffer
    ),
    "n_step": Row(n_step, {"n": 2}, traced=traced_line),
    "hindsight": Row(
        hindsight,
        {
            "achieved": lambda obs: obs,
            "substitute": lambda obs, goal: obs,
            "reward": lambda reached, goal: (0.0, False),
        },
    ),
    "fixed": Row(fixed, {}, traced=traced_tuner),
    "trust": Row(trust, {"bounds": {"rate": (0.1, 2.0)}}, traced=traced_tuner),
    **{
        factory.__name__: Row(
            factory, {"bounds": {"rate": (0.1, 2.0)}}, traced=traced_tuner
        )
        for factory in (adaptive, backoff, momentum, pbt, spsa)
    },
    "space": Row(space, {"bounds": {"rate": (0.1, 2.0)}}),
    "loop": Row(loop, {"learner": toys.target_learner(), "tuner": fixed()}),
    "chain": Row(chain, {}),
    "neuromodulation": Row(neuromodulation, {}),
    "diagnostics": Row(diagnostics, {"action_space": ACTIONS}),
    "ensemble": Row(
        ensemble,
        {"agent": WINDOWS, "action_space": ACTIONS, "members": 2},
        traced=traced_agent,
    ),
    "with_resets": Row(with_resets, {"env": ENV}),
    "environment": Row(
        environment, {"env": probes.Probe()}, left_out=("env", "env_params")
    ),
    "population": Row(population, {"loop": RUN}),
    "meta_controller": Row(meta_controller, {}),
    "average": Row(average, {"agent": WINDOWS, "policies": TWO}),
    "top": Row(top, {"scores": jnp.arange(3.0), "top_k": 2}),
    "keep_if_not_worse": Row(
        keep_if_not_worse,
        {
            "score": lambda policy, hyperparams, key: NUMBER,
            "best": WINDOWS.init(KEY),
            "challenger": WINDOWS.init(KEY),
            "hyperparams": {},
            "key": KEY,
        },
        left_out=("best", "challenger", "hyperparams", "key"),
    ),
    "actors": Row(
        actors,
        {"agent": COUNTS, "env_factory": Counting},
        left_out=("env_factory", "env_params"),
    ),
    "AsyncActorLearner": Row(
        AsyncActorLearner,
        {"agent": COUNTS, "env_factory": Counting},
        left_out=("env_factory",),
    ),
    "as_base_agent": Row(as_base_agent, {"agent": WINDOWS}, left_out=("env",)),
    "LivePipeline": Row(LivePipeline, {"source": Waiting()}, left_out=("source",)),
    "make": Row(make, {"environment": ENV}, left_out=("env_params",)),
    "hosted": Row(hosted, {"env": Counting}, left_out=("env", "env_params")),
    "make_agent": Row(make_agent, {"env": ENV}, left_out=("env_params",)),
}


def keywords(row):
    """Every parameter of the factory, and of the one it passes others on to."""
    functions = (row.factory, *((row.base,) if row.base else ()))
    names = [
        name
        for function in functions
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    return [
        name for name in dict.fromkeys((*names, *row.names)) if name not in row.left_out
    ]


def call(row, name, value):
    """The factory with one keyword replaced."""
    kind = inspect.signature(row.factory).parameters.get(name)
    if kind is not None and kind.kind is inspect.Parameter.VAR_POSITIONAL:
        return row.factory(value)
    given = {**row.parts, name: value}
    for part, parameter in inspect.signature(row.factory).parameters.items():
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            raise AssertionError(f"{part} of {row.factory} can not be named")
    return row.factory(**given)


@pytest.mark.parametrize(
    ("factory", "name"),
    [(factory, name) for factory, row in ROWS.items() for name in keywords(row)],
)
def test_a_value_is_right_or_refused_by_the_keywords_own_name(factory, name):
    row, wrong = ROWS[factory], []
    for value in VALUES:
        try:
            product = call(row, name, value)
        except ValueError as error:
            # of a whole word: `n_step` does not stand for `n`
            if not re.search(rf"(?<!\w){name}(?!\w)", str(error)):
                wrong.append((value, f"not named: {error}"))
        except Exception as error:
            wrong.append((value, f"{type(error).__name__}: {error}"))
        else:
            try:
                row.traced(product)
            except Exception as error:
                wrong.append((value, f"accepted, but not to be traced: {error!r}"))
    assert not wrong, "\n".join(f"{name}={value!r}: {what}" for value, what in wrong)


SWITCHES = [
    (factory, name)
    for factory, row in ROWS.items()
    for name, parameter in inspect.signature(row.factory).parameters.items()
    if isinstance(parameter.default, bool)
]


@pytest.mark.parametrize(("factory", "name"), SWITCHES)
def test_only_a_bool_is_a_switch(factory, name):
    for value in ("flase", "True", 0, 1, 0.2, None, -1, 10**20):
        with pytest.raises(ValueError, match=f"{name} must be True or False, got"):
            call(ROWS[factory], name, value)
    for value in (True, np.True_):
        # whose switches are for boxes of actions, and for Gymnasium, alone
        if (factory, name) not in (
            ("make_agent", "deterministic"),
            ("make", "async_envs"),
            ("environment", "async_envs"),
        ):
            call(ROWS[factory], name, value)


@pytest.mark.parametrize("factory", ROWS)
def test_integers_fit_their_type(factory):
    row = ROWS[factory]
    for name, parameter in inspect.signature(row.factory).parameters.items():
        default = parameter.default
        if isinstance(default, int) and not isinstance(default, bool):
            large = 2**32 if name == "seed" else 2**31
            large = 3 if (factory, name) == ("spsa", "lanes") else large
            with pytest.raises(ValueError, match=f"^{name} must be"):
                call(row, name, large)


@pytest.mark.parametrize(
    "factory", ["ppo", "recurrent_ppo", "impala", "dqn", "rainbow", "sac", "td3"]
)
def test_numbers_of_any_library_are_floats(factory):
    wanted = pytest.approx(1e-3)
    for number in (
        np.float32(1e-3),
        np.float64(1e-3),
        jnp.float32(1e-3),
        np.array(1e-3),
    ):
        agent = call(ROWS[factory], "learning_rate", number)
        assert agent.hyperparams["learning_rate"] == wanted
        assert type(agent.hyperparams["learning_rate"]) is float
    for wrong in (jnp.ones(1), np.ones(()).astype(bool), 1j, [1e-3], jnp.float32(NAN)):
        with pytest.raises(ValueError, match="learning_rate must be in"):
            call(ROWS[factory], "learning_rate", wrong)


@pytest.mark.parametrize("value", [jnp.ones(3), [0.1, 0.2], "x", None, True, {}])
def test_an_override_is_one_number(value):
    run = loop(toys.target_learner(), fixed())
    with pytest.raises(ValueError, match="rate must be one number"):
        jax.eval_shape(lambda key: run.init(key, {"rate": value}), KEY)


@pytest.mark.parametrize("name", ["ppo", "recurrent_ppo"])
def test_minibatches_fit_the_window_before_anything_is_traced(name):
    sequences = {} if name == "ppo" else {"sequence_length": 5}
    with pytest.raises(ValueError, match="divisible by num_minibatches=4, got (15|3)"):
        make(ENV, name, num_envs=3, num_steps=5, **sequences)


def test_sequences_fit_the_window():
    with pytest.raises(ValueError, match="divisible by sequence_length=16, got 10"):
        make(ENV, "recurrent_ppo", num_envs=4, num_steps=10)


def test_a_minibatch_of_one_sample_is_refused():
    with pytest.raises(ValueError, match="num_minibatches=16 must leave two samples"):
        make(ENV, "ppo", num_envs=4, num_steps=4, num_minibatches=16)
    make(ENV, "ppo", num_envs=4, num_steps=4, num_minibatches=8)


@pytest.mark.parametrize("factory", ["ppo", "recurrent_ppo"])
def test_a_network_without_a_value(factory):
    with pytest.raises(
        ValueError, match=rf"network of {factory} must give \(logits of 2"
    ):
        call(ROWS[factory], "network", VALUES_OF_ACTIONS)


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_an_axis_that_no_map_has(name):
    run = make(ENV, name, axis_name="device")
    with pytest.raises(ValueError, match="axis_name='device' must be .* mapped axis"):
        jax.eval_shape(run.init, KEY)
