"""The picture of the hyperparameters, by what matplotlib was told."""

import matplotlib.image
import numpy as np
import pytest
from matplotlib.axes import Axes

from optix.callbacks.hyperparams import HyperparamsPlot, hyperparameters
from optix.types import Event
from tests.callbacks.reports import report, write_log


def rated(round_, rate, events=Event.NONE, **others):
    centre = {"rate": np.float32(rate)}
    centre |= {name: np.float32(value) for name, value in others.items()}
    return report(round_, events=events)._replace(centre=centre)


@pytest.fixture
def drawn(monkeypatch):
    """{label: [(x, y)]} of every line, and the scale of every axis by its name."""
    lines, scales = {}, {}

    def spy(original):
        def call(self, x, y, *args, **kwargs):
            label = kwargs.get("label", "")
            lines.setdefault(label, []).append((np.array(x), np.array(y)))
            return original(self, x, y, *args, **kwargs)

        return call

    monkeypatch.setattr(Axes, "plot", spy(Axes.plot))  # which `step` calls too
    original = Axes.set_yscale
    monkeypatch.setattr(
        Axes,
        "set_yscale",
        lambda self, kind: (
            scales.update({self.get_ylabel(): kind}) or original(self, kind)
        ),
    )
    return lines, scales


def test_what_has_changed_is_drawn_with_its_marks(tmp_path, drawn):
    lines, scales = drawn
    run = [
        rated(r, 0.1 if r < 3 else 0.2, constant=7.0, wide=10.0**r) for r in range(6)
    ]
    run[2] = rated(2, 0.1, Event.ROLLBACK | Event.LOSS_SPIKE, constant=7.0, wide=100.0)
    run[4] = rated(4, 0.2, Event.COPY, constant=7.0, wide=np.nan)
    write_log(tmp_path / "log", [run])
    text = (tmp_path / "log").read_text()  # as of a population
    (tmp_path / "log").write_text(text.replace('"COPY"', '"COPY", "SPAWN"'))
    assert hyperparameters(tmp_path / "log", tmp_path / "h.png", "a $title$")
    rate, wide = lines["value"]  # and nothing of what is constant
    np.testing.assert_allclose(rate[1], [0.1, 0.1, 0.1, 0.2, 0.2, 0.2], rtol=1e-6)
    np.testing.assert_allclose(wide[1], [1, 10, 100, 1000, np.nan, 1e5])
    assert rate[0].tolist() == [1, 2, 3, 4, 5, 6]
    for label, place in (
        ("rollback", 3),
        ("loss spike", 3),
        ("spawn", 5),
        ("goes on from another lane", 5),
    ):
        assert lines[label][0][0].tolist() == [place]
        np.testing.assert_allclose(lines[label][0][1], rate[1][place - 1])
    assert scales == {"wide": "log"}
    assert matplotlib.image.imread(tmp_path / "h.png").shape[1] > 1000


def test_bounds_decide_on_the_axis_and_seeds_are_drawn_together(tmp_path, drawn):
    lines, scales = drawn
    write_log(
        tmp_path / "log",
        [
            [rated(r, 0.1) for r in range(2)],
            [rated(r, 0.1 + 0.1 * r) for r in range(3)],
        ],
    )
    plot = HyperparamsPlot(
        tmp_path / "log", tmp_path / "h.png", bounds={"rate": (1e-4, 1.0)}
    )
    plot.on_loop_stop()
    assert scales == {"rate": "log"} and len(lines["2 seeds"]) == 2
    scales.clear()
    hyperparameters(tmp_path / "log", tmp_path / "h.png", bounds={"rate": (0.0, 1.0)})
    hyperparameters(tmp_path / "log", tmp_path / "h.png", bounds={"rate": (0.1, 0.3)})
    assert not scales


def test_nothing_is_drawn_where_nothing_has_changed(tmp_path):
    write_log(tmp_path / "log", [[rated(0, 0.1), rated(1, 0.1)], [rated(0, 0.3)]])
    assert not hyperparameters(tmp_path / "log", tmp_path / "h.png")
    write_log(tmp_path / "none", [[]])
    assert not hyperparameters(tmp_path / "none", tmp_path / "h.png")
    assert not (tmp_path / "h.png").exists()
