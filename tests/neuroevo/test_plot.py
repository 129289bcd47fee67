"""Drawings: where neurons stand, what is drawn, and what is told in text."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from PIL import Image

from optix.neuroevo.drawing.layout import layout, merged, snapshot
from optix.neuroevo.drawing.plot import animate, plot, strip
from optix.neuroevo.drawing.summary import summary
from optix.neuroevo.graph.brain import BrainNetwork
from optix.neuroevo.graph.capacity import grow_capacity
from optix.neuroevo.graph.edges import Edge, Neuron, from_edges

INPUT, OUTPUT = Neuron("input", "linear"), Neuron("output", "linear")
# slots: inputs 0 and 1, output 2, hidden 3, 4 and 5; 5 is at level 2
NEURONS = [INPUT, INPUT, OUTPUT, Neuron("hidden"), Neuron("hidden", "trainable_gru")]
NEURONS += [Neuron("hidden", "relu", "inhibitory")]
EDGES = [
    Edge(0, 3, 1.0),
    Edge(1, 4, -3.0),
    Edge(3, 5, 0.5),
    Edge(4, 5, 0.25),
    Edge(5, 2, -1.0),
    Edge(4, 4, 0.5, delay=2),
    Edge(2, 3, 0.0, delay=1),
]


@pytest.fixture(scope="module")
def graph():
    return from_edges(NEURONS, EDGES, capacity=9)


@pytest.fixture(scope="module")
def later(graph):
    """The same with a neuron more, in slot 6, and without neuron 4."""
    structure = graph.structure
    edge = structure.edge.at[:, 4].set(False).at[:, :, 4].set(False)
    edge = edge.at[0, 6, 3].set(True).at[0, 2, 6].set(True)
    alive = structure.alive.at[4].set(False).at[6].set(True)
    return graph.replace(structure=structure._replace(edge=edge, alive=alive))


def brain():
    network = BrainNetwork()
    for name in ("eye", "memory", "hand"):
        network.add_region(name, ([INPUT, OUTPUT], [Edge(0, 1, 1.0)]))
    network.add_pathway("eye", "memory", 1, delay=1)
    network.add_pathway("memory", "hand", 1, delay=0)
    return network.build()


def test_inputs_stand_left_outputs_right_and_hidden_neurons_by_level(graph):
    at = layout(snapshot(graph))
    assert np.isnan(at[6:]).all() and np.isfinite(at[:6]).all()
    x = at[:, 0]
    assert x[0] == x[1] < x[3] == x[4] < x[5] < x[2]
    assert at[0, 1] > at[1, 1]  # the first input is above


def test_no_two_neurons_stand_at_one_place():
    # 40 neurons of one level, folded
    neurons = [INPUT] * 3 + [OUTPUT] * 2 + [Neuron("hidden")] * 40
    edges = [Edge(0, hidden, 1.0) for hidden in range(5, 45)]
    edges += [Edge(hidden, 3, 1.0) for hidden in range(5, 45)]
    at = layout(snapshot(from_edges(neurons, edges)))
    gaps = np.linalg.norm(at[:, None] - at, axis=-1) + 10 * np.eye(45)
    assert gaps.min() > 0.9
    assert np.ptp(at[:, 1]) < 15


def test_hidden_neurons_are_near_what_they_are_connected_with():
    # three pairs whose edges would all cross in the order of their slots
    neurons = [INPUT] * 3 + [OUTPUT] + [Neuron("hidden")] * 3
    edges = [Edge(0, 6, 1.0), Edge(1, 5, 1.0), Edge(2, 4, 1.0)]
    edges += [Edge(hidden, 3, 1.0) for hidden in (4, 5, 6)]
    y = layout(snapshot(from_edges(neurons, edges)))[:, 1]
    assert y[6] > y[5] > y[4]


def test_regions_follow_each_other_as_signals_reach_them():
    built = brain()
    at = layout(snapshot(built.graph))
    ends = [at[built.members(name), 0] for name in built.regions]
    assert ends[0].max() < ends[1].min() and ends[1].max() < ends[2].min()


def test_neurons_keep_their_place_in_a_series(graph, later):
    first, second = snapshot(graph), snapshot(later)
    everything = merged([first, second])
    assert everything.alive.sum() == 7
    assert np.isfinite(layout(everything)[:7]).all()
    # an edge is drawn as it was last
    np.testing.assert_array_equal(everything.edge, first.edge | second.edge)


def test_boxes_of_regions_stay_when_neurons_go(tmp_path):
    """A free slot has no region: it must not stretch the box of region 0."""
    built = brain()
    gone = built.slots["hand"][0]
    structure = built.graph.structure
    structure = structure._replace(
        edge=structure.edge.at[:, gone].set(False).at[:, :, gone].set(False),
        alive=structure.alive.at[gone].set(False),
        region=structure.region.at[gone].set(0),
    )
    later = built.graph.replace(structure=structure)
    path = tmp_path / "strip.png"
    for axes in strip([built.graph, later], path, regions=built.regions):
        # the only boxes, as all neurons are round
        boxes = [x.get_bbox() for x in axes.patches if isinstance(x, FancyBboxPatch)]
        assert len(boxes) == 3
        assert all(a.x1 < b.x0 for a, b in zip(boxes, boxes[1:], strict=False))


def drawn_edges(axes):
    return [x for x in axes.collections if isinstance(x, PathCollection)]


def test_colour_is_the_sign_of_a_weight_and_width_its_size(graph):
    axes = plot(graph)
    lines = drawn_edges(axes)
    assert len(lines) == len(EDGES)
    widths = [line.get_linewidth()[0] for line in lines]
    assert widths == sorted(widths)  # the largest is drawn last, above the others
    colours = [to_hex(line.get_edgecolor()[0]) for line in lines]
    legend = axes.get_legend()
    blue, red = (to_hex(line.get_color()) for line in legend.get_lines()[:2])
    assert [x.get_text() for x in legend.get_texts()][:2] == ["weight > 0", "< 0"]
    grey = colours[0]  # of weight 0
    assert len({red, blue, grey}) == 3
    sizes = sorted((edge.weight for edge in EDGES), key=abs)
    expected = [grey if w == 0 else blue if w > 0 else red for w in sizes]
    assert Counter(colours) == Counter(expected)
    dashed = [line.get_linestyle()[0][1] is not None for line in lines]
    assert sum(dashed) == 2


def test_weights_are_drawn_as_they_act():
    # under softplus a stored 0 is a weight of 0.69, to the side of its source
    neurons = [INPUT._replace(cell_type="inhibitory"), OUTPUT]
    graph = from_edges(neurons, [Edge(0, 1, -1.0)], dale="softplus")
    zero = graph.weights._replace(edge=jnp.zeros_like(graph.weights.edge))
    assert snapshot(graph.replace(weights=zero)).weight[0, 1, 0] == pytest.approx(
        -np.log(2.0)
    )


def test_drawings_say_what_is_in_them(graph):
    legend = plot(graph).get_legend()
    texts = {text.get_text() for text in legend.get_texts()}
    kinds = {"linear", "tanh", "relu", "trainable gru", "inhibitory"}
    assert texts == {"weight > 0", "< 0", "delay 1", "delay 2", *kinds}


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_drawing_is_a_file(graph, tmp_path, ending):
    path = tmp_path / f"graph.{ending}"
    plot(graph, path, title="a graph")
    assert path.stat().st_size > 2000


def test_a_drawing_may_be_part_of_a_figure(graph):
    left, right = Figure().subplots(1, 2)
    assert plot(graph, axes=right) is right
    assert not left.collections and len(drawn_edges(right)) == len(EDGES)


def test_a_strip_shows_every_snapshot(graph, later, tmp_path):
    path = tmp_path / "strip.png"
    strip([graph, later, later], path, ["0", "10", "20"], columns=2)
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    half = pixels.shape[1] // 2
    green = (pixels[..., 1] - pixels[..., 0] > 30) & (
        pixels[..., 1] - pixels[..., 2] > 30
    )
    # a ring around the new neuron of the second snapshot, none in the third
    top = slice(0, int(0.45 * len(pixels)))
    assert green[top, half:].sum() > 200 > green[top, :half].sum()


def test_an_animation_has_a_frame_for_every_snapshot(graph, later, tmp_path):
    path = tmp_path / "run.gif"
    animate([graph, later], path, ["before", "after"])
    with Image.open(path) as image:
        assert image.n_frames == 2


def test_a_series_has_graphs_and_a_label_for_each(graph, tmp_path):
    with pytest.raises(ValueError, match="got 0 graphs"):
        strip([], tmp_path / "none.png")
    with pytest.raises(ValueError, match="1 graphs and 2 labels"):
        animate([graph], tmp_path / "none.gif", ["a", "b"])
    with pytest.raises(ValueError, match="grow_capacity makes the smaller"):
        strip([graph, grow_capacity(graph)], tmp_path / "none.png")
    with pytest.raises(ValueError, match="columns must be an integer >= 1, got 0"):
        strip([graph], tmp_path / "none.png", columns=0)
    with pytest.raises(ValueError, match="frames_per_second must be in"):
        animate([graph], tmp_path / "none.gif", frames_per_second=0)


def test_a_summary_counts(graph):
    text = summary(graph)
    for line in (
        "neurons     2 inputs, 3 hidden, 1 outputs",
        "room        6 of 9 neurons, 1 of 1 gated cells, delays up to 2",
        "depth       3",
        "edges       7: 5 of delay 0, 1 of delay 1, 1 of delay 2",
        "kinds       linear 1, relu 1, tanh 1, trainable gru 1",
        "cell types  any 5, inhibitory 1; dale clamp",
        "weights     mean size 0.89, largest 3.00",  # 6.25 / 7
        "parameters  23: 7 weights, 4 biases, 12 gates",
    ):
        assert line in text.splitlines()
    assert "region" not in text


def test_a_summary_has_a_line_for_every_region():
    built = brain()
    lines = summary(built.graph, built.regions).splitlines()[-4:]
    assert [line.split() for line in lines] == [
        ["region", "neurons", "hidden", "edges", "incoming", "outgoing"],
        ["eye", "2", "1", "1", "0", "1"],
        ["memory", "2", "2", "1", "1", "1"],
        ["hand", "2", "1", "1", "1", "0"],
    ]


def test_a_population_member_can_be_drawn(graph):
    many = jax.tree.map(lambda x: jnp.stack([x, x]), graph)
    one = jax.tree.map(lambda x: x[1], many)
    assert len(drawn_edges(plot(one))) == len(EDGES)
