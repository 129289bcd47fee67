"""How weights are kept: in memory, or as the agent's own files; and what is refused."""

import io
import pickle
import zipfile

import jax
import numpy as np
import pytest

from optix.host.learner import host
from optix.host.packed import arrays_of, bytes_of_arrays
from optix.host.snapshots import Arrays, snapshots
from tests.host.agents import Replayer, Steps
from tests.numpy_agent import NumpyAgent

KEY = jax.random.key(0)


def after_a_window(agent=None):
    learner = host(agent or Replayer(), Steps())
    state, _ = learner.step(learner.init(KEY), learner.hyperparams, KEY, True)
    return learner, state


def test_an_agent_with_a_state_never_writes_a_file(tmp_path):
    """Its `save_weights` raises; and nothing is made in the folder of weights."""
    learner = host(Replayer(), Steps(), directory=str(tmp_path))
    state, key = learner.init(KEY), KEY
    for _ in range(3):
        state, _ = learner.step(state, learner.hyperparams, key, True)
    learner.host.keep(state)
    learner.host.load(learner.host.save(state))
    assert not list(tmp_path.iterdir())


def test_arrays_beyond_the_limit_go_into_files_and_come_back(tmp_path):
    agent = Replayer()
    size = agent.weight.nbytes
    kept = Arrays(agent, str(tmp_path), limit=3 * size)
    for slot in range(8):
        agent.weight = np.full(2, float(slot))
        kept.save(slot)
    (folder,) = tmp_path.iterdir()
    assert sorted(file.name for file in folder.iterdir()) == list("01234")
    for slot in (0, 7, 3):
        kept.restore(slot)
        assert agent.weight.tolist() == [slot, slot]
        assert arrays_of(kept.pack(slot))["weight"].tolist() == [slot, slot]
    for slot in range(8):
        kept.drop(slot)
    assert not list(folder.iterdir())
    for slot in (9, 10, 11):  # and there is room again
        kept.save(slot)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("missing", ["state", "restore"])
def test_half_of_a_pair_is_refused(missing):
    half = type("Half", (Replayer,), {missing: getattr(NumpyAgent, missing)})
    with pytest.raises(TypeError, match="Half must override both state and restore"):
        host(half(), Steps())


class Odd(Replayer):
    def __init__(self, state):
        super().__init__()
        self.given = state

    def state(self):
        return self.given


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ([np.zeros(2)], r"state of Odd must return {name: array}, got list"),
        ({1: np.zeros(2)}, r"state of Odd must return {name: array}, got dict"),
        (
            {"net": object()},
            "arrays of numbers, got <object .* for 'net'; take it apart",
        ),
        ({"w": np.zeros(2)}, "must return copies, but 'w' is the agent's own array"),
    ],
)
def test_states_that_can_not_be_kept_are_refused(state, message):
    with pytest.raises(ValueError, match=message):
        host(Odd(state), Steps())


def test_a_checkpoint_of_another_agent_is_refused():
    learner, state = after_a_window()
    saved = learner.host.save(state)

    class Other(Replayer):
        pass

    other = host(Other(), Steps())
    with pytest.raises(ValueError, match="agent is a Replayer, this one is a Other"):
        other.host.load(saved)
    with pytest.raises(ValueError, match="agent is a nobody"):
        other.host.load({})
    files = type("Replayer", (NumpyAgent,), {})
    with pytest.raises(ValueError, match="keeps the weights as arrays, but Replayer"):
        host(files(), Steps()).host.load(saved)


class Wider(Replayer):
    def __init__(self, size):
        super().__init__()
        self.weight = np.zeros(size)

    def restore(self, state):
        self.weight[:] = state["weight"]  # a scalar would be spread over it

    reset = Replayer.__mro__[1].reset
    make_memory = Replayer.__mro__[1].make_memory

    def learn(self, episode_data):
        return {}


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((2, 3), "Wider can not take the weights of the checkpoint .*broadcast"),
        ((1, 3), r"'weight' is float64\[1\] there and float64\[3\] here"),
    ],
)
@pytest.mark.filterwarnings("ignore:the episodes")
def test_weights_of_another_network_are_refused(sizes, message):
    learner, state = after_a_window(Wider(sizes[0]))
    saved = learner.host.save(state)
    with pytest.raises(ValueError, match=message):
        host(Wider(sizes[1]), Steps()).host.load(saved)
    host(Wider(sizes[0]), Steps()).host.load(saved)


@pytest.mark.filterwarnings("ignore:the episodes")
def test_a_replay_that_the_agent_does_not_make_is_refused():
    learner, state = after_a_window()

    class Forgetful(Replayer):
        def make_memory(self):
            return None

    Forgetful.__name__ = "Replayer"
    with pytest.raises(ValueError, match="holds a replay, but make_memory of Replayer"):
        host(Forgetful(), Steps()).host.load(learner.host.save(state))


class Bomb:
    def __reduce__(self):
        return print, ("boom",)


def test_nothing_in_an_archive_is_executed(capsys):
    hostile, npy = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array(npy, np.array([Bomb()], object), allow_pickle=True)
    for content in (npy.getvalue(), pickle.dumps(Bomb())):
        with zipfile.ZipFile(hostile, "w") as files:
            files.writestr("weight", content)
        with pytest.raises(ValueError):
            arrays_of(hostile.getvalue())
    assert "boom" not in capsys.readouterr().out


def test_arrays_come_back_as_they_were():
    arrays = {
        "a/b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "none": np.zeros((0, 2), bool),
        "scalar": np.int64(3),
        "turned": np.arange(6).reshape(2, 3).T,
    }
    archive = bytes_of_arrays(arrays)
    assert archive == bytes_of_arrays(arrays)
    back = arrays_of(archive)
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == np.asarray(array).dtype


def test_an_agent_of_files_is_kept_by_them():
    assert snapshots(NumpyAgent(), None).kind == "files"
    assert snapshots(Replayer(), None).kind == "arrays"
