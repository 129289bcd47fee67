"""When and where a graph grows, is pruned and learns without gradients.

controller: growth during a run. conditions: when a region should grow. room: what it may
fill. gradients: what the optimizer's moments tell. importance: what each neuron is worth.
activity: the outputs of all neurons over a window. upkeep: pruning and merging. hebbian:
local learning.
"""
