"""Several of a run's best policies, beside simulation; the command line."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optix
from optix.checks import OptionError
from optix.cli import main
from optix.learners.evaluate import episode_returns
from optix.loop.loop import loop as loop_of
from optix.make import make
from optix.run.folder import RunFolder
from optix.run.playing import fresh_key
from optix.tuners.fixed import fixed
from tests.toys import scripted_learner

SMALL = {
    "num_envs": 2,
    "num_steps": 8,
    "hidden": (4,),
    "evaluation_episodes": 2,
    "max_rounds": 2,
    "num_minibatches": 2,
    "final_scores": 1,
}
SCORES = {1: 80.0, 2: 90.0, 3: 30.0, 5: 95.0}  # {round: score} of what is written


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with diagnostics whose best policies are written by hand, and the policies."""
    directory = tmp_path_factory.mktemp("runs") / "run"
    result = optix.train(
        "CartPole-v1",
        agent="ppo",
        tuner="trust",
        diagnostics=True,
        directory=directory,
        progress=False,
        **SMALL,
    )
    best = jax.tree.map(lambda x: x[0], result.state.best)
    found = {}
    with RunFolder.open(directory, write=True) as folder:
        environment = folder.config["environment"]
        for step in folder.best.steps():
            folder.best._remove([folder.best._path(step)])
        for number in (1, 2, 3, 4, 5):
            scaled = jax.tree.map(
                lambda x, n=number: np.asarray(x) * (2.0 * n - 5), best.policy.params
            )
            found[number] = best._replace(
                policy=best.policy._replace(params=scaled), score=jnp.float32(7)
            )
        written = [(n, 0, n, score, n == 2) for n, score in SCORES.items()]
        # found by another seed, and the reported one, which had been found before
        written += [(4, 1, 4, 94.0, False), (6, 0, 2, 93.0, False)]
        folder.best.max_snapshots = 9
        for step, seed, number, score, final in written:
            about = {"seed": seed, "round": number, "final": final, "rounds": [9]}
            about |= {"environment": environment, "host": {}}
            tree = {"tree": found[number], "host": {}}
            folder.best.save(100 + step, tree, score, about)
    return directory, found


def simulated(agent, env, policies, weights, seed, episodes):
    """Returns of episodes by the mean of softmax in NumPy, environments one by one."""
    act = jax.jit(lambda policy, obs: agent.outputs(policy, (), obs)[1])
    play, reset = jax.jit(env.play), jax.jit(env.reset, static_argnums=1)
    returns = []
    for key in jax.random.split(fresh_key(seed), episodes):
        reset_key, play_key = jax.random.split(key)
        (state, obs), total = reset(reset_key, 1), 0.0
        for step in range(env.time_limit):
            mean = 0.0
            for policy, weight in zip(policies, weights, strict=True):
                odds = np.exp(np.asarray(act(policy, obs), np.float64))
                mean = mean + weight * odds / odds.sum()
            env_key = jax.random.split(jax.random.fold_in(play_key, step))[1]
            state, result = play(env_key, state, mean.argmax(-1))
            total += float(result.reward[0])
            obs = result.next_obs
            if result.terminated[0] or result.truncated[0]:
                break
        returns.append(total)
    return returns


def test_an_ensemble_plays_as_simulation_does(run, capsys):
    directory, found = run
    parts = make("CartPole-v1", "ppo", **SMALL).learner
    # the reported one first, then by score; 30 is out of the band of a tenth
    policies = [found[n].policy for n in (2, 5, 4, 1)]
    for count, members in ((3, policies[:3]), (9, policies[:3])):
        played = optix.evaluate(directory, 3, ensemble=count, seed=5)
        assert played.members == len(members) and played.round == 2
        expected = simulated(
            parts.agent, parts.env, members, [1 / 3] * 3, 5, episodes=3
        )
        np.testing.assert_array_equal(played.scores, expected)
        assert f"ensemble of {len(members)}, best of seed 0" in played.message
    # the same episodes as of the best alone
    alone = optix.evaluate(directory, 3, seed=5)
    expected = simulated(parts.agent, parts.env, policies[:1], [1.0], 5, episodes=3)
    np.testing.assert_array_equal(alone.scores, expected)
    assert alone.members == 1
    assert main(["eval", str(directory), "--episodes", "3", "--ensemble", "3"]) == 0
    assert "ensemble of 3, best of seed 0" in capsys.readouterr().out


