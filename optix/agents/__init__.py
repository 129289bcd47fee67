"""Algorithms: one file, one algorithm, top to bottom.

ppo: proximal policy optimisation; impala: V-trace; pqn: Q-learning without a replay.
recurrent_ppo, recurrent_pqn: of networks that remember. dqn, rainbow, sac, td3: learning
from a replay; twin_critics is what sac and td3 share. window: what is learned from one in
epochs; reading: how a network reads one. distributions: of actions, by their space.
masking: which actions are allowed. updates: how parameters move. view: normalisers and
counters. fit: what agents refuse.

A factory is long on purpose: it holds its whole algorithm, init, act and learn, as
closures over its sizes, to be read in one go.

A factory is named like its module, so nothing is exported: `from optix.agents.ppo import
ppo`, or `optix.make_agent` by name.
"""
