"""Environments, and what they show and take.

environment: of whatever names one. device: environments written in JAX, by gymnax's
protocol. wrappers: how those are stepped. checked: the forms of what they give. masking:
which actions they allow.

hosted: environments of Gymnasium, by one callback a step. source: where copies of them
come from. vectors: how a copy is stepped. copies: which of them goes on. names: whose a
name is.

families: packages of environments written in JAX, by name as in "brax:ant". listing: what
is known here by name. resets: how ended episodes begin again; tasks: with which
parameters. operations: what a function costs, by which resets are chosen. pictures: what
they look like.

kinds: what kind of space one has. observations: how agents see what both show; parts:
several of them as one. actions: what both take. spaces: what any kind of environment
shows and takes. shown: what Gymnasium's show in rows for the device; telling: their
masks.

A factory is named like its module, so nothing is exported: `from optix.envs.device import
device`.
"""
