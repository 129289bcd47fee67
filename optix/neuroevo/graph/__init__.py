"""The graph: what it is, how it is built and how it runs.

graph: the pytree. cells: what a neuron does. levels: order without sorting. build, edges:
graphs from scratch, edge lists and networkx. capacity: more room, on the host. forward:
how signals flow. network: a graph as a policy. optimizer: Adam that forgets what has
changed. brain, regions: parts with names and the pathways between them.
"""
