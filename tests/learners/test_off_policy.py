"""The learner with a replay: what is stored, when it learns, what survives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit
from scipy import stats

import optix
from optix.buffers.hindsight import STRATEGIES, hindsight
from optix.buffers.uniform import uniform
from optix.envs.device import device
from optix.learners.off_policy import off_policy
from optix.loop.loop import loop
from optix.tuners.fixed import fixed
from optix.tuners.spsa import spsa
from optix.types import Agent, Event, Learned, Policy
from tests import probes

NUM_ENVS, NUM_STEPS, DISCOUNT = 3, 20, 0.9
SIZES = {
    "num_envs": NUM_ENVS,
    "num_steps": NUM_STEPS,
    "batch_size": 8,
    "capacity": 300,
    "learning_starts": 30,
    "evaluation_episodes": 2,
}


class Walk(probes.Probe):
    """From a random place by a random step; sometimes to where nothing is finite."""

    num_steps = 6

    def __init__(self, breaks=False):
        self.breaks = breaks

    def first_obs(self, key):
        return jax.random.normal(key, (1,))

    def next_obs(self, state):
        end = jnp.nan if self.breaks else -state.obs
        return jnp.where(state.obs > 2.0, end, 1.5 * state.obs + 0.25)

    def reward(self, state, action, params):
        return state.obs[0] + action


def counting_agent():
    """Always action 1; `params` counts the updates; `info` tells of the batch."""

    def act(policy, carry, obs, hyperparams, key, explore):
        del policy, key, hyperparams, explore
        return carry, jnp.ones(obs.shape[:1], jnp.int32), {}

    def learn(policy, batch, hyperparams, key):
        del key, hyperparams
        info = {"weight": batch.weight.mean()}
        learned = policy._replace(params=policy.params + 1)
        return Learned(learned, info, priority=batch.weight)

    def init(key):
        del key
        return Policy(jnp.float32(0))

    return Agent(init, lambda batch: (), act, learn, {"discount": DISCOUNT})


def windows(learner, count, **floats):
    """States and reports of so many windows from key 0."""
    hyperparams = {**learner.hyperparams, **floats}
    step = jit(lambda state, key: learner.step(state, hyperparams, key, True))
    states, reports = [learner.init(jax.random.key(0))], []
    for key in jax.random.split(jax.random.key(1), count):
        state, report = step(states[-1], key)
        states.append(state)
        reports.append(report)
    return states, reports


def stored(memory, capacity=300):
    """The distinct rows of a replay, found by sampling alone, as a set of tuples."""
    sample = jit(uniform(capacity).sample, static_argnums=2)
    found = set()
    for key in jax.random.split(jax.random.key(6), 20):
        rows = [np.ravel(x) for x in sample(memory.replay, key, capacity).items]
        found |= set(map(tuple, np.round(np.stack(rows, -1), 4)))
    return found


def expected_rows(trajectories, n):
    """The n-step rows of a loop over the steps of all windows, finite ones only."""
    steps = jax.tree.map(lambda *x: np.concatenate(x), *trajectories)
    total, found = len(steps.reward), set()
    for b in range(NUM_ENVS):
        for t in range(total - n + 1):
            reward, discount = 0.0, 1.0
            for last in range(t, t + n):
                reward += discount * float(steps.reward[last, b])
                discount *= DISCOUNT
                if steps.terminated[last, b] or steps.truncated[last, b]:
                    break
            discount *= not steps.terminated[last, b]
            row = (
                steps.obs[t, b, 0],
                steps.action[t, b],
                reward,
                discount,
                steps.next_obs[last, b, 0],
            )
            if np.isfinite(row).all():
                found.add(tuple(np.round(np.array(row), 4)))
    return found


@pytest.mark.parametrize(("n", "breaks"), [(1, True), (3, False), (3, True)])
def test_what_is_stored_is_what_a_loop_finds(n, breaks):
    env = device(Walk(breaks))
    learner = off_policy(counting_agent(), env, n_step=n, **SIZES)
    states, reports = windows(learner, 2)
    expected = expected_rows([r.trajectory._replace(extras=()) for r in reports], n)
    got = stored(states[-1].memory)
    np.testing.assert_allclose(sorted(got), sorted(expected), atol=2e-4)
    whole = NUM_ENVS * (2 * NUM_STEPS - n + 1)
    assert all(bool(r.finite) != breaks for r in reports)
    assert (len(expected) < whole) == breaks
    assert states[-1].memory.env_steps == 2 * NUM_ENVS * NUM_STEPS


def test_goals_of_what_is_not_finite_are_not_stored():
    relabel = hindsight(
        lambda obs: obs, lambda obs, goal: obs, lambda a, b: (a[0] - b[0], a[0] == b[0])
    )
    env = device(Walk(breaks=True))
    learner = off_policy(
        counting_agent(), env, hindsight=relabel, **{**SIZES, "capacity": 600}
    )
    states, reports = windows(learner, 1)
    rows = np.array(list(stored(states[-1].memory, 600)))
    real = len(expected_rows([reports[0].trajectory._replace(extras=())], 1))
    assert np.isfinite(rows).all() and len(rows) > 2 * real


def test_actions_are_random_and_nothing_is_learned_until_it_starts():
    learner = off_policy(
        counting_agent(),
        device(Walk()),
        collect_steps=2,
        gradient_steps=3,
        **{**SIZES, "num_steps": 400, "learning_starts": 600, "capacity": 2000},
    )
    states, reports = windows(learner, 1)
    actions = np.asarray(reports[0].trajectory.action)
    warm = 600 // NUM_ENVS  # the first step that begins with as many
    counts = np.bincount(actions[:warm].ravel(), minlength=2)
    assert stats.chisquare(counts).pvalue > 1e-3
    assert (actions[warm:] == 1).all()
    # every second step three updates, from the one that reaches 600 on
    assert states[-1].policy.params == 3 * ((400 - warm) // 2 + 1)


@pytest.mark.parametrize(
    "options",
    [{"one_copy": True}, {"buffer": uniform(36, streams=NUM_ENVS)}],
)
def test_one_copy_learns_in_batches_of_more_rows_than_it_can_hold(options):
    sizes = {**SIZES, "capacity": 36, "batch_size": 36, **options}
    learner = off_policy(counting_agent(), device(Walk()), **sizes)
    states, _ = windows(learner, 2)
    assert states[-1].memory.replay.size < 36
    first = -(-30 // NUM_ENVS)  # the step by which as many are collected
    assert states[-1].policy.params == 2 * NUM_STEPS - first + 1


def test_importance_weights_are_annealed_over_the_environment_steps():
    """A replay whose weights are the exponent shows it: the mean over the updates."""

    def sample(state, key, batch_size, importance_exponent):
        drawn = plain.sample(state, key, batch_size)
        return drawn._replace(weight=jnp.full(batch_size, importance_exponent))

    plain = uniform(300)
    learner = off_policy(
        counting_agent(),
        device(Walk()),
        prioritised=True,
        buffer=plain._replace(sample=sample),
        importance_exponent=0.4,
        importance_steps=100.0,
        **SIZES,
    )
    _, reports = windows(learner, 3)
    for window, report in enumerate(reports):
        steps = NUM_ENVS * (NUM_STEPS * window + np.arange(1, NUM_STEPS + 1))
        steps = steps[steps >= 30]
        expected = 0.4 + 0.6 * np.minimum(steps / 100, 1)
        np.testing.assert_allclose(report.metrics["weight"], expected.mean(), rtol=1e-5)


# ------------------------------------------------------------------------ in the loop


def test_two_lanes_fill_one_replay_and_both_learn_from_it():
    learner = off_policy(counting_agent(), device(Walk()), lanes=2, **SIZES)
    run = loop(learner, spsa({"discount": (0.5, 0.99)}, lanes=2))
    state, report = jit(run.step)(run.init(jax.random.key(0)))
    assert state.learner.memory.env_steps == 2 * NUM_ENVS * NUM_STEPS
    # both learn from the first steps on with which there are 30, 6 at a time
    assert state.learner.policy.params.tolist() == [16, 16]
    discounts = np.array([row[3] for row in stored(state.learner.memory)])
    of_lanes = [
        np.isclose(discounts, x, atol=1e-3) for x in report.hyperparams["discount"]
    ]
    # the same steps here, for the lanes have one key and both always take action 1
    assert of_lanes[0].sum() == of_lanes[1].sum() > NUM_ENVS * NUM_STEPS / 2
    assert (of_lanes[0] ^ of_lanes[1] ^ (discounts == 0)).all()


def test_a_rollback_keeps_the_replay():
    """The score is of the updates: it rises, and then all that is learned is worse."""

    def score(policy, hyperparams, key):
        updates = policy.params
        rise = jnp.where(updates < 1600, updates, 0.0)
        return rise + 0.1 * jax.random.normal(key)

    learner = off_policy(counting_agent(), device(Walk()), **SIZES)
    run = loop(learner, fixed(), score=score)
    state = run.init(jax.random.key(0))

    def body(state, _):
        state, report = run.step(state)
        return state, (report.events, state.learner)

    state, (events, learners) = jit(lambda s: jax.lax.scan(body, s, length=120))(state)
    back = np.flatnonzero(events & Event.ROLLBACK)[0]
    updates = learners.policy.params[:, 0]
    assert updates[back - 1] > 1600 > updates[back]  # the policy went back
    steps = learners.memory.env_steps
    np.testing.assert_array_equal(np.diff(steps), NUM_ENVS * NUM_STEPS)
    # what the replay holds after the rollback is what it held before, and one window
    before, after = (
        {row[0] for row in stored(jax.tree.map(lambda x: x[i], learners.memory))}  # noqa: B023
        for i in (back - 1, back)
    )
    assert len(before & after) == 300 - NUM_ENVS * NUM_STEPS


# --------------------------------------------------------------- goals in hindsight


FLIPPING = probes.FlipBits()
FUNCTIONS = FLIPPING.achieved, FLIPPING.substitute, FLIPPING.reward


def test_hindsight_turns_failure_into_success():
    """DQN flips bits towards a goal; the score is the share of goals reached."""

    def run(key, wanted):
        relabel = hindsight(*FUNCTIONS)

        def wanted_rows(*args):
            rows, valid = relabel(*args)
            return rows, valid & wanted  # what is not valid leaves no trace

        made = optix.make(
            FLIPPING,
            "dqn",
            hindsight=wanted_rows,
            num_envs=8,
            num_steps=64,
            collect_steps=2,
            gradient_steps=4,
            batch_size=64,
            capacity=20_000,
            learning_starts=256,
            learning_rate=3e-3,
            discount=0.9,
            epsilon_steps=4000.0,
            epsilon_end=0.1,
            hidden=(128,),
            evaluation_episodes=32,
            max_rounds=28,
            final_scores=2,
        )
        return made.run(made.init(key))

    run = jit(run)
    without, with_hindsight = (run(jax.random.key(0), on) for on in (False, True))
    assert without.env_steps == with_hindsight.env_steps == 28 * 512
    assert without.learner.memory.replay.size == 28 * 512
    assert with_hindsight.learner.memory.replay.size == 20_000
    scores = float(without.best.score), float(with_hindsight.best.score)
    assert scores[0] < 0.2 and scores[1] > 0.9, scores


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_fills_the_replay(strategy):
    relabel = hindsight(*FUNCTIONS, strategy=strategy, goals=2)
    learner = off_policy(counting_agent(), device(FLIPPING), hindsight=relabel, **SIZES)
    states, reports = windows(learner, 1)
    assert reports[0].finite
    replay = states[1].memory.replay
    assert replay.size == (1 + 2) * NUM_ENVS * NUM_STEPS
    drawn = uniform(300).sample(replay, jax.random.key(0), 300).items
    reached, goals = np.asarray(drawn.next_obs[:, :8]), np.asarray(drawn.obs[:, 8:])
    success = (reached == goals).all(1)
    np.testing.assert_array_equal(drawn.reward, success)
    np.testing.assert_allclose(drawn.discount, np.where(success, 0, DISCOUNT))
    assert 10 < success.sum() < 200
