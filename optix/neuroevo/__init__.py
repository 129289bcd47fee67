"""Networks that grow while they learn.

graph: what a graph is and how it runs. topology: its changes. growth: when and where it
changes. drawing: pictures of it.

What users call is exported here and imported when it is first asked for.
"""

from typing import TYPE_CHECKING

from optix.exports import export

if TYPE_CHECKING:
    from optix.neuroevo.drawing.plot import animate as animate
    from optix.neuroevo.drawing.plot import plot as plot
    from optix.neuroevo.drawing.plot import strip as strip
    from optix.neuroevo.drawing.summary import summary as summary
    from optix.neuroevo.graph.brain import BrainNetwork as BrainNetwork
    from optix.neuroevo.graph.build import GraphBuilder as GraphBuilder
    from optix.neuroevo.graph.build import draw as draw
    from optix.neuroevo.graph.build import layered as layered
    from optix.neuroevo.graph.build import random_graph as random_graph
    from optix.neuroevo.graph.capacity import grow_capacity as grow_capacity
    from optix.neuroevo.graph.cells import register_activation as register_activation
    from optix.neuroevo.graph.edges import from_edges as from_edges
    from optix.neuroevo.graph.edges import from_networkx as from_networkx
    from optix.neuroevo.graph.edges import to_edges as to_edges
    from optix.neuroevo.graph.edges import to_networkx as to_networkx
    from optix.neuroevo.graph.graph import NeuronGraph as NeuronGraph
    from optix.neuroevo.graph.network import graph_actor_critic as graph_actor_critic
    from optix.neuroevo.graph.network import graph_network as graph_network
    from optix.neuroevo.graph.network import graph_of as graph_of
    from optix.neuroevo.graph.network import num_heads as num_heads
    from optix.neuroevo.graph.optimizer import graph_optimizer as graph_optimizer
    from optix.neuroevo.graph.optimizer import topology_adam as topology_adam
    from optix.neuroevo.graph.records import Edge as Edge
    from optix.neuroevo.graph.records import Neuron as Neuron
    from optix.neuroevo.graph.static import freeze as freeze
    from optix.neuroevo.growth.controller import (
        topology_controller as topology_controller,
    )
    from optix.neuroevo.growth.hebbian import hebbian as hebbian
    from optix.neuroevo.topology.mutate import add_edge as add_edge
    from optix.neuroevo.topology.mutate import add_neuron as add_neuron
    from optix.neuroevo.topology.mutate import duplicate_neuron as duplicate_neuron
    from optix.neuroevo.topology.mutate import split_edge as split_edge
    from optix.neuroevo.topology.prune import merge_neurons as merge_neurons
    from optix.neuroevo.topology.prune import prune_edge as prune_edge
    from optix.neuroevo.topology.prune import prune_neuron as prune_neuron
    from optix.neuroevo.topology.prune import prune_stranded as prune_stranded

export(
    globals(),
    {
        "drawing.plot": ("animate", "plot", "strip"),
        "drawing.summary": ("summary",),
        "graph.brain": ("BrainNetwork",),
        "graph.build": ("GraphBuilder", "draw", "layered", "random_graph"),
        "graph.capacity": ("grow_capacity",),
        "graph.cells": ("register_activation",),
        "graph.edges": ("from_edges", "from_networkx", "to_edges", "to_networkx"),
        "graph.graph": ("NeuronGraph",),
        "graph.network": (
            "graph_actor_critic",
            "graph_network",
            "graph_of",
            "num_heads",
        ),
        "graph.optimizer": ("graph_optimizer", "topology_adam"),
        "graph.records": ("Edge", "Neuron"),
        "graph.static": ("freeze",),
        "growth.controller": ("topology_controller",),
        "growth.hebbian": ("hebbian",),
        "topology.mutate": ("add_edge", "add_neuron", "duplicate_neuron", "split_edge"),
        "topology.prune": (
            *("merge_neurons", "prune_edge", "prune_neuron", "prune_stranded"),
        ),
    },
)
