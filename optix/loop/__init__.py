"""The autonomous run.

loop: rounds of training, scoring, judging and forking. convergence: what the scores say.
phases: ACTIVE, COOLING, DORMANT. transforms: pure callbacks. curve: a fixed-size history.
until_stopped: a while loop over many seeds.
"""
