"""Every keyword of the factories of environments x values that few of them take."""

import inspect

import pytest

from optix.envs.device import device
from optix.envs.spaces import spaces
from tests import probes

VALUES = [-1, 0, float("nan"), float("inf"), 1e30, "x", None, True, 1.5, 10**20]
RIGHT = {
    (device, "env_params"): [None],
    (device, "name"): [None, "x"],
    (device, "task"): [None],
    (spaces, "env_params"): [None],
}
KEYWORDS = [
    (factory, name)
    for factory in (device, spaces)
    for name in inspect.signature(factory).parameters
]


@pytest.mark.parametrize(("factory", "name"), KEYWORDS)
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_right_or_named(factory, name, value):
    given = {"env": probes.Probe(), name: value}
    if value in RIGHT.get((factory, name), []):
        factory(**given)
        return
    with pytest.raises(ValueError, match=rf"\b{name}\b|environment|{value!r}"):
        factory(**given)


@pytest.mark.parametrize("value", [value for value in VALUES if value is not None])
def test_parameters_beside_what_takes_none(value):
    with pytest.raises(ValueError, match="env_params"):
        spaces(device(probes.Probe()), value)
