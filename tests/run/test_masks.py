"""A run in an environment with action masks, its policy loaded, exported and joined."""

from pathlib import Path

import jax
import numpy as np
import pytest

import optix
from optix.host import BatchPipeline, LivePipeline, host
from optix.loop.loop import loop as loop_of
from optix.population.ensemble import ensemble, join, stack
from optix.run.load import LoadedPolicy
from optix.tuners.fixed import fixed
from optix.types import Masked
from tests import probes
from tests.numpy_agent import StillAgent
from tests.telling import Several, Stream, Told

MASK = np.array([False, True, False, False])


@pytest.fixture(scope="module")
def player():
    small = {"num_envs": 2, "num_steps": 8, "hidden": (4,), "evaluation_episodes": 1}
    state = optix.make(probes.Masks(), "ppo", **small)
    first = jax.jit(state.init)(jax.random.key(0))
    learner = state.learner
    return LoadedPolicy(learner.agent, learner.env, first.best)


def test_a_loaded_policy_acts_under_the_mask(player):
    assert all(
        player.act(np.zeros(1), explore, action_mask=MASK) == 1
        for explore in (False, True)
    )
    for kind in (np.int8, np.float32, np.uint8, list):
        mask = kind(MASK) if kind is list else MASK.astype(kind)
        assert player.act(np.zeros(1), action_mask=mask) == 1
    masks = np.eye(4, dtype=bool)
    actions = player.act(np.zeros((4, 1)), True, action_mask=masks)
    assert actions.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (None, "action_mask must be given: Masks tells"),
        (MASK[:3], r"must be bool of shape \(4,\), .* got bool of shape \(3,\)"),
        (MASK * 2, r"must be bool of shape \(4,\), or 0 and 1, got int"),
        ((MASK[:1], MASK[1:]), r"must be bool of shape \(4,\), .* got \(array"),
        ((MASK[:1], MASK[None, 1:]), r"must be bool of shape \(4,\), .* got \(array"),
        (MASK * 0.5, "must be bool"),
        ("yes", "must be bool"),
        (MASK & False, "must allow one action or more"),
    ],
)
def test_masks_that_a_loaded_policy_refuses(player, mask, message):
    with pytest.raises(ValueError, match=message):
        player.act(np.zeros(1), action_mask=mask)


def test_an_ensemble_keeps_to_the_mask(player):
    policies = stack([player.agent.init(jax.random.key(seed)) for seed in (0, 1)])
    both = ensemble(player.agent, player.env.action_space, 2)
    policy = join(player.agent, policies)
    obs = Masked(np.zeros((4, 1), np.float32), np.eye(4, dtype=bool))
    for explore in (False, True):
        key = jax.random.key(0)
        action = both.act(policy, (), obs, {}, key, explore)[1]
        assert action.tolist() == [0, 1, 2, 3]


def test_an_exported_policy_takes_the_mask(player, tmp_path):
    onnx = pytest.importorskip("onnx")
    reference = pytest.importorskip("onnx.reference")
    player.export_onnx(tmp_path / "policy.onnx")
    model = onnx.load(tmp_path / "policy.onnx")
    assert [x.name for x in model.graph.input] == ["observation", "action_mask"]
    masks = np.eye(4, dtype=bool)
    masks[3] = False  # of what allows nothing everything is allowed
    given = {"observation": np.zeros((4, 1), np.float32), "action_mask": masks}
    names = [x.name for x in model.graph.output]
    found = reference.ReferenceEvaluator(model).run(None, given)
    found = dict(zip(names, found, strict=True))
    assert found["action"][:3].tolist() == [0, 1, 2]
    obs = Masked(given["observation"], masks)
    logits = player.agent.outputs(player.policy, (), obs)[1]
    np.testing.assert_allclose(found["logits"], logits, rtol=1e-5)


def test_a_loaded_policy_of_several_choices_takes_their_masks():
    """As the environment may tell them, and every choice has one that is allowed."""
    sizes = {"num_envs": 2, "num_steps": 4, "num_minibatches": 1, "hidden": (4,)}
    run = optix.make(Several, **sizes)
    env = run.learner.env
    assert env.masked
    best = jax.jit(run.init)(jax.random.key(0)).best
    player = LoadedPolicy(run.learner.agent, env, best)
    obs, info = Several().reset()
    told = info["action_mask"]
    assert isinstance(told, tuple)
    for mask in (told, np.concatenate(told), np.concatenate(told).tolist()):
        assert player.act(obs, action_mask=mask).tolist() == [0, 1]
    one, other = told
    for none in ((one, other & False), (one & False, other)):
        with pytest.raises(ValueError, match="must allow one action or more"):
            player.act(obs, action_mask=none)
    with pytest.raises(ValueError, match=r"must be bool of shape \(1, 6\)"):
        player.act(obs[None], action_mask=told)


class Obeys(StillAgent):
    """Takes the first action that is allowed, and none where nobody says it."""

    takes_masks = True

    def act(self, observation):
        if isinstance(observation, Masked):
            return int(observation.action_mask.argmax())
        return int(observation[0])

    def save_weights(self, path):
        Path(path).touch()


class Plain(Told):
    """Tells nobody."""

    def told(self):
        return super().told()[0], {}


@pytest.mark.parametrize("live", [True, False])
@pytest.mark.parametrize("kind", [Told, Plain])
def test_a_run_outside_jax_is_loaded_as_it_was_shown_masks(kind, live, tmp_path):
    def loop():
        source = LivePipeline(Stream(kind)) if live else BatchPipeline(kind)
        learner = host(Obeys(), source, evaluation_episodes=1)
        return loop_of(learner, fixed(), max_rounds=1)

    optix.train(loop(), directory=tmp_path / "run", progress=False)
    player = optix.load(tmp_path / "run", loop=loop())
    mask = MASK if kind is Told else None
    assert player.masked is (kind is Told)
    assert np.all(player.act(np.zeros(1), action_mask=mask) == (kind is Told))
    with pytest.raises(ValueError, match="action_mask must be"):
        player.act(np.zeros(1), action_mask=None if kind is Told else MASK)
