"""A pytree as plain NumPy arrays and an index that says what they must be."""

import functools
import zlib
from typing import Any

import jax
import numpy as np

from optix.types import PyTree


def describe(tree: PyTree) -> list[dict[str, Any]]:
    """Return path, shape and dtype of every leaf, in the tree's order.

    Works on arrays as well as on `jax.ShapeDtypeStruct` leaves.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [
        {
            "path": jax.tree_util.keystr(path) or "(the whole tree)",
            "shape": list(np.shape(leaf)),
            "dtype": str(
                leaf.dtype if hasattr(leaf, "dtype") else np.result_type(leaf)
            ),
        }
        for path, leaf in leaves
    ]


def to_arrays(tree: PyTree) -> tuple[list[np.ndarray], list[dict[str, Any]]]:
    """Return the leaves on the host and their index with checksums.

    Typed PRNG keys become their key data; the index names their implementation.
    """
    arrays, index = [], describe(tree)
    for leaf, entry in zip(jax.tree.leaves(tree), index, strict=True):
        if jax.dtypes.issubdtype(getattr(leaf, "dtype", None), jax.dtypes.prng_key):
            entry["prng"] = str(jax.random.key_impl(leaf))
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf, order="C")
        entry |= {
            "stored_shape": list(array.shape),
            "stored_dtype": str(array.dtype),
            "crc32": checksum(array),
        }
        arrays.append(array)
    return arrays, index


def from_arrays(
    arrays: list[np.ndarray], index: list[dict[str, Any]], target: PyTree
) -> PyTree:
    """Return the arrays as a tree like `target`, on the devices of its leaves."""
    leaves, treedef = jax.tree.flatten(target)
    placed = []
    for array, entry, leaf in zip(arrays, index, leaves, strict=True):
        # A copy: XLA could otherwise write into memory that NumPy owns.
        sharding = getattr(leaf, "sharding", None)
        value = jax.device_put(array, sharding, may_alias=False)
        if "prng" in entry:
            value = jax.random.wrap_key_data(value, impl=entry["prng"])
        placed.append(value)
    return treedef.unflatten(placed)


def difference(index: list[dict[str, Any]], target: PyTree) -> str | None:
    """Return in words where a stored index is unlike `target`, None if nowhere."""
    found = {entry["path"]: (entry["shape"], entry["dtype"]) for entry in index}
    wanted = {e["path"]: (e["shape"], e["dtype"]) for e in describe(target)}
    lines = []
    for path in sorted(found.keys() | wanted.keys()):
        if found.get(path) != wanted.get(path):
            lines.append(
                f"{path}: stored {_words(found.get(path))}, "
                f"expected {_words(wanted.get(path))}"
            )
    if not lines:
        return None
    shown = "; ".join(lines[:3])
    return shown if len(lines) <= 3 else f"{shown}; and {len(lines) - 3} more"


def unknown_keys(index: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the first entry whose key could not be made again from its data."""
    for entry in index:
        if "prng" in entry and not _is_key_name(entry["prng"]):
            return entry
    return None


@functools.cache
def _is_key_name(name: str) -> bool:
    try:
        jax.eval_shape(lambda: jax.random.key(0, impl=name))
    except ValueError:
        return False
    return True


def checksum(array: np.ndarray) -> int:
    """Return the CRC-32 of an array's bytes."""
    return zlib.crc32(array.reshape(-1).view(np.uint8).data)


def _words(leaf: tuple[list[int], str] | None) -> str:
    return "nothing" if leaf is None else f"{leaf[1]}{leaf[0]}"
