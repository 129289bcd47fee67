"""TensorFlow traces each function once, whatever numbers and sizes follow."""

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

import tensorflow as tf

from optix.host.agent import HyperparamSet
from tests.adapters.acting import play
from tests.adapters.tensorflow.windows import AGENTS, make

TRACED = {
    "ppo": {"play", "explore", "value", "window"},
    "gaussian": {"play", "explore", "value", "window"},
    "dqn": {"play", "updates"},
    "sac": {"play", "explore", "updates"},
    "td3": {"play", "updates"},
}


@pytest.mark.parametrize("name", AGENTS)
def test_nothing_is_traced_again(name, monkeypatch):
    traces = []
    function = tf.function

    def counted(body, **options):
        def counting(*given):
            traces.append(body)
            return body(*given)

        return function(counting, **options)

    monkeypatch.setattr(tf, "function", counted)
    agent = make(name)

    def use(envs, steps):
        agent.learn(play(agent, steps=steps, envs=envs))
        agent.act_batch(np.zeros((envs, 4)))
        agent.act_batch(np.zeros((envs, 4)), explore=False)
        agent.restore(agent.state())

    use(2, 8)
    use(2, 8)
    count = len(traces)
    assert set(agent._traced) == TRACED[name]
    # of a traced loop the body may be run twice, to find what it changes; not the function
    assert count == len(TRACED[name]) + 2  # and what reads and what writes the state
    for k, (low, high) in enumerate(
        (row[1:] for row in agent.FLOATS.values()), start=1
    ):
        floats = list(agent.FLOATS)
        value = min(low + 0.01 * k, high)
        agent.set_hyperparams(HyperparamSet({floats[k - 1]: value}))
    sizes = {n: 3 for n in agent.SIZES if n not in ("capacity", "learning_starts")}
    agent.set_hyperparams(HyperparamSet(sizes))
    use(3, 9)
    use(1, 12)
    assert len(traces) == count
