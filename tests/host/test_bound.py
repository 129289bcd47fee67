"""A JAX agent in the loop over a pipeline's environments: it learns there itself."""

import gymnasium
import jax
import numpy as np
import pytest

import optix
from optix.envs.hosted import hosted
from optix.host import (
    BatchPipeline,
    LivePipeline,
    VectorBatchPipeline,
    as_base_agent,
    host,
)
from optix.host.jax_agent import JaxAgent
from optix.learners.off_policy import off_policy
from optix.learners.on_policy import on_policy
from optix.loop.loop import loop
from optix.tuners.fixed import fixed
from optix.tuners.spsa import spsa

SMALL = {"hidden": (4,), "num_epochs": 1, "num_minibatches": 1}
ROUNDS = {"max_rounds": 2, "final_scores": 1, "windows_per_round": 1}


def cartpole():
    return gymnasium.make("CartPole-v1")


def ppo(**options):
    return as_base_agent(optix.make_agent("CartPole-v1", **SMALL, **options), cartpole)


def pipeline(**options):
    return BatchPipeline(cartpole, window_size=16, max_episode_steps=20, **options)


class NeverPlayed(JaxAgent):
    """An agent that no callback may ask."""

    def act_batch(self, observations, explore=True):
        raise AssertionError("a callback computes with JAX")

    act = learn = act_batch


def leaves(tree):
    return [np.asarray(x) for x in jax.tree.leaves(tree)]


