"""Actors: environments of Gymnasium played elsewhere than the learner learns.

actor: environments and the agent that acts in them. engines: where actors run (inline,
threads, ray). roster: who works, who is silent, who is replaced. lines: the parts of
windows of one stream. crew: what a learner asks of all of them, and how old it may be.
learner: all of that as a `Learner`. asynchronous: that and the loop as one object.
"""
