"""The devices of this process."""

import contextlib
import os
import re
from typing import Any

import jax

from optix import checks
from optix.distributed.peers import peers

_FLAG = r"xla_force_host_platform_device_count=(\d+)"  # of XLA_FLAGS


def wanted(count: int | None) -> int:
    """Return how many devices to use: for None one, or those of all processes."""
    if count is not None:
        return checks.positive_int("devices", count)
    return 1 if peers().count == 1 else len(jax.devices())


def devices(count: int) -> list[Any]:
    """Return the first `count` devices; on a CPU they are made, if JAX has none yet.

    To have an effect there it must be called before JAX first computes anything.

    Args:
      count: how many are wanted.

    Raises:
      OptionError: there are fewer, and no more can be made.

    >>> len(devices(1))
    1
    """
    checks.positive_int("devices", count)
    together = peers().count
    if together > 1 and count != len(jax.devices()):
        raise checks.OptionError(
            f"devices must be {len(jax.devices())}, as many as the {together} processes "
            f"of this run have, got {count}; leave it out to use them all"
        )
    if count > 1 and together == 1:
        forced = re.findall(_FLAG, os.environ.get("XLA_FLAGS", ""))
        there = [jax.config.values["jax_num_cpu_devices"], *map(int, forced)]
        if max(there) < count:
            with contextlib.suppress(RuntimeError):  # JAX has them already
                jax.config.update("jax_num_cpu_devices", count)
    found = jax.devices()
    if len(found) < count:
        kind, remedy = found[0].platform, "take fewer"
        if kind == "cpu":
            remedy = (
                "more are made only before JAX first computes, in a new process or by "
                f'jax.config.update("jax_num_cpu_devices", {count}) at its start'
            )
        raise checks.OptionError(
            f"devices must be at most {len(found)}, as many as JAX has of the kind "
            f"{kind} in this process, got {count}; {remedy}"
        )
    return found[:count]
