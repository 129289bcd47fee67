"""Changes of topology under jit, without a change of shape.

draft: a graph while it is changed. places: where there is room. mutate, prune: the
changes. grow: whole steps of growth. patch: what they do to running episodes.
"""
