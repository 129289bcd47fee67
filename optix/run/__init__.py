"""Running a loop from the host.

train: `train` and `resume`. session: dispatches, and what is told and saved in between.
programs: the compiled functions; sharing: what each of several devices gets of a run.
batch: the seeds that still cost something. pace: how much one dispatch holds. pause: what
leaves a run. folder: what is on disk; description: its run.json; place: what a path must
be for that; lock: who may write to it; ending: what stays when a run is over. result: how
a run ended. together: what several processes do before they play. evaluate: its best
policy, played. play: its best policy, seen; seen: episodes a step at a time; film: their
pictures as files. load: its best policy as an object that acts; members: several of them
as one; playing: episodes on fresh keys. loaded_agent: that of an agent outside JAX.

rl_optimizer: a host agent and its pipeline as one object, a facade over all that.
binding: how it makes loops; score_function: what decides; home: where it keeps a run;
relay: what it tells; best: the best policy, given to the agent; trials: short runs before
the long one.
"""
