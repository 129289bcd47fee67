"""Policies and graphs as ONNX files.

policy: of a JAX agent. graph: of neurons. row: any function of one row, by the rules of
arithmetic, movement and products for the steps of its jaxpr. emitter: the nodes. carries:
what a network remembers. file: how a file is written, whoever made the model.
"""

from typing import TYPE_CHECKING

from optix.exports import export

if TYPE_CHECKING:
    from optix.onnx.graph import export_graph as export_graph
    from optix.onnx.policy import export_policy as export_policy
    from optix.onnx.steps import UnsupportedError as UnsupportedError

export(
    globals(),
    {
        "graph": ("export_graph",),
        "policy": ("export_policy",),
        "steps": ("UnsupportedError",),
    },
)
