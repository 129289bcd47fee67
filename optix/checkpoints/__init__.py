"""Checkpoints on disk: atomic, verified, without pickle.

registry: snapshots in a folder, of which the best and the latest are kept. record: what
is said of a snapshot, with a checksum. index: a pytree as plain arrays and a description
of them. store: one snapshot on disk, by orbax.
"""
