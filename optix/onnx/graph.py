"""A graph of neurons, a brain or a static graph as an ONNX file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from optix import checks
from optix.neuroevo.graph.brain import BrainNetwork
from optix.neuroevo.graph.graph import NeuronGraph
from optix.neuroevo.graph.network import graph_network
from optix.neuroevo.graph.regions import Brain
from optix.neuroevo.graph.static import StaticGraph, freeze, static_weights
from optix.onnx.carries import carries
from optix.onnx.file import checked_path, require_onnx, save
from optix.onnx.row import row_model


def export_graph(
    graph: NeuronGraph | StaticGraph | Brain | BrainNetwork,
    path: str | os.PathLike,
    *,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write a graph as an ONNX file: "observation" [batch, I] to "outputs" [batch, O].

    Where it has delays or gated cells, what it remembers are inputs and outputs too:
    "carry_past", the outputs that delayed edges hear, newest first, "carry_h" and
    "carry_c" of the cells, and "next_carry_..." of the step. It is the graph that `freeze`
    makes, a product for each level; neurons that reach no output are left out. Of a policy
    `graph_of` gives the graph; `export_policy` writes it with its normaliser.

    Args:
      graph: with weights.
      path: of the file; one that is there is replaced.
      about: metadata by name.

    Raises:
      ValueError: something else than a graph, a path that can not be written to.
      ImportError: onnx is not installed.

    Example: `export_graph(layered(4, (8,), 2), "graph.onnx")`.
    """
    require_onnx()
    checked_path(path)
    if isinstance(graph, BrainNetwork):
        graph = graph.build()
    if isinstance(graph, Brain):
        graph = graph.graph
    frozen = graph if isinstance(graph, StaticGraph) else freeze(graph)
    checks.record("graph", frozen, StaticGraph, "build one by GraphBuilder or layered")
    network = graph_network(frozen, keep_weights=False)  # weights of 0 will do here
    params = static_weights(frozen, frozen.graph.weights)
    carry = carries(jax.tree.map(lambda x: np.asarray(x[0]), network.initial_carry(1)))

    def row(given):
        after, outputs = network.apply(
            params, (), carry.tree(given), given["observation"]
        )
        return {"outputs": outputs, **carry.outputs(after)}

    inputs = {
        "observation": jax.ShapeDtypeStruct((frozen.num_inputs,), np.float32),
        **carry.inputs,
    }
    said = {
        "observation": "of the graph's inputs",
        "outputs": "of its output neurons, in the order of their slots",
        **carry.meanings(),
    }
    model = row_model(row, inputs, said)
    save(model, path, {"initial_carry": carry.about, **(about or {})})
