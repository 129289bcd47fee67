"""What must hold under action masks of agents of any framework."""

import gymnasium
import numpy as np
import pytest

import optix
from optix.host.learner import host
from optix.host.pipelines import BatchPipeline
from optix.host.vector import VectorBatchPipeline
from optix.loop.loop import loop
from optix.tuners.fixed import fixed
from optix.types import Masked

NUMBER = 4


def pipeline_of(kind, how):
    """Windows of eight steps in environments that raise where they are disobeyed."""
    if how == "batch":
        return BatchPipeline(kind, window_size=8)
    if how == "one":  # nobody knows how to make another
        return BatchPipeline(kind(), window_size=8)
    if how == "vector":
        same_step = gymnasium.vector.AutoresetMode.SAME_STEP
        envs = gymnasium.vector.SyncVectorEnv([kind] * 2, autoreset_mode=same_step)
        return VectorBatchPipeline(envs, window_size=8)
    return VectorBatchPipeline([kind] * 2, window_size=8)


def keeps_to_masks(agent, kind, how):
    """Train and evaluate where any forbidden action raises."""
    pipeline = pipeline_of(kind, how)
    agent.memory = agent.make_memory()
    envs, before = pipeline.open(), agent.state()
    for number in range(6):
        agent.seed(number)
        window = pipeline.collect(agent, envs, 1 if number == 0 else None)
        assert isinstance(window.observations, Masked)
        np.testing.assert_array_equal(  # of one step after another
            window.next_observations.action_mask[:-1][~window.dones[:-1]],
            window.observations.action_mask[1:][~window.dones[:-1]],
        )
        assert all(np.isfinite(x) for x in agent.learn(window).values())
        assert pipeline.evaluate(agent, number, 3) > 0
    pipeline.close()
    after = agent.state()
    assert any((after[name] != before[name]).any() for name in before)


def run_of(agent, kind):
    """The loop of an agent, and its pipeline."""
    pipeline = pipeline_of(kind, "vector")
    learner = host(agent, pipeline, evaluation_episodes=2)
    return loop(learner, fixed(), max_rounds=2, windows_per_round=2), pipeline


def is_loaded(make, kind, directory):
    """Play the policy of a run where any forbidden action raises."""
    run, pipeline = run_of(make(), kind)
    result = optix.train(run, directory=directory, progress=False)
    assert np.isfinite(result.scores).all()
    again, other = run_of(make(), kind)
    player = optix.load(directory, loop=again)
    assert player.masked
    env = kind()
    for explore in (False, True):
        obs, info = env.reset(seed=1)
        player.reset()
        for _ in range(3):
            mask = info["action_mask"]
            obs, *_, info = env.step(player.act(obs, explore, action_mask=mask))
    batch, masks = np.stack([obs] * 4), np.eye(4, dtype=bool)
    player.reset()
    assert player.act_batch(batch, action_mask=masks).tolist() == [0, 1, 2, 3]
    for given, message in (
        ({}, "action_mask must be given"),
        ({"action_mask": masks[0] & False}, "must allow one action or more"),
        ({"action_mask": masks}, "action_mask must be bool of shape"),
    ):
        with pytest.raises(ValueError, match=message):
            player.act(obs, **given)
    pipeline.close()
    other.close()


def masked_rows(rng, *lead):
    """Observations of four numbers, and masks of which none forbids everything."""
    obs = rng.normal(size=(*lead, 4)).astype(np.float32)
    mask = rng.random((*lead, NUMBER)) < 0.5
    mask[..., 0] |= ~mask.any(-1)
    return Masked(obs, mask)


def log_softmax(logits, mask):
    """Log probabilities of what is allowed, a row at a time; -inf of the rest."""
    out = np.full(logits.shape, -np.inf)
    for index in np.ndindex(mask.shape[:-1]):
        x = logits[index][mask[index]].astype(np.float64)
        x = x - x.max()
        out[index][mask[index]] = x - np.log(np.exp(x).sum())
    return out


def entropies(log_probs):
    """Of the rows of `log_softmax`."""
    finite = np.where(np.isfinite(log_probs), log_probs, 0.0)
    return -(np.exp(log_probs) * finite).sum(-1)


def window_of(agent, steps=10, envs=3, seed=0, ends=0.3):
    """Fields of a window of the agent's own actions under masks drawn by chance."""
    rng = np.random.default_rng(seed)
    agent.seed(seed)
    agent.begin_episode(np.ones(envs, bool))
    rows, extras = [], []
    obs = masked_rows(rng, envs)
    for _ in range(steps):
        action, extra = agent.act_batch(obs)
        assert obs.action_mask[np.arange(envs), action].all()
        after = masked_rows(rng, envs)
        terminated, truncated = rng.random((2, envs)) < ends / 2
        reward = rng.normal(size=envs).astype(np.float32)
        rows.append((obs, action, reward, terminated, truncated, after))
        extras.append(extra)
        done = (terminated | truncated)[:, None]
        fresh = masked_rows(rng, envs)
        obs = Masked(
            *(np.where(done, *pair) for pair in zip(fresh, after, strict=True))
        )
        agent.begin_episode(done[:, 0])
    fields = [list(field) for field in zip(*rows, strict=True)]
    kept = {name: np.stack([e[name] for e in extras]) for name in extras[0]}
    return optix.EpisodeData(*fields, extras=kept)


def rows_by_hand(window, n, discount):
    """{(step, env): (return, factor, mask, observation)} of rows of up to n steps."""
    steps, envs = window.rewards.shape
    found = {}
    for t, b in np.ndindex(steps, envs):
        total, factor = 0.0, 1.0
        for k in range(t, min(t + n, steps)):
            total += factor * float(window.rewards[k, b])
            factor *= discount
            if window.dones[k, b]:
                break
        after = window.next_observations
        factor *= not window.terminated[k, b]
        found[t, b] = total, factor, after.action_mask[k, b], after.obs[k, b]
    return found


def best(values, mask):
    """The action of the greatest value that is allowed."""
    return max((a for a in range(NUMBER) if mask[a]), key=lambda a: values[a])


def dqn_errors(window, online, target, double, n, discount):
    """[T * B] of errors by definition, one row at a time; networks in NumPy."""
    errors = []
    rows = rows_by_hand(window, n, discount)
    for (t, b), (total, factor, mask, after) in rows.items():
        chooser = online if double else target
        value = target(after)[best(chooser(after), mask)]
        own = online(window.observations.obs[t, b])[window.actions[t, b]]
        errors.append(own - (total + factor * value))
    return np.array(errors)


def run_onnx(onnx, file, agent, obs):
    """{name: array} that an exported policy gives at masked observations."""
    from onnx.reference import ReferenceEvaluator

    model = onnx.load(file)
    inputs = [x.name for x in model.graph.input]
    assert inputs[0] == "observation" and inputs[-1] == "action_mask"
    given = {"observation": obs.obs, "action_mask": obs.action_mask}
    if "carry" in inputs:
        given["carry"] = np.zeros((len(obs.obs), agent.cell.size), np.float32)
    names = [x.name for x in model.graph.output]
    return dict(zip(names, ReferenceEvaluator(model).run(None, given), strict=True))
