"""Networks that grow while they learn.

graph: what a graph is and how it runs. topology: its changes. growth: when and where it
changes. drawing: pictures of it.
"""
