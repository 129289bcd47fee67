"""The graph: what it is, how it is built and how it runs.

graph: the pytree, order and what works. cells: what a neuron does. records, edges: lists
of neurons and edges, networkx. build: graphs from scratch. capacity: more room, on the
host. forward: how signals flow. network: a graph as a policy. static, static_network: a
graph that is done growing. optimizer: Adam that forgets what has changed. brain, pathways,
regions: parts with names and the pathways between them.
"""
