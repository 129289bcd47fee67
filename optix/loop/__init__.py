"""The autonomous run.

loop: a run from its parts. round: training, scoring, judging, transforming and forking.
lanes: work over the lanes of a tuner. judge: what a round's scores mean, by convergence
(what the scores say) and phases (ACTIVE, COOLING, DORMANT). finish: which policy is kept.
transforms, modulation: pure callbacks. curve: a fixed-size history. until_stopped: a
while loop over many seeds.
"""
