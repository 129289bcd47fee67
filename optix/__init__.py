"""Autonomous training loops as pure JAX functions over immutable pytrees.

Reading order: `types` (the contracts), `math`, `networks`, `agents`, `envs`, `learners`,
`tuners`, `loop` (the autonomous run), `make` (where they meet), `train` (the driver).
"""

from optix.make import make
from optix.types import Event, Phase, StopReason, Verdict

__all__ = ["Event", "Phase", "StopReason", "Verdict", "make"]
