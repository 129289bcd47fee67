"""Replay, on the device.

uniform, prioritised: buffers behind the `Buffer` record. n_step: returns of several
steps, made while collecting. hindsight: relabelling of missed goals.
"""
