"""Policies that act as one, beside each of them by itself and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optix
from optix.checkpoints.registry import CheckpointRegistry
from optix.checks import OptionError
from optix.envs.device import device
from optix.host.jax_agent import as_base_agent
from optix.learners.evaluate import episode_returns
from optix.population.duties import Policies
from optix.population.ensemble import acting, ensemble, join, stack
from optix.population.weighting import shares
from optix.run.load import LoadedPolicy
from optix.types import Agent, Best, Box, Discrete
from tests import probes

KEY = jax.random.key(0)
OBS = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
KINDS = {
    "ppo": ("CartPole-v1", Discrete(2), {}),
    "recurrent_ppo": ("CartPole-v1", Discrete(2), {"cell_size": 3}),
    "dqn": ("CartPole-v1", Discrete(2), {}),
    "td3": ("Pendulum-v1", Box((1,)), {}),
}


def policies_of(agent, count=3, scale=3.0):
    """Policies that differ: parameters of a fresh one are too small to tell apart."""

    def one(key):
        policy = agent.init(key)
        return policy._replace(params=jax.tree.map(lambda x: scale * x, policy.params))

    return jax.jit(lambda keys: jax.lax.map(one, keys))(jax.random.split(KEY, count))


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    """Agent, its action space, three policies of it, and some observations."""
    environment, space, options = KINDS[request.param]
    agent = optix.make_agent(environment, request.param, hidden=(4,), **options)
    obs = OBS if environment == "CartPole-v1" else OBS[:, :3]
    return agent, space, policies_of(agent), obs


OUTPUTS = jax.jit(lambda outputs, *given: outputs(*given), static_argnums=0)


def alone(agent, policies, member, carry, obs):
    """What a member says by itself: probabilities of discrete actions, or an action."""
    policy = jax.tree.map(lambda x: x[member], policies)
    after, out = OUTPUTS(agent.outputs, policy, carry, obs)
    out = np.asarray(out, np.float64)
    if agent.output_names == ("logits",):
        odds = np.exp(out - out.max(-1, keepdims=True))
        out = odds / odds.sum(-1, keepdims=True)
    elif agent.output_names == ("q_values",):
        out = np.eye(out.shape[-1])[out.argmax(-1)]
    return after, out


def test_the_weighted_mean_of_what_those_alive_say(kind):
    """Two steps, so that a memory counts; the member that is dead holds NaN."""
    agent, space, policies, obs = kind
    broken = policies._replace(
        params=jax.tree.map(lambda x: x.at[1].set(jnp.nan), policies.params)
    )
    three = ensemble(agent, space, 3)
    outputs, act = jax.jit(three.outputs), jax.jit(three.act, static_argnums=5)
    carries = [agent.initial_carry(6), None, agent.initial_carry(6)]
    carry = three.initial_carry(6)
    policy = join(agent, broken, [1.0, 5.0, 3.0], alive=[True, False, True])
    for shown in (obs, obs[::-1]):
        said = {}
        for member in (0, 2):
            after = alone(agent, policies, member, carries[member], shown)
            carries[member], said[member] = after
        mean = 0.25 * said[0] + 0.75 * said[2]
        action = act(policy, carry, shown, {}, KEY, False)[1]
        carry, found = outputs(policy, carry, shown)
        if isinstance(space, Discrete):
            np.testing.assert_allclose(np.exp(found), mean, atol=1e-6)
            np.testing.assert_array_equal(action, mean.argmax(-1))
        else:
            np.testing.assert_allclose(found, mean, atol=1e-6)
            np.testing.assert_array_equal(action, found)
    for member in (0, 2):
        for whole, own in zip(
            jax.tree.leaves(carry), jax.tree.leaves(carries[member]), strict=True
        ):
            np.testing.assert_allclose(whole[:, member], own, atol=1e-6)
            assert np.any(own)
    # by its parameters too, without anybody saying that it is dead
    found = join(agent, broken, [1.0, 5.0, 3.0]).extras.share
    np.testing.assert_allclose(found, [0.25, 0, 0.75])


def test_exploring_draws_from_the_mean_probabilities():
    agent = optix.make_agent("CartPole-v1", "ppo", hidden=(4,))
    policies = policies_of(agent, 2)
    both = ensemble(agent, Discrete(2), 2)
    policy = join(agent, policies, [1.0, 3.0])
    rows = np.repeat(OBS[:1], 4000, 0)
    drawn = jax.jit(both.act, static_argnums=5)(policy, (), rows, {}, KEY, True)[1]
    said = [alone(agent, policies, m, (), OBS[:1])[1][0, 1] for m in range(2)]
    wanted = 0.25 * said[0] + 0.75 * said[1]
    assert abs(said[0] - said[1]) > 0.1
    assert abs(np.mean(drawn) - wanted) < 4 * np.sqrt(0.25 / 4000)


def test_members_explore_by_their_own_hyperparameters():
    """One that is greedy, and one that draws all its actions by chance."""
    agent = optix.make_agent("CartPole-v1", "dqn", hidden=(4,))
    policies = policies_of(agent, 2)
    rates = {"epsilon_start": jnp.array([0.0, 1.0])}
    both = ensemble(agent, Discrete(2), 2)
    policy = join(agent, policies, [3.0, 1.0], hyperparams=rates)
    rows = np.repeat(OBS[:1], 4000, 0)
    drawn = jax.jit(both.act, static_argnums=5)(policy, (), rows, {}, KEY, True)[1]
    greedy = alone(agent, policies, 0, (), OBS[:1])[1][0]
    wanted = 0.75 * greedy[1] + 0.25 * 0.5
    assert abs(np.mean(drawn) - wanted) < 4 * np.sqrt(0.25 / 4000)


def test_exploring_in_a_box_is_the_mean_of_what_is_drawn():
    agent = optix.make_agent("Pendulum-v1", "td3", hidden=(4,))
    both = ensemble(agent, Box((1,)), 2)
    policies = policies_of(agent, 2, scale=0.3)
    noise = {"exploration_noise": jnp.array([0.0, 0.2])}
    policy = join(agent, policies, [1.0, 1.0], hyperparams=noise)
    rows = np.repeat(OBS[:1, :3], 4000, 0)
    act = jax.jit(both.act, static_argnums=5)
    drawn, still = (act(policy, (), rows, {}, KEY, flag)[1] for flag in (True, False))
    assert abs(np.mean(drawn) - still[0, 0]) < 0.01
    assert abs(np.std(drawn) - 0.1) < 0.01


def test_policies_of_a_population_act_by_their_weights():
    agent = optix.make_agent("CartPole-v1", "ppo", hidden=(4,))
    several = Policies(
        policies_of(agent, 3),
        jnp.array([0.25, 0.75, 0.0]),
        jnp.array([True, True, False]),
        {"clip_ratio": jnp.array([0.1, 0.2, 0.3]), "topology/limit": jnp.ones(3)},
    )
    policy = jax.jit(lambda several: acting(agent, several))(several)
    np.testing.assert_allclose(policy.extras.share, several.weights)
    hyperparams = policy.extras.hyperparams
    np.testing.assert_allclose(hyperparams["clip_ratio"], [0.1, 0.2, 0.3])
    assert set(hyperparams) == set(agent.hyperparams)


@pytest.mark.parametrize(
    ("weights", "alive", "expected"),
    [
        ([1, 3], [True, True], [0.25, 0.75]),
        ([1, 3], [True, False], [1, 0]),
        ([0, 0], [True, True], [0.5, 0.5]),
        ([np.nan, np.inf], [True, True], [0.5, 0.5]),
        ([-1, 2], [True, True], [0, 1]),
        ([0, 2], [True, False], [1, 0]),
        ([1, 1], [False, False], [0.5, 0.5]),
        ([3e38, 3e38], [True, True], [0.5, 0.5]),
        ([1e-30, 3e-30], [True, True], [0.25, 0.75]),
    ],
)
def test_traced_weights_always_sum_to_one(weights, alive, expected):
    found = jax.jit(shares)(jnp.float32(weights), jnp.array(alive))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_seeds_with_other_weights_in_one_program():
    agent = optix.make_agent("CartPole-v1", "ppo", hidden=(4,))
    policies, both = policies_of(agent, 2), ensemble(agent, Discrete(2), 2)
    weights = jnp.array([[1.0, 0.0], [1.0, 3.0]])

    def say(weights):
        return both.outputs(join(agent, policies, weights), (), OBS)[1]

    found = jax.jit(jax.vmap(say))(weights)
    for row, own in enumerate(weights):
        np.testing.assert_allclose(found[row], say(own), atol=1e-6)
    first = np.log(alone(agent, policies, 0, (), OBS)[1])
    np.testing.assert_allclose(found[0], first, atol=1e-5)


def test_episodes_of_an_ensemble_have_the_value_of_what_it_does():
    """A member that always errs is outvoted: 1, where it alone would earn -1."""
    env = device(probes.ActionIsSign())

    def act(policy, carry, obs, hyperparams, key, explore):
        return carry, (policy.params * obs[:, 0] > 0).astype(jnp.int32), {}

    def init(key):
        return optix.types.Policy(jnp.float32(1))

    agent = Agent(init, lambda batch: (), act, lambda *_: None, {"discount": 1.0})
    policies = optix.types.Policy(jnp.array([1.0, -1.0, 1.0]))
    three = ensemble(agent, Discrete(2), 3)
    play = jax.jit(episode_returns(three, env, episodes=16))
    for weights, value in (([1, 1, 1], 1.0), ([1, 3, 1], -1.0), ([0, 0, 9], 1.0)):
        returns = play(join(agent, policies, weights), {}, KEY)
        np.testing.assert_array_equal(returns, np.full(16, value))
    # exploring it errs as often as that member has a share
    loose = episode_returns(three, env, episodes=4000, deterministic=False)
    mean = jax.jit(loose)(join(agent, policies, [1, 2, 1]), {}, KEY).mean()
    assert abs(mean) < 4 / np.sqrt(4000)


@pytest.mark.parametrize("kind", ["recurrent_ppo", "td3"], indirect=True)
def test_it_is_saved_played_and_exported_as_any_other(kind, tmp_path):
    agent, space, policies, obs = kind
    three = ensemble(agent, space, 3)
    policy = join(agent, policies, [1.0, 2.0, 3.0])
    registry = CheckpointRegistry(tmp_path / "best")
    registry.save(1, policy, 3.0)
    target = jax.eval_shape(three.init, KEY)
    back, _ = registry.load_best(target)
    assert jax.tree.structure(back) == jax.tree.structure(policy)
    env = device("Pendulum-v1" if isinstance(space, Box) else "CartPole-v1")
    best = Best(back, (), three.hyperparams, np.float32(3), np.float32(3), np.int32(0))
    player = LoadedPolicy(three, env, best)
    act = jax.jit(three.act, static_argnums=5)
    expected = act(policy, three.initial_carry(6), obs, {}, KEY, False)[1]
    if env.decode is not None:
        expected = jax.vmap(env.decode)(expected)
    played = player.act(obs)
    np.testing.assert_allclose(played, expected, rtol=1e-6)
    host = as_base_agent(three)
    host.policy = policy
    if isinstance(space, Discrete):
        out = three.outputs(policy, three.initial_carry(1), obs[:1])[1][0]
        np.testing.assert_allclose(host.action_probs(obs[0]), np.exp(out), atol=1e-6)
    pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    player.export_onnx(tmp_path / "policy.onnx")
    model = ReferenceEvaluator(str(tmp_path / "policy.onnx"))
    given = {"observation": obs}
    for name in model.input_names:
        if name != "observation":
            (leaf,) = jax.tree.leaves(three.initial_carry(6))
            given[name] = np.asarray(leaf)
    action = dict(zip(model.output_names, model.run(None, given), strict=True))[
        "action"
    ]
    np.testing.assert_allclose(action, played, atol=1e-5)


AGENT = optix.make_agent("CartPole-v1", "ppo", hidden=(2,))


def shapes(agent=AGENT, count=2):
    return jax.tree.map(
        lambda x: jnp.zeros((count, *x.shape), x.dtype), jax.eval_shape(agent.init, KEY)
    )


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: ensemble("ppo", Discrete(2), 2), OptionError, "agent must be a Agent"),
        (lambda: ensemble(AGENT, 2, 2), OptionError, "action_space must be a Discrete"),
        (
            lambda: ensemble(AGENT, Discrete(2), 0),
            OptionError,
            "members must be an int",
        ),
        (lambda: join(AGENT, shapes(), [1.0]), OptionError, "each of the 2 policies"),
        (lambda: join(AGENT, shapes(), [1, -1]), OptionError, "a weight must be"),
        (lambda: join(AGENT, shapes(), [np.nan, 1]), OptionError, "a weight must be"),
        (lambda: join(AGENT, shapes(), [0, 0]), OptionError, "must not all be zero"),
        (
            lambda: join(AGENT, shapes(), [0, 1], alive=[True, False]),
            OptionError,
            "must not all be zero of those alive",
        ),
        (lambda: join(AGENT, shapes(), alive=[True]), OptionError, "alive must be one"),
        (
            lambda: join(AGENT, shapes(), hyperparams={"discont": 1.0}),
            OptionError,
            "did you mean 'discount'",
        ),
        (lambda: join(AGENT, 3), OptionError, "policies must be a Policy"),
        (lambda: join(AGENT, AGENT.init(KEY)), OptionError, "one leading axis"),
        (lambda: stack([]), OptionError, "at least one, got none"),
        (lambda: stack([3]), OptionError, "each of policies must be a Policy"),
        (
            lambda: stack(
                [
                    optix.make_agent("CartPole-v1", hidden=h).init(KEY)
                    for h in ((2,), (3,))
                ]
            ),
            OptionError,
            r"policies must be of one network, but .* is float32\[",
        ),
        (
            lambda: stack(
                [
                    optix.make_agent("CartPole-v1", hidden=h).init(KEY)
                    for h in ((2,), (2, 2))
                ]
            ),
            OptionError,
            "policy 1 has other parts than policy 0",
        ),
        (
            lambda: ensemble(AGENT, Discrete(2), 2).learn(None, None, {}, KEY),
            NotImplementedError,
            "plays and does not learn",
        ),
    ],
)
def test_one_clear_error(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
