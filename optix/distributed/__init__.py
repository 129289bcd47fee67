"""One run over many devices.

mesh: the programs of a run over a mesh of devices, and what tells that the devices which
share one policy still agree. devices: how many there are; on a CPU it makes them.

`optix/distributed/README.md` says which way serves which need.
"""
