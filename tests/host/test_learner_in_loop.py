"""Host agents in the autonomous loop: tuner, rollback, best, stop and seeds at once."""

import chex
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.host.learner import host
from optix.host.pipelines import BatchPipeline
from optix.host.slots import HostSlot
from optix.host.window import EpisodeData
from optix.loop.loop import loop
from optix.trees import take
from optix.tuners.fixed import fixed
from optix.tuners.spsa import spsa
from optix.types import Event, StopReason
from tests.numpy_agent import NumpyAgent

EPISODES = 2


def cartpole():
    env = gymnasium.make("CartPole-v1")
    return BatchPipeline(
        env, window_size=250, whole_episodes=True, max_episode_steps=200
    )


def tuned(learner, **options):
    tuner = spsa({"learning_rate": (0.5, 20.0)}, lanes=2)
    return loop(learner, tuner, final_scores=2, windows_per_round=1, **options)


class Climber(NumpyAgent):
    """Its weight grows by the learning rate with every window, past the optimum."""

    def learn(self, episode_data):
        self.weights = self.weights + self.hyperparams.params["learning_rate"]
        return {}


class Hill:
    """Scores the weight: the optimum is at 30. Counts what it is asked."""

    def __init__(self):
        self.windows = self.scores = 0

    def open(self):
        return self

    def collect(self, agent, envs, seed):
        self.windows += 1
        ones = np.ones((1, 1))
        return EpisodeData(ones, ones, np.ones(1), ones[0] > 0, ones[0] < 0, ones)

    def evaluate(self, agent, seed, episodes):
        self.scores += 1
        noise = np.random.default_rng(seed).normal()
        return -((agent.weights[0, 0] - 30) ** 2) + 0.1 * noise


@pytest.fixture(scope="module")
def four_seeds():
    """Four runs on CartPole with one agent, in one program."""
    learner = host(NumpyAgent(), cartpole(), evaluation_episodes=EPISODES)
    run = tuned(learner, max_rounds=12)
    states = jax.vmap(run.init)(jax.random.split(jax.random.key(0), 4))
    limits = states.limits._replace(max_rounds=jnp.array([12, 8, 12, 2]))
    return learner, jax.jit(jax.vmap(run.run))(states._replace(limits=limits))


def test_four_seeds_learn_and_stop_by_their_own_budget(four_seeds):
    _, states = four_seeds
    assert states.stop_reason.tolist() == [StopReason.MAX_ROUNDS] * 4
    assert states.round.tolist() == [12, 8, 12, 2]
    scores = np.asarray(states.best.score)
    assert (scores[:3] > 120).all(), scores  # of 200; it begins at 47
    rates = states.best.hyperparams["learning_rate"]
    assert len(np.unique(rates)) == 4  # the tuner of each seed went its own way


def test_the_best_of_each_seed_replays_to_its_score(four_seeds):
    """By an agent and an environment of its own, from the bytes of a checkpoint."""
    learner, states = four_seeds
    other = host(NumpyAgent(), cartpole(), evaluation_episodes=EPISODES)
    other.host.load(learner.host.save(states))
    pipeline = cartpole()
    assert len(set(states.best.policy.extras.slot.tolist())) == 4
    for index in range(4):
        state = jax.tree.map(lambda x, row=index: x[row], states)
        agent = other.host.agent_of(state.best.policy)
        end = jax.random.fold_in(state.key, 2**31 - 1)
        unseen = jax.random.split(jax.random.fold_in(end, state.round), 2)
        scores = []
        for key in unseen:
            env_seed, _ = np.asarray(jax.random.bits(key, (2,), jnp.uint32)).tolist()
            scores.append(pipeline.evaluate(agent, env_seed, EPISODES))
        assert state.best.score == np.float32(np.mean(scores))