def test_an_ensemble_is_loaded_as_an_object(run):
    directory, found = run
    obs = np.random.default_rng(0).normal(size=(20, 4))
    player = optix.load_ensemble(directory, 4, score_band=np.inf, weights=[0, 0, 0, 1])
    # 95, 94, 80 behind the one that was reported
    agent = make("CartPole-v1", "ppo", **SMALL).learner.agent
    logits = agent.outputs(found[1].policy, (), jnp.float32(obs))[1]
    np.testing.assert_array_equal(player.act(obs), np.asarray(logits).argmax(-1))
    assert np.isnan(player.score)
    assert "ensemble of 4, rounds 3, 6, 5, 2" in repr(player)
    assert optix.load_ensemble(directory, 1).origin == "ensemble of 1, rounds 3"


def test_the_average_is_of_one_seed_and_no_worse_than_the_best(run):
    directory, found = run
    player = optix.load_average(directory, 4, score_band=np.inf, episodes=4)
    parts = make("CartPole-v1", "ppo", **SMALL).learner
    mean = jax.tree.map(
        lambda *x: np.mean(x, 0), *(found[n].policy.params for n in (1, 2, 5))
    )
    best = found[2].policy
    one = jax.jit(episode_returns(parts.agent, parts.env, episodes=1))

    def returns(params):
        policy = best._replace(params=params)
        return np.concatenate(
            [one(policy, {}, key) for key in jax.random.split(fresh_key(0), 4)]
        )

    own, its = returns(best.params).mean(), returns(mean).mean()
    kept = mean if its >= own else best.params
    for x, y in zip(
        jax.tree.leaves(player.policy.params), jax.tree.leaves(kept), strict=True
    ):
        np.testing.assert_allclose(x, y, rtol=1e-5)
    assert player.score == pytest.approx(max(own, its))
    assert "average of 3, rounds 2, 3, 6" in player.origin
    assert f"{its:.5g} beside {own:.5g}" in player.origin
    # of one policy there is no average
    alone = optix.load_average(directory, 1, episodes=2)
    assert alone.origin.startswith("the best one, kept before the average of 1")


def test_diagnostics_and_the_picture_are_part_of_a_run(run):
    directory, _ = run
    recipe = json.loads((directory / "run.json").read_text())["recipe"]
    assert recipe["options"]["diagnostics"] is True
    assert (directory / "hyperparams.png").stat().st_size > 5000  # trust has moved
    options = {**SMALL, "tuner": "fixed", "progress": False}
    result = optix.train("CartPole-v1", directory=directory.parent / "fixed", **options)
    assert result.hyperparams is None


def test_what_can_not_be_done_is_one_clear_error(run, tmp_path, capsys):
    directory, _ = run
    with pytest.raises(OptionError, match="ensemble must be an integer"):
        optix.evaluate(directory, ensemble=0)
    with pytest.raises(OptionError, match="top_k must be an integer"):
        optix.load_ensemble(directory, 0)
    with pytest.raises(OptionError, match="score_band must be in"):
        optix.load_ensemble(directory, score_band=-1.0)
    with pytest.raises(OptionError, match="weights must be one for each of the 2"):
        optix.load_ensemble(directory, 2, weights=[1.0])
    with pytest.raises(OptionError, match="episodes must be an integer >= 2"):
        optix.load_average(directory, episodes=1)
    with pytest.raises(optix.RunFolderError, match="holds no run"):
        optix.load_average(tmp_path)
    assert main(["eval", str(directory), "--ensemble", "0"]) == 2
    assert "ensemble must be an integer" in capsys.readouterr().err
    learner = scripted_learner(lambda windows, key: windows)
    toy = loop_of(learner, fixed(), max_rounds=1)
    optix.train(toy, directory=tmp_path / "toy", progress=False)
    for load in (optix.load_ensemble, optix.load_average):
        with pytest.raises(optix.RunFolderError, match="without an agent or an env"):
            load(tmp_path / "toy", loop=toy)
