"""The best policy of a run as an object that acts."""

import jax
import numpy as np
import pytest

import optix
from optix.checks import OptionError
from optix.loop.loop import loop as loop_of
from optix.make import make
from optix.run.load import LoadedPolicy
from optix.tuners.fixed import fixed
from tests.toys import scripted_learner

SMALL = {"num_envs": 2, "num_steps": 8, "evaluation_episodes": 2, "max_rounds": 1}
OPTIONS = {
    "ppo": {"hidden": (4,), "num_minibatches": 2},
    "recurrent_ppo": {"cell_size": 4, "hidden": (4,), "sequence_length": 4},
    "sac": {"hidden": (4,), "learning_starts": 8, "batch_size": 4, "capacity": 64},
}


@pytest.fixture(scope="module", params=OPTIONS)
def player(request):
    """A policy as `load` returns it, of an environment whose actions have bounds."""
    environment = "CartPole-v1" if request.param == "recurrent_ppo" else "Pendulum-v1"
    loop = make(environment, request.param, **SMALL, **OPTIONS[request.param])
    best = loop.init(jax.random.key(0)).best
    return LoadedPolicy(loop.learner.agent, loop.learner.env, best)


def observations(player, rows):
    shape = (rows, *player.env.observation_shape)
    return np.random.default_rng(0).normal(size=shape)


def test_one_or_many(player):
    obs = observations(player, 3)
    player.reset()
    many = player.act(obs)
    assert isinstance(many, np.ndarray) and len(many) == 3
    for row, action in zip(obs, many, strict=True):
        player.reset()
        one = player.act(row)
        assert one.shape == action.shape
        np.testing.assert_allclose(one, action, rtol=1e-5)


def test_actions_are_those_of_the_environment_itself(player):
    player.reset()
    actions = [player.act(observations(player, 50), explore=True) for _ in range(3)]
    player.reset()
    if player.env.name == "Pendulum-v1":
        assert np.abs(actions).max() <= 2 and np.abs(actions).max() > 1
        assert actions[0].shape == (50, 1)
    else:
        assert set(np.unique(actions)) <= {0, 1}
    assert (np.asarray(actions[0]) != actions[1]).any()  # other draws


def test_what_was_acted_on_is_remembered_until_a_reset(player):
    obs = observations(player, 2)
    remembers = bool(jax.tree.leaves(player.agent.initial_carry(1)))
    player.reset()
    player.act(obs)
    if not remembers:
        player.act(obs[:1])  # any number of rows
        return
    with pytest.raises(OptionError, match=r"remembers 2 rows, got 1; call reset\(\)"):
        player.act(obs[:1])
    before = jax.device_get(player._carry)
    player.reset([True, False])
    fresh = player.agent.initial_carry(2)
    for new, old, zero in zip(
        *map(jax.tree.leaves, (player._carry, before, fresh)), strict=True
    ):
        np.testing.assert_array_equal(new[0], zero[0])
        np.testing.assert_array_equal(new[1], old[1])
        assert (old[0] != zero[0]).any()
    with pytest.raises(OptionError, match="which must be .*B=2"):
        player.reset([True])


@pytest.mark.parametrize("shape", [(), (7,), (2, 7), (1, 2, 3)])
def test_other_shapes_are_refused(player, shape):
    with pytest.raises(OptionError, match="must have the shape"):
        player.act(np.zeros(shape))


@pytest.mark.parametrize(
    "observation",
    [None, "x", {}, {"a": 1}, [[1], [2, 3]], [1j, 0], [None, 1], object()],
)
def test_what_is_no_array_of_numbers_is_refused(player, observation):
    with pytest.raises(OptionError, match="must be an array of real numbers, got"):
        player.act(observation)


@pytest.mark.parametrize("explore", ["x", 1, None])
def test_explore_is_a_switch(player, explore):
    with pytest.raises(OptionError, match="explore must be True or False"):
        player.act(observations(player, 1), explore=explore)


def test_a_run_is_loaded_by_its_folder(tmp_path):
    """As evaluation plays it: the same policy, the same hyperparameters."""
    options = {**SMALL, **OPTIONS["ppo"], "final_scores": 2}
    result = optix.train(
        "CartPole-v1",
        agent="ppo",
        directory=tmp_path / "run",
        progress=False,
        **options,
    )
    player = optix.load(tmp_path / "run")
    assert player.score == result.scores[0]
    best = jax.tree.map(lambda x: x[0], result.state.best)
    for saved, kept in zip(
        *map(jax.tree.leaves, (player.policy, best.policy)), strict=True
    ):
        np.testing.assert_array_equal(saved, kept)
    assert "CartPole-v1" in repr(player)
    obs = np.zeros((3, 4))
    wanted = player.agent.act(
        best.policy, (), obs, best.hyperparams, jax.random.key(0), False
    )[1]
    np.testing.assert_array_equal(player.act(obs), wanted)


def test_no_run_and_no_agent_of_jax(tmp_path):
    with pytest.raises(optix.RunFolderError, match="holds no run"):
        optix.load(tmp_path)
    learner = scripted_learner(lambda windows, key: windows)
    loop = loop_of(learner, fixed(), max_rounds=1)
    optix.train(loop, directory=tmp_path / "run", progress=False)
    with pytest.raises(optix.RunFolderError, match="without an agent or an env"):
        optix.load(tmp_path / "run", loop=loop)
