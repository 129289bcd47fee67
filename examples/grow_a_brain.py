"""A brain of two regions that grows while it learns, and a picture of how it did.

A region that sees hands on what it makes of the observation, one step later, to a region
that acts. The controller may add neurons to either up to a cap, prune and merge, and
nothing is compiled again: the graph has room from the start. Growing is by chance here,
so that there is something to see in a short run; leave `trigger` out and it waits until
the scores are flat though they hang together, and every neuron is in use.
"""

import sys

import jax

import optix
from optix.neuroevo import (
    BrainNetwork,
    graph_of,
    layered,
    strip,
    summary,
    topology_controller,
)

PICTURE = "brain.png"


def main(rounds: int = 160, pictures: int = 4) -> None:
    network = BrainNetwork()
    network.add_region("sensory", layered(4, (3,), 2))
    network.add_region("motor", layered(2, (3,), 3))  # two logits and the value
    network.add_pathway("sensory", "motor", n_connections=6, delay=1)
    brain = network.build(capacity=32)
    print(summary(brain.graph, brain.regions))

    controller = topology_controller(
        brain.graph,
        trigger="random",
        growth_rate=0.2,
        max_neurons=brain.caps({"sensory": 14, "motor": 14}),
    )
    loop = optix.make(
        "CartPole-v1", network=brain.graph, transforms=controller, max_rounds=rounds
    )
    step = jax.jit(loop.step)
    state = jax.jit(loop.init)(jax.random.key(0))
    graphs, labels = [brain.graph], ["at first"]
    for number in range(1, rounds + 1):
        state, report = step(state)
        if number * (pictures - 1) // rounds == len(graphs):
            policy = jax.tree.map(lambda x: x[0], state.learner.policy)  # of lane 0
            graphs.append(graph_of(brain.graph, policy))
            labels.append(f"round {number}: score {report.score:.0f}")
            print(labels[-1], "neurons", int(graphs[-1].structure.alive.sum()))

    print(summary(graphs[-1], brain.regions))
    connections = brain.pathways(graphs[-1])
    print(f"{len(connections)} connections between regions, the strongest:")
    for edge in sorted(connections, key=lambda edge: -abs(edge.weight))[:3]:
        print(f"  {edge.src_region} {edge.src} -> {edge.dst_region} {edge.dst}", end="")
        print(f"  weight {edge.weight:+.2f}, delay {edge.delay}")
    strip(graphs, PICTURE, labels, regions=brain.regions, columns=2)
    print(f"drawn to {PICTURE}")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
