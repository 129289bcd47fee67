"""Agents and data outside JAX, in the same loop.

agent: the methods of a `BaseAgent`. pipelines: windows from Gymnasium environments.
recorded: copies of what those give and take. learner: both behind the `Learner` record.
slots: the host's half of its state. normalizers, regime: running statistics for code
outside JAX.
"""
