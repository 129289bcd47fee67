"""GraphAgent of tensor-optix in its loop, one line of figures for each line it is sent.

Run by an interpreter that has tensor-optix 1.16.0 and torch 2.13.0, with
OMP_NUM_THREADS=1: python -m tests.benchmarks.worker_graph_agent plain|recurrent SECONDS
"""

import json
import random
import sys
import tempfile
import time

sys.modules["tensorflow"] = None  # not needed, and slow to import

import gymnasium  # noqa: E402
from tensor_optix import BatchPipeline, RLOptimizer  # noqa: E402
from tensor_optix.core.loop_controller import LoopCallback  # noqa: E402
from tensor_optix.neuroevo import (  # noqa: E402
    GraphAgent,
    NeuronGraph,
    RecurrentGraphAgent,
    TrainableGRUNeuron,
)

WINDOW, HIDDEN = 200, 8


class Clock(LoopCallback):
    """Counts windows, and stops the loop when the time is over."""

    def __init__(self, seconds):
        self.seconds, self.started, self.windows = seconds, None, 0

    def on_episode_end(self, *args):
        now = time.perf_counter()
        if self.started is None:  # the first window warms up
            self.started = now
            return
        self.windows += 1
        self.elapsed = now - self.started
        if self.elapsed > self.seconds:
            self.loop.stop()


def build(recurrent):
    """An agent of 4 inputs, 8 hidden neurons and 3 outputs, fully connected."""
    graph = NeuronGraph()
    inputs = [graph.add_neuron(role="input", activation="linear") for _ in range(4)]
    hidden = [
        graph.add_neuron(role="hidden", neuron=TrainableGRUNeuron())
        if recurrent
        else graph.add_neuron(role="hidden", activation="tanh")
        for _ in range(HIDDEN)
    ]
    outputs = [graph.add_neuron(role="output", activation="linear") for _ in range(3)]
    for below, above, scale in ((inputs, hidden, 0.5), (hidden, outputs, 0.3)):
        for src in below:
            for dst in above:
                graph.add_edge(src, dst, weight=random.gauss(0, scale))
    return (RecurrentGraphAgent if recurrent else GraphAgent)(graph, 4, 2)


def main():
    """Serve."""
    recurrent, seconds = sys.argv[1] == "recurrent", float(sys.argv[2])
    print(json.dumps({"trace": 0.0, "compile": 0.0}), flush=True)
    for _ in sys.stdin:
        agent, clock = build(recurrent), Clock(seconds)
        env = gymnasium.make("CartPole-v1")
        clock.loop = RLOptimizer(
            agent=agent,
            pipeline=BatchPipeline(env=env, agent=agent, window_size=WINDOW),
            checkpoint_dir=tempfile.mkdtemp(),
            dormant_threshold=10**9,
            plateau_threshold=10**8,
            callbacks=[clock],
        )
        clock.loop.run()
        speed = clock.windows * WINDOW / clock.elapsed
        print(json.dumps({"steps_per_second": speed}), flush=True)


if __name__ == "__main__":
    main()
