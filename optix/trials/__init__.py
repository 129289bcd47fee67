"""Trials: many short runs that choose a configuration for a long one.

search: `search`, `resume_search` and `join_search`, what a user calls; lead: the process
that leads one; command: the same as typed; train_from: a long run from the best trial.
plan: what is searched, and its search.json; loops: the loops of a plan, one for each value
that is compiled in; slots: trials side by side in one compiled program; worker: plays
trials until none are left; confirm: the best ones again on fresh keys.

study: the Optuna study that workers share; storages: where it is kept; leases: who plays
what, and whether they live; samplers and pruning: what is tried, and what is cut short;
launch: worker processes; states: the runs of the best trials, on disk; record: what came
of it; progress: its bar; plots: its pictures.
"""
