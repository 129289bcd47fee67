"""Environments on the device.

device: gymnax by name or instance, and any object of its protocol. spaces: the shapes of
observations and actions, also of Gymnasium environments (whose windows are made in
`optix.host.pipelines`).

A factory is named like its module, so nothing is exported: `from optix.envs.device import
device`.
"""
