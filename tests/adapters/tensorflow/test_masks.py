"""TensorFlow agents under action masks: what they do, and what they learn."""

import functools

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

import keras

import optix
import optix_tensorflow
from optix.types import Masked
from tests.adapters import masking
from tests.adapters.acting import OBSERVED, REPLAY, Spaces
from tests.adapters.tensorflow.windows import AGENTS as EVERY
from tests.adapters.tensorflow.windows import linear
from tests.telling import Draws, Method, Silent

SMALL = {
    "ppo": ("TFPPOAgent", {"num_minibatches": 2}),
    "dqn": ("TFDQNAgent", {"prioritised": True, "n_step": 2, **REPLAY}),
}


def make(name, observed=OBSERVED, **options):
    """A tiny agent of four actions."""
    keras.utils.set_random_seed(0)
    kind, usual = SMALL[name]
    spaces = Spaces(Draws.action_space, observed)
    options = {"hidden": (4,), **usual, **options}
    return getattr(optix_tensorflow, kind).for_env(spaces, **options)


@pytest.mark.parametrize(
    ("name", "kind", "how"),
    [
        ("ppo", Draws, "batch"),
        ("ppo", Method, "vector of functions"),
        ("dqn", Silent, "vector"),
        ("dqn", Draws, "batch"),
    ],
)
def test_no_forbidden_action_is_ever_taken(name, kind, how):
    options = {}
    if name == "dqn":
        options = {"learning_starts": 16, "updates_per_step": 0.5}
    masking.keeps_to_masks(make(name, kind.observation_space, **options), kind, how)


def test_a_policy_that_is_loaded_acts_under_the_mask(tmp_path):
    agent = functools.partial(make, "ppo", Draws.observation_space)
    masking.is_loaded(agent, Draws, tmp_path / "run")


def test_what_is_learned_first_is_what_acted_under_the_mask():
    agent = make("ppo", normalize_observations=False)
    window = masking.window_of(agent)
    logits = np.array(agent.modules["actor"](window.observations.obs.reshape(-1, 4)))
    mask = window.observations.action_mask.reshape(-1, 4)
    wanted = masking.log_softmax(logits, mask)
    taken = np.take_along_axis(wanted, window.actions.reshape(-1, 1), -1)[:, 0]
    np.testing.assert_allclose(window.extras["log_prob"].reshape(-1), taken, atol=1e-5)
    # with and without what acting told, of a pipeline that keeps no extras
    plain = optix.EpisodeData(**{**vars(window), "extras": {}})
    found = agent._prepare(plain, window.rewards)[0][2][0]
    np.testing.assert_allclose(found, taken, atol=1e-5)
    agent.set_hyperparams(optix.HyperparamSet({"num_epochs": 1, "num_minibatches": 1}))
    info = agent.learn(window)
    assert info["kl"] == pytest.approx(0, abs=1e-6)
    assert info["entropy"] == pytest.approx(masking.entropies(wanted).mean(), abs=1e-5)


@pytest.mark.parametrize("double", [True, False])
def test_dqn_bootstraps_after_several_steps_from_what_is_allowed_there(double):
    keras.utils.set_random_seed(0)
    agent = optix_tensorflow.TFDQNAgent(
        linear(4, 4),
        4,
        hyperparams={**REPLAY, "n_step": 3, "learning_starts": 64, "batch_size": 200},
        double=double,
        prioritised=True,
    )
    agent.target.set_weights([np.random.default_rng(1).normal(size=(4, 4)), np.ones(4)])
    window = masking.window_of(agent)
    agent.learn(window)  # stores it: there is too little to learn from

    def network(model):
        weight, bias = map(np.array, model.get_weights())
        return lambda obs: obs @ weight + bias

    wanted = masking.dqn_errors(
        window, network(agent.q_network), network(agent.target), double, 3, 0.99
    )
    told = {}
    agent.learned_of = lambda rows, error: told.update(rows=rows, error=error)
    agent._learn_from(1)
    assert set(told["rows"].index) == set(range(30))
    found = np.abs(wanted[told["rows"].index])
    np.testing.assert_allclose(told["error"], found, rtol=1e-4)


def test_random_actions_are_of_those_allowed_and_all_alike():
    agent = make("dqn")  # nothing is learned yet, so that all are random
    mask = np.tile(np.array([True, False, True, True]), (6000, 1))
    actions, _ = agent.act_batch(Masked(np.zeros((6000, 4), np.float32), mask))
    share = np.bincount(actions, minlength=4) / 6000
    np.testing.assert_allclose(share, [1 / 3, 0, 1 / 3, 1 / 3], atol=0.03)


@pytest.mark.parametrize("name", list(SMALL))
def test_acting_alone_takes_a_mask_and_traces_once_more(name):
    agent = make(name, normalize_observations=True)
    agent.act(np.ones(4), False)
    for action in range(4):
        mask = np.arange(4) == action
        for explore in (False, True):
            assert agent.act(np.ones(4), explore, action_mask=mask) == action
        probs = agent.action_probs(Masked(np.ones(4), mask))
        np.testing.assert_allclose(probs, mask, atol=1e-6)
    assert {"play", "play, masked"} <= set(agent._traced)
    window = masking.window_of(agent)
    agent.learn(window)
    mean = window.observations.obs.reshape(-1, 4).mean(0)
    np.testing.assert_allclose(agent.view.state()["mean"], mean, atol=1e-4)


def test_agents_of_real_actions_and_other_numbers_refuse_a_mask():
    with pytest.raises(
        ValueError, match="without an action mask for an agent that does"
    ):
        EVERY["gaussian"]().act(np.ones(4), action_mask=[True, False])
    with pytest.raises(ValueError, match="one for each of its 2"):
        make("ppo").act(np.ones(4), action_mask=[True, False])


@pytest.mark.parametrize("name", list(SMALL))
def test_an_exported_policy_takes_the_mask(name, tmp_path):
    onnx = pytest.importorskip("onnx")
    agent = make(name, normalize_observations=True)
    agent.learn(masking.window_of(agent))
    agent.export_onnx(tmp_path / "policy.onnx", action_mask=True)
    obs = masking.masked_rows(np.random.default_rng(0), 7)
    obs.action_mask[3] = False  # of what allows nothing everything is allowed
    found = masking.run_onnx(onnx, tmp_path / "policy.onnx", agent, obs)
    wanted, _ = agent.act_batch(obs, explore=False)
    assert found["action"].tolist() == wanted.tolist()
    values = found.get("logits", found.get("q_values"))
    free = obs.action_mask | ~obs.action_mask.any(-1, keepdims=True)
    assert (values[~free] == -1e9).all() and (np.abs(values[free]) < 100).all()
    with pytest.raises(ValueError, match="action_mask must be False for TFSACAgent"):
        EVERY["sac"]().export_onnx(tmp_path / "x.onnx", action_mask=True)