def test_falling_scores_bring_the_best_weights_back():
    learner = host(Climber(learning_rate=1.0), Hill())
    run = loop(learner, fixed())
    state, step = run.init(jax.random.key(0)), jax.jit(run.step)
    for _ in range(120):
        state, report = step(state)
        if report.events & Event.ROLLBACK:
            break
    else:
        raise AssertionError("no rollback in 120 rounds")
    weight = learner.host.agent_of(state.best.policy).weights[0, 0]
    assert 25 <= weight <= 35
    assert state.learner.policy.extras.slot[0] == state.best.policy.extras.slot
    state, report = step(state)
    slot = jax.tree.map(lambda x: x[0], state.learner.policy)
    assert learner.host.agent_of(slot).weights[0, 0] == weight + 1


def test_stopped_seeds_cost_the_host_nothing():
    hill = Hill()
    run = loop(host(Climber(), hill), fixed(), final_scores=1)
    start = jax.vmap(run.init)(jax.random.split(jax.random.key(0), 2))
    program = jax.jit(jax.vmap(run.run))

    def asked(rounds):
        hill.windows = hill.scores = 0
        limits = start.limits._replace(max_rounds=jnp.array(rounds))
        jax.block_until_ready(program(start._replace(limits=limits)).round)
        return hill.windows, hill.scores

    # beside its rounds, a stopped seed is scored once where it stands, and at the end:
    # twice if its last policy is its best, three times if not
    assert asked([2, 20]) == (22, 22 + 1 + 2 + 3)
    assert asked([2, 40]) == (42, 42 + 1 + 2 + 3)


def test_a_run_resumed_from_a_checkpoint_is_the_run_uninterrupted():
    def driver(learner):
        """Rounds one by one, holding only the weights that the state names."""
        run = tuned(learner)
        step = jax.jit(run.step)

        def drive(state, rounds):
            for _ in range(rounds):
                state, _ = step(state)
                learner.host.keep(state)
                assert len(learner.host.slots) <= 4  # the first, two lanes, the best
            return state

        return run, drive

    def weights_of(learner, state):
        return learner.host.save(state)

    def without_slots(state):
        is_slot = {"is_leaf": lambda node: isinstance(node, HostSlot)}
        state = state._replace(key=jax.random.key_data(state.key))
        return jax.tree.map(
            lambda x: () if isinstance(x, HostSlot) else x, state, **is_slot
        )

    first, second = (host(NumpyAgent(), cartpole(), fresh=True) for _ in range(2))
    run, drive = driver(first)
    halfway = drive(run.init(jax.random.key(1)), 3)
    saved = weights_of(first, halfway)
    whole = drive(halfway, 3)
    second.host.load(saved)
    _, drive = driver(second)
    resumed = drive(halfway, 3)
    # slots have other numbers, but the same weights: those of the best and the lanes
    chex.assert_trees_all_equal(without_slots(whole), without_slots(resumed))
    for pick in (lambda s: s.best.policy, lambda s: take(s.learner.policy, 1)):
        ends = [
            [array.tobytes() for array in weights_of(learner, pick(state)).values()]
            for learner, state in ((first, whole), (second, resumed))
        ]
        assert ends[0] == ends[1]


class OutOfPaperError(Exception):
    pass


def test_a_fault_in_the_middle_of_a_run_keeps_its_type():
    class Printer(Climber):
        def learn(self, episode_data):
            if self.weights.max() > 3:
                raise OutOfPaperError("tray 2")
            return super().learn(episode_data)

    learner = host(Printer(learning_rate=1.0), Hill())
    run = loop(learner, fixed(), max_rounds=20)
    state = run.init(jax.random.key(0))
    with pytest.raises(jax.errors.JaxRuntimeError):
        jax.block_until_ready(jax.jit(run.run)(state))
    with pytest.raises(OutOfPaperError, match="tray 2"):
        learner.host.raise_if_failed()


def test_scores_that_are_not_finite_end_the_run():
    class Cliff(Hill):
        def evaluate(self, agent, seed, episodes):
            return np.nan

    run = loop(host(Climber(), Cliff()), fixed(), max_non_finite=3)
    state = jax.jit(run.run)(run.init(jax.random.key(0)))
    assert state.stop_reason == StopReason.NON_FINITE_SCORE and state.round == 3
    assert state.best.policy.extras.slot == 0
