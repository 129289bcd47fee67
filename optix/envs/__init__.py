"""Sources of experience.

device: environments written in JAX. host: Gymnasium environments, by callbacks.
"""
