"""What chooses the hyperparameters of the next round.

fixed: nothing is tuned, the default. spsa: two forks a round, the better goes on.
space: bounds as a unit box.
"""
