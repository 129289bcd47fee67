"""Networks that grow while they learn.

graph: the pytree. cells: what a neuron does. forward: how signals flow. levels: order
without sorting. build: graphs from scratch, edge lists and networkx. mutate, prune:
changes of topology under jit. patch: what they do to running episodes. capacity: more
room, on the host. adam: an optimizer that forgets what has changed. network: a graph as
a policy. importance, growth, controller: when to grow, prune and merge, and where. brain,
regions: parts with names and the pathways between them. hebbian, modulation: learning
without gradients, and its regime. plot, layout, strokes: drawings. summary: a graph in a
few lines.
"""
