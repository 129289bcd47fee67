"""One update of PPO against NumPy; its flags and hyperparameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit
from scipy import special, stats

from optix.agents.distributions import categorical
from optix.agents.ppo import Batch, loss, ppo
from optix.math.running import standardize
from optix.types import Discrete
from tests.agents.ppo_reference import (
    ACTIONS,
    FLOATS,
    INPUTS,
    B,
    T,
    assert_trees,
    build,
    floats,
    linear,
    slow_loss,
    slow_update,
    versioned_sgd,
)


@pytest.mark.parametrize("max_grad_norm", [0.01, 100.0])
def test_an_update_is_the_one_of_numpy(learn, policy, window, max_grad_norm):
    changed = {"max_grad_norm": max_grad_norm}
    learned = learn(policy, window, floats(**changed), jax.random.key(0))
    new, info = learned.policy, learned.info
    expected = slow_update(policy, window, {**FLOATS, **changed})
    step = jax.tree.map(lambda x, y: np.asarray(x, np.float64) - y, new, policy).params
    expected_step = {n: expected[n] - policy.params[n] for n in expected}
    assert_trees(step, expected_step, rtol=1e-4, atol=1e-6)
    assert learned.finite and 0.1 < info["clip_fraction"] < 0.9


def test_the_normalisers_see_the_window(learn, policy, window):
    new, *_ = learn(policy, window, floats(), jax.random.key(0))
    extras, old = new.extras, policy.extras
    assert extras.updates == 11
    obs = np.asarray(window.obs, np.float64).reshape(-1, INPUTS)
    discounted = np.asarray(window.extras["discounted_return"], np.float64).ravel()
    for new_moments, before, rows in [
        (extras.observations, old.observations, obs),
        (extras.returns, old.returns, discounted),
    ]:
        n, m = 50, T * B
        mean = (n * np.asarray(before.mean) + m * rows.mean(0)) / (n + m)
        second = n * (np.asarray(before.variance) + np.asarray(before.mean) ** 2)
        second = (second + (rows**2).sum(0)) / (n + m)
        assert new_moments.count == n + m
        np.testing.assert_allclose(new_moments.mean, mean, rtol=1e-5)
        np.testing.assert_allclose(new_moments.variance, second - mean**2, rtol=1e-5)


@pytest.mark.parametrize("clip_values", [True, False])
def test_loss(clip_values):
    rng = np.random.default_rng(3)
    n = 60
    logits, value = rng.normal(size=(n, ACTIONS)), rng.normal(size=n)
    action = rng.integers(ACTIONS, size=n)
    advantage, old_value = 2 + 3 * rng.normal(size=n), value + 0.3 * rng.normal(size=n)
    log_prob = special.log_softmax(logits, -1)[np.arange(n), action]
    log_prob = log_prob + 0.3 * rng.normal(size=n)
    args = (logits, value, action, log_prob, advantage, old_value)
    total, info = slow_loss(*args, FLOATS)
    if not clip_values:
        plain = np.mean((value - advantage - old_value) ** 2) / 2
        total += FLOATS["value_coefficient"] * (plain - info["value_loss"])
        assert plain < info["value_loss"]
        info["value_loss"] = plain
    batch = Batch(np.zeros((n, 1)), action, log_prob, advantage, old_value)
    got, got_info = jit(loss, static_argnums=(3, 4))(
        (logits, value), batch, FLOATS, categorical, clip_values
    )
    np.testing.assert_allclose(got, total, rtol=1e-4)
    assert got_info.keys() == info.keys()
    assert_trees(got_info, info, rtol=1e-4, atol=1e-6)
    assert 0.1 < info["clip_fraction"] < 0.9


def test_an_observation_of_a_window_is_looked_at_once_before_the_updates(
    policy, window
):
    """Its value serves as that of what followed the step before it."""
    rows = []

    def apply(params, structure, carry, obs):
        rows.append(obs.shape[:-1])
        return linear(INPUTS, ACTIONS).apply(params, structure, carry, obs)

    network = linear(INPUTS, ACTIONS)._replace(apply=apply)
    options = {"num_epochs": 1, "num_minibatches": 4, "optimizer": versioned_sgd}
    agent = ppo(network, (INPUTS,), Discrete(ACTIONS), **options)
    jax.eval_shape(agent.learn, policy, window, floats(), jax.random.key(0))
    # a part of the window, a step of every environment, a minibatch; and one row, by
    # which the factory checks the network
    assert set(rows) - {(1,)} == {(T * B // 4,), (B,)}


def test_minibatches_that_do_not_divide_are_refused(policy, window):
    agent = build(num_minibatches=5)
    with pytest.raises(ValueError, match="divisible by num_minibatches=5, got 48"):
        jax.eval_shape(agent.learn, policy, window, floats(), jax.random.key(0))


# flags and hyperparameters


def test_learning_rates_side_by_side_without_another_trace(learn, policy, window):
    """`learn` itself was compiled for the rates one by one, and traced once."""
    rates = (0.1, 0.2)
    key = jax.random.key(0)
    alone = [learn(policy, window, floats(learning_rate=r), key)[0] for r in rates]
    axes = {name: 0 if name == "learning_rate" else None for name in FLOATS}
    vmapped = jit(jax.vmap(build().learn, in_axes=(None, None, axes, None)))
    hyperparams = floats(learning_rate=jnp.array(rates))
    both, *_ = vmapped(policy, window, hyperparams, key)
    for i, one in enumerate(alone):
        row = jax.tree.map(lambda x, i=i: x[i], both)
        assert_trees(row, one, rtol=1e-4, atol=1e-5)
    steps = [one.params["bias"] - policy.params["bias"] for one in alone]
    # within an ulp of the parameters whose difference a step is
    ulp = np.spacing(np.abs(policy.params["bias"]).max())
    np.testing.assert_allclose(steps[1], 2 * steps[0], rtol=1e-4, atol=ulp)


def test_no_learning_rate_no_change(learn, policy, own_window):
    new, info, *_ = learn(
        policy, own_window, floats(learning_rate=0.0), jax.random.key(0)
    )
    assert_trees(new.params, policy.params, rtol=0)
    np.testing.assert_allclose(info["kl"], 0, atol=1e-6)
    assert info["clip_fraction"] == 0
    assert new.extras.updates == policy.extras.updates + 1  # the normalisers go on


def test_actions_are_drawn_from_the_policy(policy):
    agent = build()
    obs = jnp.broadcast_to(jnp.array([1.0, -1.0, 0.3]), (4000, INPUTS))
    act = jit(agent.act, static_argnums=5)
    _, action, extras = act(policy, (), obs, {}, jax.random.key(0), True)
    view = standardize(policy.extras.observations, obs[0])
    logits = (view @ policy.params["kernel"] + policy.params["bias"])[:ACTIONS]
    chances = special.softmax(np.asarray(logits, np.float64))
    counts = np.bincount(action, minlength=ACTIONS)
    assert stats.chisquare(counts, 4000 * chances).pvalue > 1e-3
    np.testing.assert_allclose(extras["log_prob"], np.log(chances)[action], rtol=1e-4)
    _, mode, nothing = act(policy, (), obs, {}, jax.random.key(0), False)
    np.testing.assert_array_equal(mode, chances.argmax())
    assert nothing == {}


@pytest.mark.parametrize("where", ["reward", "obs", "log_prob"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_changes_nothing(learn, policy, window, where, value):
    if where == "log_prob":
        log_prob = window.extras["log_prob"].at[2, 1].set(-value)
        batch = window._replace(extras={**window.extras, "log_prob": log_prob})
    else:
        spoilt = getattr(window, where).at[2, 1].set(value)
        batch = window._replace(**{where: spoilt})
    new, _, finite, _ = learn(policy, batch, floats(), jax.random.key(0))
    if where == "obs" and value == np.inf:
        # standardised observations are clipped: what is too large is only large
        assert finite and np.isfinite(new.params["kernel"]).all()
        return
    assert not finite
    assert_trees(new, policy, rtol=0)


def test_a_divergence_that_is_not_finite_is_no_quiet_stop(policy, window):
    """A NaN never passes a limit, so no update would ever be tried."""
    learn = jit(build(target_kl=0.1).learn)
    batch = window._replace(obs=window.obs.at[2, 1].set(jnp.nan))
    hyperparams = floats(target_kl=0.1)
    new, _, finite, _ = learn(policy, batch, hyperparams, jax.random.key(0))
    assert not finite
    assert_trees(new, policy, rtol=0)


def test_target_kl_ends_the_updates(learn, policy, own_window):
    """Four epochs that must end after the first are one epoch."""
    key, large = jax.random.key(0), {"learning_rate": 1.0}
    one, *_ = learn(policy, own_window, floats(**large), key)
    many = jit(build(num_epochs=4, target_kl=0.01).learn)
    stopped, info, *_ = many(policy, own_window, floats(target_kl=1e-4, **large), key)
    assert_trees(stopped, one, rtol=1e-4, atol=1e-5)
    assert info["kl"] > 1e-4
    free, *_ = many(policy, own_window, floats(target_kl=1e9, **large), key)
    apart = np.abs(free.params["kernel"] - one.params["kernel"]).max()
    moved = np.abs(one.params["kernel"] - policy.params["kernel"]).max()
    assert apart > 0.3 * moved
    assert build(target_kl=0.01).hyperparams["target_kl"] == 0.01
    assert "target_kl" not in build().hyperparams


def test_decay_reaches_zero(learn, policy, window):
    decaying = jit(build(decay_over=20).learn)
    key = jax.random.key(0)

    def after(updates, learn, rate=0.1):
        extras = policy.extras._replace(updates=jnp.int32(updates))
        start = policy._replace(extras=extras)
        return learn(start, window, floats(learning_rate=rate), key)[0].params

    for updates, fraction in [(0, 1.0), (5, 0.75), (10, 0.5), (19, 0.05)]:
        expected = after(0, learn, 0.1 * fraction)
        assert_trees(after(updates, decaying), expected, rtol=1e-5, atol=1e-6)
    for updates in (20, 21, 1000):
        assert_trees(after(updates, decaying), policy.params, rtol=0)


def test_the_optimizer_is_told_the_structure(learn, policy, window):
    key = jax.random.key(0)
    one, *_ = learn(policy, window, floats(), key)
    two, *_ = learn(policy._replace(structure=jnp.float32(2)), window, floats(), key)
    steps = [new.params["kernel"] - policy.params["kernel"] for new in (one, two)]
    np.testing.assert_allclose(steps[1], 2 * steps[0], rtol=1e-3, atol=1e-6)


def test_minibatches_cover_the_window_once(policy, window):
    """Gradients without any curvature add up: each sample counts once an epoch."""
    options = {"normalize_observations": False, "clip_values": False}
    agent = build(num_epochs=1, num_minibatches=4, **options)
    hyperparams = floats(
        value_coefficient=1.0,
        entropy_coefficient=0.0,
        clip_ratio=0.0,
        learning_rate=1e-4,
    )
    hyperparams["max_grad_norm"] = jnp.float32(1e9)
    # no ratio is within [1, 1]; those beyond the clipped side leave the value alone
    new, *_ = jit(agent.learn)(policy, window, hyperparams, jax.random.key(0))
    whole, *_ = jit(build(**options).learn)(
        policy, window, {**hyperparams, "learning_rate": 4e-4}, jax.random.key(0)
    )
    kernels = [np.asarray(x.params["kernel"][:, -1], np.float64) for x in (new, whole)]
    start = np.asarray(policy.params["kernel"][:, -1], np.float64)
    np.testing.assert_allclose(kernels[0] - start, kernels[1] - start, rtol=0.02)
