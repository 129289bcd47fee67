"""Actors: environments of Gymnasium played elsewhere than the learner learns.

actor: environments and the agent that acts in them. engines: where actors run (inline,
threads, ray). crew: what they are asked for, how old it may be, who is replaced. learner:
all of that as a `Learner`.
"""
