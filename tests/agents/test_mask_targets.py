"""Masks in what is learned: of several steps by hand, and none where nothing is masked."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optix
from optix.agents.dqn import dqn
from optix.agents.rainbow import rainbow
from optix.buffers.n_step import n_step
from optix.types import Discrete, Masked, Network, Sample, Trajectory, Transition
from tests import probes
from tests.optimised import jit

STEPS, ENVS, N, DISCOUNT = 12, 3, 3, 0.9
VALUES = np.array([1.0, 5.0, 9.0, 7.0])


def stream(seed=0):
    """Steps [T, B] of masks drawn by chance, some episodes ended and some cut."""
    random = np.random.default_rng(seed)
    mask = random.random((STEPS, ENVS, 4)) < 0.4  # one of eight allows nothing
    next_mask = random.random((STEPS, ENVS, 4)) < 0.4
    ended = random.random((2, STEPS, ENVS)) < 0.2
    blank = np.zeros((STEPS, ENVS, 1), np.float32)
    action = random.integers(4, size=(STEPS, ENVS))
    mask |= np.eye(4, dtype=bool)[action]  # what was done was allowed
    return Trajectory(
        Masked(blank, mask),
        action,
        random.normal(size=(STEPS, ENVS)).astype(np.float32),
        *ended,
        Masked(blank, next_mask),
    )


def by_hand(steps, i, t):
    """(return, factor, mask) of the row that step `t` of environment `i` begins."""
    total, factor = 0.0, 1.0
    for k in range(t, t + N):
        total += factor * float(steps.reward[k, i])
        factor *= DISCOUNT
        if steps.terminated[k, i] or steps.truncated[k, i]:
            break
    if steps.terminated[k, i]:
        factor = 0.0
    return total, factor, steps.next_obs.action_mask[k, i]


def best(mask):
    """The greatest of what is allowed, of all where nothing is."""
    choices = [a for a in range(4) if mask[a]] or range(4)
    return max(choices, key=lambda a: VALUES[a])


@pytest.fixture(scope="module")
def rows():
    """The rows of the delay line, and what each is by hand."""
    line, steps = n_step(N), stream()
    first = jax.tree.map(lambda x: jnp.asarray(x[0, 0]), steps)
    state, pushed, expected = line.init(first, ENVS), [], []
    for t in range(STEPS):
        now = jax.tree.map(lambda x, t=t: jnp.asarray(x[t]), steps)
        state, row, valid = line.push(state, now, DISCOUNT)
        if t < N - 1:
            assert not valid.any()
            continue
        pushed.append(row)
        expected += [by_hand(steps, i, t - N + 1) for i in range(ENVS)]
    items = jax.tree.map(lambda *x: jnp.concatenate(x), *pushed)
    number = len(expected)
    return Sample(items, jnp.arange(number), jnp.ones(number)), expected


def network_of(outputs, params):
    """A network that gives what its parameters are, whatever it sees."""

    def apply(params, structure, carry, obs):
        out = outputs(params, obs)
        return carry, jnp.broadcast_to(out, (*obs.shape[:-1], *out.shape[1:]))

    return Network(lambda key: (params, ()), lambda batch: (), apply)


@pytest.mark.parametrize("double", [True, False])
def test_dqn_bootstraps_after_several_steps_from_what_is_allowed_there(rows, double):
    sample, expected = rows
    network = network_of(lambda params, obs: params[None], jnp.float32(VALUES))
    agent = dqn(network, (1,), Discrete(4), double=double, normalize_rewards=False)
    found = agent.learn(
        agent.init(jax.random.key(0)), sample, agent.hyperparams, jax.random.key(0)
    ).priority
    target = [total + factor * VALUES[best(mask)] for total, factor, mask in expected]
    own = VALUES[np.asarray(sample.items.action)]
    np.testing.assert_allclose(found, np.abs(target - own), rtol=1e-5, atol=1e-5)


def test_rainbow_moves_the_returns_of_what_is_allowed_there(rows):
    sample, expected = rows
    atoms = np.linspace(-10, 10, 5)
    sure = np.full((4, 5), -4.0)
    sure[np.arange(4), [0, 2, 4, 3]] = 0.0  # means in the order of `VALUES`
    layer = {"kernel": jnp.zeros((1, 20)), "bias": jnp.float32(sure.ravel())}
    network = network_of(
        lambda params, obs: (
            params["head"]["bias"].reshape(1, 4, 5)
            + (obs @ params["head"]["kernel"]).reshape(-1, 4, 5) * 0
        ),
        {"head": layer},
    )
    agent = rainbow(
        network, (1,), Discrete(4), noise_scale=0.0, normalize_rewards=False
    )
    found = agent.learn(
        agent.init(jax.random.key(0)), sample, agent.hyperparams, jax.random.key(0)
    ).priority
    odds = np.exp(sure) / np.exp(sure).sum(1, keepdims=True)
    divergences = []
    for row, (total, factor, mask) in enumerate(expected):
        target = np.zeros(5)
        for atom, mass in zip(atoms, odds[best(mask)], strict=True):
            place = (np.clip(total + factor * atom, -10, 10) + 10) / 5
            low = min(int(place), 3)
            target[low] += mass * (low + 1 - place)
            target[low + 1] += mass * (place - low)
        own = np.log(odds[int(sample.items.action[row])])
        divergences.append(-(target * own).sum())
    np.testing.assert_allclose(found, divergences, rtol=1e-4)


SMALL = {"hidden": (4,), "num_minibatches": 2, "num_epochs": 1, "sequence_length": 4}
CELL = {**SMALL, "cell_size": 4}
AGENTS = {
    "ppo": (SMALL, "masked_policy"),
    "recurrent_ppo": (CELL, "masked_policy"),
    "impala": (SMALL, "masked_policy"),
    "pqn": (SMALL, "masked_values"),
    "recurrent_pqn": (CELL, "masked_values"),
    "dqn": (SMALL, "masked_values"),
    "rainbow": ({**SMALL, "num_atoms": 3}, None),
}


def agent_of(name):
    from optix.registry import ALGORITHMS

    known = ALGORITHMS[name].agent_options() | ALGORITHMS[name].network_options()
    options = {key: x for key, x in AGENTS[name][0].items() if key in known}
    return optix.make_agent(probes.ActionIsSign(), name, **options)


def batch_of(agent):
    """What an agent learns from."""
    random = np.random.default_rng(0)

    def numbers(*lead):
        return jnp.float32(random.normal(size=lead))

    if agent.check_window.__name__ == "<lambda>":  # it learns from rows
        columns = numbers(8, 1), jnp.arange(8) % 2, numbers(8), jnp.full(8, 0.9)
        rows = Transition(*columns, numbers(8, 1))
        return Sample(rows, jnp.arange(8), jnp.ones(8))
    obs, following = numbers(8, 2, 1), numbers(8, 2, 1)
    policy, carry = agent.init(jax.random.key(0)), agent.initial_carry(2)
    told = agent.act(policy, carry, obs[0], agent.hyperparams, jax.random.key(1), True)
    _, action, extras = jax.tree.map(lambda x: jnp.stack([x] * 8), told)
    ended = jnp.asarray(random.random((2, 8, 2)) < 0.2)
    extras = {**extras, "discounted_return": numbers(8, 2)}
    return Trajectory(obs, action, numbers(8, 2), *ended, following, extras)


def free(batch):
    """The same with masks that allow everything."""
    if isinstance(batch, Sample):
        return batch._replace(items=free(batch.items))
    both = {
        name: Masked(obs, jnp.ones((*obs.shape[:-1], 2), bool))
        for name in ("obs", "next_obs")
        for obs in [getattr(batch, name)]
    }
    return batch._replace(**both)


@pytest.mark.parametrize("name", AGENTS)
def test_a_mask_that_allows_everything_changes_no_bit_of_what_is_learned(name):
    agent = agent_of(name)
    policy = agent.init(jax.random.key(0))
    learn = jit(agent.learn)
    batch = batch_of(agent)
    plain, masked = (
        learn(policy, given, agent.hyperparams, jax.random.key(2))
        for given in (batch, free(batch))
    )
    assert bool(plain.finite)
    jax.tree.map(np.testing.assert_array_equal, plain.policy, masked.policy)


@pytest.mark.parametrize("name", [name for name in AGENTS if AGENTS[name][1]])
def test_without_masks_the_program_is_that_of_an_agent_that_knows_none(
    name, monkeypatch
):
    def program():
        agent = agent_of(name)
        policy = jax.eval_shape(agent.init, jax.random.key(0))
        batch = batch_of(agent)
        key = jax.random.key(2)
        return str(jax.make_jaxpr(agent.learn)(policy, batch, agent.hyperparams, key))

    own = program()
    for module in ("ppo", "recurrent_ppo", "impala", "pqn", "recurrent_pqn", "dqn"):
        wraps = {"masked_policy": lambda network, space: network}
        wraps["masked_values"] = lambda network: network
        found = importlib.import_module(f"optix.agents.{module}")
        for wrap, same in wraps.items():
            if hasattr(found, wrap):
                monkeypatch.setattr(found, wrap, same)
    assert program() == own
