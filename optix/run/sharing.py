"""How one run is shared out over devices: what the mesh is, what each device gets."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from jax.sharding import Mesh

from optix import checks
from optix.distributed.devices import devices, wanted
from optix.distributed.mesh import DATA_AXIS, Split, mesh_of
from optix.distributed.peers import peers
from optix.registry import ALGORITHMS
from optix.types import Loop

# what a device of D that share the data has a D-th of
_SHARED = ("num_envs", "evaluation_episodes", "batch_size", "capacity")


def divided(agent: str, options: Mapping[str, Any], data: int) -> dict[str, Any]:
    """Return the options of each of `data` devices that together play one run.

    What they have together is what one device would have, so the run learns alike.

    Args:
        agent: the algorithm.
        options: of `optix.make`, for all devices.
        data: how many devices share the data.

    Raises:
        OptionError: a size that the devices do not divide, or an option that says itself
            how devices work together.

    >>> divided("dqn", {"batch_size": 64}, 4)["batch_size"]
    16
    """
    if data == 1:
        return dict(options)
    checks.known_names("agent", [agent], ALGORITHMS)
    for name, remedy in (
        ("axis_name", "the run chooses it itself"),
        ("buffer", "give its size as capacity="),
        ("policies", "a population is spread over devices by seeds only"),
    ):
        if options.get(name) is not None:
            raise checks.OptionError(
                f"{name} can not be given where {data} devices share the data of a run; "
                f"leave it out, for {remedy}"
            )
    row = ALGORITHMS[agent]
    sizes = {**_defaults(row.learner), **row.options, **options}
    shares = {}
    for name in _SHARED:
        if name not in sizes:
            continue
        size = checks.positive_int(name, sizes[name])
        if size % data:
            above = size + data - size % data
            raise checks.OptionError(
                f"{name} must be divisible by the {data} devices that share the data of "
                f"a run, got {size}; take {above}, or other numbers of seeds and devices"
            )
        shares[name] = size // data
    return {**options, **shares, "axis_name": DATA_AXIS}


def mesh_for(loop: Loop, sizes: Split) -> Mesh | None:
    """Return the mesh that a loop is played on, None for one device.

    Raises:
        OptionError: too few devices, or a loop that can not be played on several.
    """
    count = sizes.seeds * sizes.data
    if count == 1:
        return None
    found = devices(count)
    if loop.learner.host is not None:
        raise checks.OptionError(
            f"devices must be 1 for a run whose environments, agent or score are outside "
            f"the device, for those are in this process, got {count}; take an "
            "environment of gymnax, or several runs in processes of their own"
        )
    agent = loop.learner.agent
    if sizes.data > 1 and (agent is None or agent.axis_name is None):
        raise checks.OptionError(
            "devices must divide the seeds of a run that is given as a loop, got "
            f"{count} of them, of which {sizes.data} would share the data of a seed; "
            "name environment and agent, or make the loop with "
            f"axis_name={DATA_AXIS!r} and the sizes of one device"
        )
    return mesh_of(sizes, found)


def resumed(config: Mapping[str, Any], count: int | None) -> Split:
    """Return how a run that goes on is shared out over `count` devices.

    Args:
        config: the description of the run.
        count: None for as many as before.

    Raises:
        OptionError: so many can not go on with what the devices before had.
    """
    data, seeds = config.get("data_devices", 1), config["seeds"]
    if count is None:
        count = wanted(None) if peers().count > 1 else config.get("devices", 1)
    checks.positive_int("devices", count)
    over_seeds, rest = divmod(count, data)
    if rest or not over_seeds or seeds % over_seeds:
        allowed = [data * n for n in range(1, seeds + 1) if seeds % n == 0]
        raise checks.OptionError(
            f"devices must be one of {', '.join(map(str, allowed))} for a run of {seeds} "
            f"seed{'s' * (seeds > 1)} that began with {data} device{'s' * (data > 1)} for "
            f"each seed, got {count}: a seed can move, its replay can not be cut anew"
        )
    return Split(over_seeds, data)


def _defaults(factory: Callable[..., Any]) -> dict[str, Any]:
    parameters = inspect.signature(factory).parameters.values()
    return {
        p.name: p.default
        for p in parameters
        if p.default is not inspect.Parameter.empty
    }
