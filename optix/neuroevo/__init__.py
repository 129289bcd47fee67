"""Networks that grow while they learn.

graph: what a graph is and how it runs. topology: its changes. growth: when and where it
changes. drawing: pictures of it.

What users call is exported here and imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optix.neuroevo.drawing.plot import animate, plot, strip
    from optix.neuroevo.drawing.summary import summary
    from optix.neuroevo.graph.brain import BrainNetwork
    from optix.neuroevo.graph.build import GraphBuilder, draw, layered, random_graph
    from optix.neuroevo.graph.capacity import grow_capacity
    from optix.neuroevo.graph.cells import register_activation
    from optix.neuroevo.graph.edges import (
        from_edges,
        from_networkx,
        to_edges,
        to_networkx,
    )
    from optix.neuroevo.graph.graph import NeuronGraph
    from optix.neuroevo.graph.network import (
        graph_actor_critic,
        graph_network,
        graph_of,
        num_heads,
    )
    from optix.neuroevo.graph.optimizer import graph_optimizer, topology_adam
    from optix.neuroevo.graph.records import Edge, Neuron
    from optix.neuroevo.graph.static import freeze
    from optix.neuroevo.growth.controller import topology_controller
    from optix.neuroevo.growth.hebbian import hebbian
    from optix.neuroevo.topology.mutate import (
        add_edge,
        add_neuron,
        duplicate_neuron,
        split_edge,
    )
    from optix.neuroevo.topology.prune import (
        merge_neurons,
        prune_edge,
        prune_neuron,
        prune_stranded,
    )

_HOMES = {
    "drawing.plot": ("animate", "plot", "strip"),
    "drawing.summary": ("summary",),
    "graph.brain": ("BrainNetwork",),
    "graph.build": ("GraphBuilder", "draw", "layered", "random_graph"),
    "graph.capacity": ("grow_capacity",),
    "graph.cells": ("register_activation",),
    "graph.edges": ("from_edges", "from_networkx", "to_edges", "to_networkx"),
    "graph.graph": ("NeuronGraph",),
    "graph.network": ("graph_actor_critic", "graph_network", "graph_of", "num_heads"),
    "graph.optimizer": ("graph_optimizer", "topology_adam"),
    "graph.records": ("Edge", "Neuron"),
    "graph.static": ("freeze",),
    "growth.controller": ("topology_controller",),
    "growth.hebbian": ("hebbian",),
    "topology.mutate": ("add_edge", "add_neuron", "duplicate_neuron", "split_edge"),
    "topology.prune": (
        *("merge_neurons", "prune_edge", "prune_neuron", "prune_stranded"),
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # pyright: ignore[reportUnsupportedDunderAll]
    "BrainNetwork",
    "Edge",
    "GraphBuilder",
    "Neuron",
    "NeuronGraph",
    "add_edge",
    "add_neuron",
    "animate",
    "draw",
    "duplicate_neuron",
    "freeze",
    "from_edges",
    "from_networkx",
    "graph_actor_critic",
    "graph_network",
    "graph_of",
    "graph_optimizer",
    "grow_capacity",
    "hebbian",
    "layered",
    "merge_neurons",
    "num_heads",
    "plot",
    "prune_edge",
    "prune_neuron",
    "prune_stranded",
    "random_graph",
    "register_activation",
    "split_edge",
    "strip",
    "summary",
    "to_edges",
    "to_networkx",
    "topology_adam",
    "topology_controller",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
