"""Environments, and what they show and take.

device: environments written in JAX, by gymnax's protocol. wrappers: how those are
stepped. kinds: their spaces. checked: the forms of what they give. spaces: what any kind
of environment shows and takes. names: of Gymnasium environments.

A factory is named like its module, so nothing is exported: `from optix.envs.device import
device`.
"""
