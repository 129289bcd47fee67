"""What chooses the hyperparameters of the next round.

fixed: nothing is tuned, the default. trust: a rate steered by how far the policy moves.
spsa: two forks a round, the better goes on.
space: bounds as a unit box.

A factory is named like its module, so nothing is exported: `from optix.tuners.spsa import
spsa`, or `tuner="spsa"` by name.
"""
