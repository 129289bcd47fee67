"""Algorithms: one file, one algorithm, top to bottom.

ppo, recurrent_ppo: proximal policy optimisation; proximal is what both share.
dqn, rainbow, sac, td3: learning from a replay; off_policy is what these share, and
twin_critics what sac and td3 do. shared is what all have.
"""
