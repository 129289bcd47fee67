"""What a network remembers, as named inputs and outputs of a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from optix.types import PyTree

NEXT = "next_"  # before the name of what a step makes of it


class Carries(NamedTuple):
    """The parts of a carry by name; parts without numbers are none of the model's."""

    example: PyTree  # of one row
    names: tuple[str | None, ...]  # of its leaves

    @property
    def inputs(self) -> dict[str, jax.ShapeDtypeStruct]:
        """Shape and type of each part of one row."""
        leaves = zip(self.names, jax.tree.leaves(self.example), strict=True)
        return {
            name: jax.ShapeDtypeStruct(x.shape, x.dtype)
            for name, x in leaves
            if name is not None
        }

    @property
    def about(self) -> str | None:
        """Where an episode begins, for the metadata."""
        if not self.inputs:
            return None
        leaves = zip(self.names, jax.tree.leaves(self.example), strict=True)
        first = {name: np.asarray(x) for name, x in leaves if name is not None}
        if not any(x.any() for x in first.values()):
            return "zeros"
        return json.dumps({name: x.tolist() for name, x in first.items()})

    def tree(self, given: Mapping[str, Any]) -> PyTree:
        """Return the carry of one row from the inputs by name."""
        leaves, form = jax.tree.flatten(self.example)
        named = zip(self.names, leaves, strict=True)
        return form.unflatten([x if name is None else given[name] for name, x in named])

    def outputs(self, after: PyTree) -> dict[str, Any]:
        """Return what a step made of the carry, by name."""
        named = zip(self.names, jax.tree.leaves(after), strict=True)
        return {NEXT + name: x for name, x in named if name is not None}

    def meanings(self) -> dict[str, str]:
        """Say of each part what it is."""
        names = list(self.inputs)
        before = "what is remembered before the step; where an episode begins: "
        said = {name: before + str(self.about) for name in names}
        return said | {NEXT + name: f"{name} of the next step" for name in names}


def carries(carry: PyTree) -> Carries:
    """Return the `Carries` of a carry of one row."""
    paths = jax.tree_util.tree_flatten_with_path(carry)[0]

    def named(path, x):
        if not np.size(x):
            return None
        return "_".join(["carry", *(_key(part) for part in path)])

    return Carries(carry, tuple(named(path, x) for path, x in paths))


def _key(part: Any) -> str:
    for name in ("name", "key", "idx"):
        if hasattr(part, name):
            return str(getattr(part, name))
    return str(part)