def same(first, second):
    pairs = zip(leaves(first), leaves(second), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("kind", ["on_policy", "off_policy"])
def test_it_learns_what_the_learner_of_the_environments_does(kind):
    pipes = VectorBatchPipeline([cartpole] * 2, window_size=8)
    env = hosted("CartPole-v1", vector=pipes._make)
    sizes = {"num_envs": 2, "num_steps": 8, "evaluation_episodes": 2}
    if kind == "on_policy":
        agent, options = optix.make_agent("CartPole-v1", **SMALL), {}
        plain = on_policy(agent, env, **sizes)
    else:
        agent = optix.make_agent("CartPole-v1", "dqn", hidden=(4,))
        options = {"learning_starts": 4, "batch_size": 4, "n_step": 2, "capacity": 64}
        plain = off_policy(agent, env, gradient_steps=2, **sizes, **options)
    base = NeverPlayed(agent, cartpole, **options)
    learner = host(base, pipes, evaluation_episodes=2)
    assert learner.agent is agent and base.learner == kind
    states = []
    for one in (learner, plain):
        step, state = jax.jit(one.step), one.init(jax.random.key(0))
        for n in range(2):
            state, _ = step(state, one.hyperparams, jax.random.key(n), True)
        states.append(state)
    assert same(states[0].policy, states[1].policy)
    assert same(states[0].memory, states[1].memory)
    assert not same(
        states[0].policy.params, plain.init(jax.random.key(0)).policy.params
    )
    pipes.close()


@pytest.fixture(scope="module")
def two_seeds(tmp_path_factory):
    """A run of two seeds: the agent, the learner, its result, the loop."""
    pipes = pipeline()
    agent = ppo()
    learner = host(agent, pipes, evaluation_episodes=2, metrics=("kl",))
    first, run = agent.policy, loop(learner, fixed(), **ROUNDS)
    folder = tmp_path_factory.mktemp("bound") / "run"
    result = optix.train(run, seeds=2, progress=False, directory=folder)
    yield agent, learner, result, first, pipes, run
    pipes.close()


def test_seeds_begin_with_weights_of_their_own_and_the_agent_gets_the_best(two_seeds):
    agent, learner, result, first, pipes, _ = two_seeds
    best = [jax.tree.map(lambda x, i=i: x[i], result.state.best) for i in range(2)]
    assert not same(best[0].policy.params, best[1].policy.params)
    assert same(agent.policy, first)  # not before it is asked for
    for one in best:
        assert learner.host.agent_of(one.policy) is agent
        assert same(agent.policy, one.policy) and not agent.untouched
        assert 1 <= pipes.evaluate(agent, 0, 2) <= 20
    with pytest.raises(ValueError, match="it is of another network or agent"):
        learner.host.agent_of(result.state.best.policy)  # of both seeds


def test_a_round_has_as_many_windows_as_evaluation_allows(two_seeds):
    _, learner, *_ = two_seeds
    # 2 episodes of at most 20 steps are 15 % of 267 steps, windows of 16
    assert learner.windows_per_round == 15


def test_a_run_is_kept_and_loaded_as_a_policy(two_seeds):
    _, _, result, _, _, run = two_seeds
    policy = optix.load(result.directory, loop=run)
    assert policy.score == result.scores.max()
    assert policy.act(np.zeros(4)) in (0, 1)


def test_weights_that_were_learned_or_loaded_begin_all_seeds():
    agent, pipes = ppo(), pipeline()
    agent.perturb_weights(0.5)
    learner = host(agent, pipes, evaluation_episodes=1)
    given = agent.policy
    agent.perturb_weights(0.5)  # what follows is no matter of the learner
    for seed in range(2):
        state = learner.init(jax.random.key(seed))
        assert same(state.policy, given)
    pipes.close()


def test_hyperparameters_set_before_are_those_of_the_run():
    agent, pipes = ppo(), pipeline()
    agent.set_hyperparams(optix.HyperparamSet({"clip_ratio": 0.4}))
    assert host(agent, pipes).hyperparams["clip_ratio"] == 0.4
    pipes.close()


@pytest.mark.parametrize("fresh", [False, True])
def test_episodes_go_on_unless_windows_are_to_be_fresh(fresh):
    pipes = VectorBatchPipeline([cartpole], window_size=2)
    learner = host(ppo(), pipes, fresh=fresh)
    step = jax.jit(learner.step)
    state, firsts = learner.init(jax.random.key(0)), []
    for n in range(4):
        state, report = step(state, learner.hyperparams, jax.random.key(n), True)
        firsts.append(np.asarray(report.trajectory.obs)[0, 0])
    # an episode begins within 0.05 of the middle
    begins = [np.abs(first).max() <= 0.05 for first in firsts]
    assert all(begins) if fresh else begins == [True, False, False, False]
    pipes.close()


def test_another_pipeline_validates_and_decides():
    pipes, held_out = pipeline(), BatchPipeline(cartpole, max_episode_steps=3)
    learner = host(ppo(), pipes, validation=held_out, evaluation_episodes=2)
    state = learner.init(jax.random.key(0))
    score = jax.jit(learner.evaluate)(
        state.policy, learner.hyperparams, jax.random.key(1)
    )
    assert score == 3
    pipes.close()
    held_out.close()


def test_two_lanes_of_a_tuner():
    pipes = pipeline()
    learner = host(ppo(), pipes, evaluation_episodes=1)
    run = loop(learner, spsa({"learning_rate": (1e-4, 1e-2)}), **ROUNDS)
    state, report = jax.jit(run.step)(run.init(jax.random.key(0)))
    assert report.lane_scores.shape == (2,) and np.isfinite(report.lane_scores).all()
    rates = report.hyperparams["learning_rate"]
    assert rates[0] != rates[1] and int(state.env_steps) == 32
    pipes.close()


def test_the_exception_of_an_environment_is_its_own():
    class Broken(gymnasium.Wrapper):
        def step(self, action):
            raise OSError("the arm is stuck")

    pipes = BatchPipeline(lambda: Broken(cartpole()), window_size=16)
    learner = host(ppo(), pipes)
    state = learner.init(jax.random.key(0))
    with pytest.raises(jax.errors.JaxRuntimeError):
        jax.block_until_ready(
            jax.jit(learner.step)(state, learner.hyperparams, jax.random.key(0), True)
        )
    with pytest.raises(OSError, match="the arm is stuck"):
        learner.host.raise_if_failed()
    pipes.close()


def test_an_optimizer_leaves_the_best_in_the_agent():
    agent, pipes = optix.FlaxPPOAgent(4, 2, {"num_minibatches": 1}, 4), pipeline()
    opt = optix.RLOptimizer(
        agent,
        pipes,
        max_episodes=2,
        windows_per_round=1,
        evaluation_episodes=1,
        final_scores=1,
        progress=False,
    )
    result = opt.run()
    best = jax.tree.map(lambda x: x[0], result.state.best.policy)
    assert same(agent.policy, best)
    again = optix.FlaxPPOAgent(4, 2, {"num_minibatches": 1}, 4)
    again.load_weights(opt.best_snapshot.weights_path)
    assert same(again.policy, best)
    pipes.close()


class Wrapped(gymnasium.Wrapper):
    """Nobody knows how this one was made."""

    spec = None


class Feed:
    def stream(self):
        yield from ()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: host(ppo(), LivePipeline(Feed())),
            "must be a BatchPipeline or a Vect",
        ),
        (
            lambda: host(ppo(), pipeline(whole_episodes=True)),
            "whole_episodes must be Fa",
        ),
        (lambda: host(ppo(), BatchPipeline(Wrapped(cartpole()))), "pass a function"),
        (
            lambda: host(ppo(), pipeline(), validation=LivePipeline(Feed())),
            "validation must be a BatchPipeline",
        ),
        (
            lambda: host(ppo(), pipeline(), metrics=("klm",)),
            "unknown metric of the agent 'klm'; did you mean 'kl'",
        ),
        (
            lambda: host(ppo(), BatchPipeline(lambda: gymnasium.make("Acrobot-v1"))),
            "the agent must act on observations of Acrobot-v1",
        ),
        (
            lambda: host(optix.FlaxPPOAgent(4, 3), pipeline()),
            r"those of CartPole-v1, Discrete\(n=2\), got 3 logits for one",
        ),
        (
            lambda: host(
                as_base_agent(optix.make_agent("CartPole-v1", hidden=(4,))),
                BatchPipeline(cartpole, window_size=10),
            ),
            "must be divisible by num_minibatches=4, got 10",
        ),
        (
            lambda: host(optix.EnsembleAgent([ppo()]), pipeline()),
            "an EnsembleAgent only plays",
        ),
    ],
)
def test_one_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
