"""The rows of MIGRATING.md that need TensorFlow, and one of their agents in the loop."""

import gymnasium
import numpy as np
import pytest

from optix import RLOptimizer
from optix.host import VectorBatchPipeline
from tests.test_migrating import QUICK, run


def test_every_row_runs_and_an_agent_learns_as_one_object(tmp_path):
    names = {}
    run(names, apart=True)
    wanted = {
        "ppo": "TFPPOAgent",
        "gaussian": "TFGaussianPPOAgent",
        "dqn": "TFDQNAgent",
        "sac": "TFSACAgent",
        "td3": "TFTDDAgent",
        "chosen": "TFSACAgent",
    }
    assert {name: type(names[name]).__name__ for name in wanted} == wanted
    agent, pipeline = names["ppo"], VectorBatchPipeline("CartPole-v1", num_envs=2)
    opt = RLOptimizer(agent, pipeline, checkpoint_dir=tmp_path / "run", **QUICK)
    before = agent.state()
    for episodes in (1, 2):  # goes on
        result = opt.run(max_episodes=episodes)
        assert result.message == "the budget of rounds is spent"
        learned = agent.state()
        again = type(agent).for_env(gymnasium.make("CartPole-v1"))
        again.load_weights(str(opt.best_snapshot.weights_path))
        for name, array in again.state().items():
            np.testing.assert_array_equal(array, learned[name])
    assert any(np.any(before[name] != learned[name]) for name in before)
    assert opt.best_snapshot.hyperparams["clip_ratio"] == pytest.approx(0.2)
    pipeline.close()
