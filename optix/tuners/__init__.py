"""What chooses the hyperparameters of the next round.

fixed: nothing is tuned. trust: a rate steered by how far the policy moves, the default of
PPO where nobody gives a rate; of all else it is fixed.
spsa, momentum, backoff: two forks a round, the better goes on; the rules that move their
centre by the difference in proportion, smoothed, by its sign. adaptive: a rate steered,
the rest by the rule that suits the scores. pbt: a population; alone: the same of one lane.
probing: the two forks and what a rule is. space: bounds as a unit box.

A factory is named like its module, so nothing is exported: `from optix.tuners.spsa import
spsa`, or `tuner="spsa"` by name.
"""
