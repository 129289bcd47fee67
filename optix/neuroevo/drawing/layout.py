"""Where neurons stand in a drawing: inputs left, outputs right, hidden ones by level."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from optix.neuroevo.graph.graph import (
    NeuronGraph,
    effective_weights,
    levels,
    working,
)

COLUMN = 2.4  # between two columns; rows are at most ROW apart
ROW, TIGHT = 1.8, 1.0
FOLDED = 1.2  # between the parts of a column that is too long for one
REGION_GAP = 1.6


class Snapshot(NamedTuple):
    """What works of a graph, on the host."""

    weight: np.ndarray  # [D + 1, N, N] effective
    edge: np.ndarray  # [D + 1, N, N] bool
    alive: np.ndarray  # [N] bool
    kind: np.ndarray  # [N]
    sign: np.ndarray  # [N]
    region: np.ndarray  # [N]
    level: np.ndarray  # [N] within the region
    num_inputs: int
    first_hidden: int

    def edges(self) -> list[tuple[int, int, int]]:
        """Return delay, destination and source of each edge."""
        return [(d, dst, src) for d, dst, src in np.argwhere(self.edge).tolist()]

    def is_input(self, neuron: int) -> bool:
        """Return whether a neuron is an input."""
        return neuron < self.num_inputs

    def is_output(self, neuron: int) -> bool:
        """Return whether a neuron is an output."""
        return self.num_inputs <= neuron < self.first_hidden


def snapshot(graph: NeuronGraph) -> Snapshot:
    """Return a graph on the host, without neurons that do nothing, see `working`."""
    structure = jax.device_get(graph.structure)
    works = np.asarray(working(graph))
    edge = structure.edge & works & works[:, None]
    same = structure.region[:, None] == structure.region
    return Snapshot(
        weight=np.where(
            edge, effective_weights(graph.weights, structure, graph.dale), 0.0
        ),
        edge=edge,
        alive=works,
        kind=structure.kind,
        sign=structure.sign,
        region=structure.region,
        level=np.asarray(levels(edge[0] & same, graph.num_inputs)),
        num_inputs=graph.num_inputs,
        first_hidden=graph.first_hidden,
    )


def merged(snapshots: Sequence[Snapshot]) -> Snapshot:
    """Return all that was ever there, each neuron and edge as it was last."""
    result = snapshots[0]
    for new in snapshots[1:]:
        own = {
            name: np.where(new.alive, getattr(new, name), getattr(result, name))
            for name in ("kind", "sign", "region", "level")
        }
        result = result._replace(
            weight=np.where(new.edge, new.weight, result.weight),
            edge=result.edge | new.edge,
            alive=result.alive | new.alive,
            **own,
        )
    return result


def layout(graph: Snapshot) -> np.ndarray:
    """Return the positions of neurons, [N, 2], NaN of free slots.

    Regions stand one behind the other as signals reach them, side by side where they are
    as far. Within a column neurons are near what they are connected with.
    """
    at = np.full((len(graph.alive), 2), np.nan)
    x, stages = 0.0, _stages(graph)
    columns_of = {region: _columns(graph, region) for region in sum(stages, [])}
    longest = max(8, int(np.ceil(1.3 * np.sqrt(graph.alive.sum()))))
    for stage in stages:
        blocks, width = [], 0.0
        for region in stage:
            block, end = _block(columns_of[region], longest)
            blocks.append(block)
            width = max(width, end)
        heights = [max(y for _, _, y in b) - min(y for _, _, y in b) for b in blocks]
        y = (sum(heights) + (ROW + REGION_GAP) * (len(blocks) - 1)) / 2
        for block, height in zip(blocks, heights, strict=True):
            for neuron, dx, dy in block:
                at[neuron] = x + dx, y - height / 2 + dy
            y -= height + ROW + REGION_GAP
        x += width + COLUMN + (REGION_GAP if len(columns_of) > 1 else 0.0)
    _untangle(graph, at, [c for region in columns_of.values() for c in region])
    return at


def _stages(graph):
    """Regions by their distance from the observation; those that act come last."""
    living = np.flatnonzero(graph.alive)
    regions = np.unique(graph.region[living]).tolist()
    links = np.argwhere(graph.edge.any(0))
    joined = {(int(graph.region[src]), int(graph.region[dst])) for dst, src in links}
    see = {int(r) for r in graph.region[: graph.num_inputs]}
    act = {int(r) for r in graph.region[graph.num_inputs : graph.first_hidden]} - see
    stages, found = [sorted(see)], set(see)
    while stages[-1]:
        found |= set(stages[-1])
        reached = {dst for src, dst in joined if src in stages[-1]} - found - act
        stages.append(sorted(reached))
    stages[0] += [r for r in regions if r not in found | act]  # nothing leads there
    return [stage for stage in [*stages, sorted(act)] if stage]


def _columns(graph, region):
    """Neurons of a region from left to right."""
    living = np.flatnonzero(graph.alive & (graph.region == region))
    columns: dict[float, list[int]] = {}
    for neuron in living.tolist():
        key = float(graph.level[neuron])
        if graph.is_input(neuron):
            key = -np.inf
        elif graph.is_output(neuron):
            key = np.inf
        columns.setdefault(key, []).append(neuron)
    return [columns[key] for key in sorted(columns)]


def _block(columns, longest):
    """Neurons with their places relative to the region's left middle, and its width."""
    placed, x = [], 0.0
    heights = [min(len(column), longest) for column in columns]
    tallest = max(*heights, 1.2 * len(columns))  # deep graphs are not flat
    for column in columns:
        folds = int(np.ceil(len(column) / longest))
        rows = int(np.ceil(len(column) / folds))
        step = min(ROW, max(TIGHT, TIGHT * tallest / rows))
        for number, neuron in enumerate(column):
            fold, row = number % folds, number // folds
            shift = (fold / folds) if folds > 1 else 0.0
            y = ((rows - 1) / 2 - row - shift + (0.5 if folds > 1 else 0)) * step
            placed.append((neuron, x + fold * FOLDED, y))
        x += (folds - 1) * FOLDED + COLUMN
    return placed, x - COLUMN


def _untangle(graph, at, columns, sweeps=3):
    """Let the hidden neurons of each column change places, in the order of what pulls."""
    pull = np.abs(graph.weight).sum(0)
    pull = pull + pull.T + 1e-3 * graph.edge.any(0)
    hidden = [c for c in columns if c[0] >= graph.first_hidden and len(c) > 1]
    pull[:, ~graph.alive] = 0.0
    y = np.nan_to_num(at[:, 1])
    for sweep in range(2 * sweeps):
        for column in hidden if sweep % 2 else hidden[::-1]:
            others = pull[column].copy()
            others[:, column] = 0.0
            total = others.sum(1)
            mean = np.where(total > 0, others @ y / np.maximum(total, 1e-9), y[column])
            places = at[column][np.lexsort((at[column, 0], -at[column, 1]))]
            order = np.argsort(-mean, kind="stable")
            for place, number in zip(places, order, strict=True):
                at[column[number]] = place
            y[column] = at[column, 1]


def new_since(before: Snapshot | None, now: Snapshot) -> np.ndarray:
    """Return which neurons were not there before, [N] bool."""
    return now.alive & ~before.alive if before is not None else np.zeros_like(now.alive)
