"""Keywords of what runs, and of what reads runs, x values that are none of theirs.

Nothing is computed: each is one error that names the keyword.
"""

import pytest

import optix
from optix.callbacks.dashboard import RichDashboardCallback
from optix.checks import OptionError
from optix.loop.loop import loop
from optix.run.folder import RunFolderError
from optix.tuners.fixed import fixed
from tests import toys

NO_PATHS = [-1, 0, float("nan"), 1e30, None, True, 1.5, b"run", ""]
RUN = loop(toys.target_learner(), fixed(), max_rounds=1)
SPACE = {"learning_rate": ("log_float", 1e-4, 1e-2)}


def train(**options):
    return optix.train(RUN, progress=False, **options)


def search(**options):
    return optix.search("CartPole-v1", SPACE, **options)


PATHS = {
    train: "directory",
    search: "directory",
    optix.resume: "directory",
    optix.evaluate: "directory",
    optix.load: "directory",
    optix.load_ensemble: "directory",
    optix.load_average: "directory",
    optix.play: "directory",
    optix.resume_search: "directory",
    optix.join_search: "directory",
    optix.CheckpointRegistry: "directory",
    optix.train_from: "into",
}


@pytest.mark.parametrize("value", NO_PATHS, ids=repr)
@pytest.mark.parametrize("function", PATHS, ids=lambda function: function.__name__)
def test_what_is_no_path(function, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = PATHS[function]
    if value is None and function in (train, search):
        return  # nothing is kept
    given = {"directory": "x"} if name == "into" else {}
    with pytest.raises(OptionError, match=f"{name} must be the path of a folder, got"):
        function(**given, **{name: value})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("function", [optix.load, optix.resume, optix.evaluate])
def test_a_file_is_no_run(function, tmp_path):
    (tmp_path / "note").touch()
    with pytest.raises(RunFolderError, match="note holds no run of optix"):
        function(tmp_path / "note")


@pytest.mark.parametrize("value", ["on_round", b"x", [print], [3], [None], ["x"]])
def test_what_is_no_callback(value, tmp_path):
    for function in (train, lambda **options: optix.resume(tmp_path, **options)):
        with pytest.raises(OptionError, match="callbacks must"):
            function(callbacks=value)


def test_a_callback_that_forwards_its_attributes(tmp_path):
    seen = []

    class Told:
        def on_episode_end(self, number, evaluated):
            seen.append(number)

    class Forwarding:
        def __init__(self):
            self.inside = Told()

        def __getattr__(self, name):
            return getattr(self.inside, name)

    train(callbacks=[Forwarding()])
    assert seen == [0]


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (lambda: optix.Pause(continue_with=3), "continue_with"),
        (lambda: RichDashboardCallback(stream="file"), "stream"),
        (lambda: optix.CheckpointRegistry("x", protect=3), "protect"),
    ],
)
def test_what_is_of_another_kind(wrong, name):
    with pytest.raises(OptionError, match=name):
        wrong()
