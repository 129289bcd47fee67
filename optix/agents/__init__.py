"""Algorithms: one file, one algorithm, top to bottom.

ppo: proximal policy optimisation, categorical and Gaussian.
"""
