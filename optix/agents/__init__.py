"""Algorithms: one file, one algorithm, top to bottom.

ppo: proximal policy optimisation. recurrent_ppo: the same of networks that remember.
impala: an actor-critic that corrects for what an older policy did.
dqn, rainbow, sac, td3: learning from a replay; twin_critics is what sac and td3 share.
reading: how PPO reads a window. updates: how parameters move. view: normalisers and
counters. fit: what agents refuse.

A factory is long on purpose: it holds its whole algorithm, init, act and learn, as
closures over its sizes, to be read in one go.

A factory is named like its module, so nothing is exported: `from optix.agents.ppo import
ppo`, or `optix.make_agent` by name.
"""
