"""The picture of the learning curve, by what matplotlib was told and by its pixels."""

import matplotlib
import matplotlib.figure
import matplotlib.image
import numpy as np
import pytest
from matplotlib.axes import Axes

from optix.callbacks.curve import CurvePlot, _decorate, _mean, _spans, learning_curve
from optix.types import Event, Phase, StopReason
from tests.callbacks.reports import report, write_log

RECORD = [{"round": 0, "env_steps": 10}]


@pytest.fixture
def drawn(monkeypatch):
    """{label: (x, y)} of every line."""
    lines = {}

    def spy(original):
        def call(self, x, y, *args, **kwargs):
            label = kwargs.get("label", "")
            lines.setdefault(label, []).append((np.atleast_1d(x), np.atleast_1d(y)))
            return original(self, x, y, *args, **kwargs)

        return call

    for name in ("plot", "step"):
        monkeypatch.setattr(Axes, name, spy(getattr(Axes, name)))
    return lines


def test_one_seed_with_its_phases_and_events(tmp_path, drawn):
    run = [report(r, r % 7, best_score=min(r, 6)) for r in range(20)]
    run[12] = report(12, 5, Event.ROLLBACK, Phase.COOLING, best_score=6)
    run[13] = report(13, np.nan, Event.NON_FINITE, best_score=6)
    write_log(tmp_path / "log", [run])
    assert learning_curve(tmp_path / "log", tmp_path / "curve.png", "title")
    (score,) = drawn["score"]
    assert score[0].tolist() == list(range(1, 21))
    assert np.isnan(score[1][13]) and score[1][8] == 1
    assert drawn["best so far"][0][1].tolist() == [min(r, 6) for r in range(20)]
    assert drawn["rollback"][0][0].tolist() == [13]
    assert drawn["not finite"][0][0].tolist() == [14]
    pixels = matplotlib.image.imread(tmp_path / "curve.png")
    assert pixels.shape[0] > 500 and pixels.shape[1] > 1000
    shade = np.abs(pixels[..., :3] - [0.965, 0.91, 0.80]).sum(-1) < 0.05
    assert shade.mean() > 0.01  # the one cooling round of twenty


def test_several_seeds_and_their_mean(tmp_path, drawn):
    short = [report(r, 4.0) for r in range(4)]
    short.append(report(4, 8.0, phase=Phase.STOPPED, stop_reason=StopReason.CONVERGED))
    write_log(tmp_path / "log", [short, [report(r, 2.0) for r in range(10)]])
    assert learning_curve(tmp_path / "log", tmp_path / "curve.png")
    assert len(drawn["score of 2 seeds"]) == 2
    # the seed that has stopped stays where it was
    assert drawn["mean score"][0][1].tolist() == [3.0] * 4 + [5.0] * 6
    assert drawn["stopped"][0][0].tolist() == [5]


def test_a_log_without_a_round_draws_nothing(tmp_path):
    write_log(tmp_path / "log", [[]])
    CurvePlot(tmp_path / "log", tmp_path / "curve.png").on_loop_stop()
    assert not (tmp_path / "curve.png").exists()


def test_one_round_can_be_drawn(tmp_path):
    write_log(tmp_path / "log", [[report(0, np.nan)]])
    assert learning_curve(tmp_path / "log", tmp_path / "curve.png")


def test_spans_and_means():
    assert _spans([True, True, False, True]) == [(0, 1), (3, 3)]
    assert _spans([False]) == []
    rows = np.array([[1.0, np.nan, np.nan], [3.0, 5.0, np.nan]])
    np.testing.assert_array_equal(_mean(rows), [2.0, 5.0, np.nan])


def test_a_title_is_no_formula(tmp_path, monkeypatch):
    """Not even where matplotlib was told to set all text with TeX."""
    title, titles = r"net_1 $x^2$ {a} \frac $", []
    original = Axes.set_title

    def spy(self, *args, **kwargs):
        titles.append(original(self, *args, **kwargs))
        return titles[-1]

    monkeypatch.setattr(Axes, "set_title", spy)
    write_log(tmp_path / "log", [[report(0, 1.0)]])
    assert learning_curve(tmp_path / "log", tmp_path / "curve.png", title)
    (text,) = titles
    assert text.get_text() == title and not text.get_parse_math()
    with matplotlib.rc_context({"text.usetex": True}):
        figure = matplotlib.figure.Figure()
        _decorate(figure.add_subplot(), [RECORD], title)
    assert not titles[-1].get_usetex()
