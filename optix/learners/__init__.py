"""An agent bound to a source of experience, behind the `Learner` record.

on_policy: windows from environments on the device. off_policy: a replay filled step by
step. collect: the step of both. evaluate: scores of whole episodes.
host: agents that live outside the device.
"""
