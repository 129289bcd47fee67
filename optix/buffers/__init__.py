"""Replay, on the device.

uniform, prioritised: buffers behind the `Buffer` record. n_step: returns of several
steps, made while collecting. hindsight: relabelling of missed goals. storage: rings of
rows. linked: rings that keep each observation once, whose
factory is long, for its functions share sizes. compact: smaller types for them.

A factory is named like its module, so nothing is exported: `from optix.buffers.uniform
import uniform`.
"""
