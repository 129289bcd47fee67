"""Which agents outside JAX are shown masks, by which pipelines, and what is refused."""

import gymnasium
import numpy as np
import pytest

from optix.host.live import LivePipeline
from optix.host.pipelines import BatchPipeline
from optix.host.vector import VectorBatchPipeline
from optix.run.loaded_agent import LoadedAgent
from optix.types import Masked
from tests.numpy_agent import StillAgent
from tests.telling import (
    Boxed,
    Draws,
    Late,
    Method,
    Silent,
    Stream,
    Stuck,
    Told,
    Wrong,
)

SAME_STEP = gymnasium.vector.AutoresetMode.SAME_STEP
GIVEN = {
    "given": gymnasium.vector.SyncVectorEnv,
    "processes": gymnasium.vector.AsyncVectorEnv,
}


class Obeys(StillAgent):
    """Takes the first action that is allowed."""

    takes_masks = True

    def __init__(self):
        self.seen = []

    def act(self, observation):
        self.seen.append(observation)
        return int(observation.action_mask.argmax())


class Counts(Obeys):
    """Knows what is allowed by the observation, and is shown no mask."""

    takes_masks = False

    def act(self, observation):
        self.seen.append(observation)
        return int(observation[0])


def pipeline(kind, how, size=4):
    if how == "batch":
        return BatchPipeline(kind, window_size=size)
    if how in GIVEN:
        envs = GIVEN[how]([kind] * 2, autoreset_mode=SAME_STEP)
        return VectorBatchPipeline(envs, window_size=size)
    return VectorBatchPipeline([kind] * 2, window_size=size)


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        *[(kind, how) for kind in (Told, Silent) for how in ("batch", "given")],
        (Told, "functions"),
        (Method, "batch"),
        (Method, "functions"),
        (Method, "given"),
        (Method, "processes"),
    ],
)
def test_a_window_holds_the_mask_of_every_step_and_of_what_followed_an_end(kind, how):
    source, agent = pipeline(kind, how), Obeys()
    assert source.masked
    place = source.open()
    for window in (source.collect(agent, place, 0), source.collect(agent, place, None)):
        window = window.batched()
        time = window.observations.obs[..., 0].astype(int)
        masks = window.observations.action_mask
        np.testing.assert_array_equal(masks, np.eye(4, dtype=bool)[time])
        after = np.eye(4, dtype=bool)[time + 1]
        if kind is Silent or (kind is Method and how in GIVEN):
            after[time == 2] = True  # who is asked after the reset can not say
        np.testing.assert_array_equal(window.next_observations.action_mask, after)
        np.testing.assert_array_equal(window.truncated, time == 2)
        np.testing.assert_array_equal(window.next_observations.obs[..., 0], time + 1)
    assert source.evaluate(agent, 0, 3) == 3
    source.close()


@pytest.mark.parametrize("how", ["batch", "given"])
def test_an_agent_that_does_not_say_so_is_shown_observations_alone(how):
    source, plain, agent = pipeline(Told, how), Counts(), Obeys()
    place = source.open()
    window = source.collect(plain, place, 0)
    assert isinstance(window.observations, np.ndarray)
    assert not any(isinstance(obs, Masked) for obs in plain.seen)
    window = source.collect(agent, place, None)  # goes on with nobody else's episode
    assert window.observations.obs.reshape(4, -1)[0].tolist()[0] == 0
    assert isinstance(source.collect(plain, place, None).observations, np.ndarray)
    source.close()


class Plain(Told):
    def told(self):
        return super().told()[0], {}


class Named(Told):
    def told(self):
        obs, info = super().told()
        return obs, {"action_mask": {"first": info["action_mask"]}}


class Attribute(Plain):
    action_masks = np.ones(4, bool)


class Nothing(Plain):
    action_masks = None


class Asking(Plain):
    def action_masks(self, state):
        return self.mask


class Empty(Told):
    def told(self):
        return super().told()[0], {"action_mask": None}


@pytest.mark.parametrize("kind", [Attribute, Nothing, Asking, Empty])
@pytest.mark.parametrize("how", ["batch", "functions", *GIVEN])
def test_what_is_called_like_a_mask_and_is_none_is_left_alone(kind, how):
    class Plays(Counts):
        takes_masks = True

    source = pipeline(kind, how)
    assert not source.masked
    window = source.collect(Plays(), source.open(), 0)
    assert isinstance(window.observations, np.ndarray)
    source.close()


@pytest.mark.parametrize("kind", [Plain, Boxed])
def test_where_no_mask_is_told_or_actions_are_no_numbers_none_is_shown(kind):
    source = pipeline(kind, "batch")

    class Plays(Counts):
        takes_masks = True

        def act(self, observation):
            action = super().act(observation)
            return np.float32([action]) if kind is Boxed else action

    assert not source.masked
    window = source.collect(Plays(), source.open(), 0)
    assert isinstance(window.observations, np.ndarray)
    source.close()


@pytest.mark.parametrize("how", ["batch", "given", "functions"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Late, "info of .* must hold 'action_mask' at every step that does not end"),
        (Wrong, "must hold a 0 or a 1 for each of 4 actions"),
        (Named, "must hold a 0 or a 1 for each of 4 actions"),
        (Stuck, "must allow one action or more at every step that does not end"),
    ],
)
def test_masks_that_are_none(kind, how, message):
    source = pipeline(kind, how)
    with pytest.raises(ValueError, match=message):
        source.collect(Obeys(), source.open(), 0)
    source.close()


class Own(gymnasium.vector.VectorEnv):
    """One that is made of nothing that could be asked, and tells all masks itself."""

    def __init__(self, number):
        inner = gymnasium.vector.SyncVectorEnv(
            [Plain] * number, autoreset_mode=SAME_STEP
        )
        self.num_envs, self.metadata = number, inner.metadata
        self.single_action_space = inner.single_action_space
        self.single_observation_space = inner.single_observation_space
        self.reset, self.step = inner.reset, inner.step
        self.action_masks = lambda: np.array([env.mask for env in inner.envs])


@pytest.mark.parametrize(
    "made",
    [
        lambda: Own(2),
        lambda: gymnasium.wrappers.vector.RecordEpisodeStatistics(
            gymnasium.vector.SyncVectorEnv([Method] * 2, autoreset_mode=SAME_STEP)
        ),
    ],
)
def test_a_vector_of_its_own_and_a_wrapped_one_tell_by_a_method(made):
    source = VectorBatchPipeline(made(), window_size=6)
    window = source.collect(Obeys(), source.open(), 0)
    time = window.observations.obs[..., 0].astype(int)
    masks = window.observations.action_mask
    np.testing.assert_array_equal(masks, np.eye(4, dtype=bool)[time])
    assert source.evaluate(Obeys(), 0, 2) == 3
    source.close()


@pytest.mark.parametrize("agent", [Obeys, Counts])
def test_a_live_stream_tells_its_masks_to_who_takes_them(agent):
    stream = Stream(Silent)
    boundaries = []
    source = LivePipeline(
        stream, boundary=lambda n, seconds, obs: boundaries.append(obs), buffer_size=1
    )
    window = source.collect(agent(), source.open(), None)
    masked = agent is Obeys
    assert isinstance(window.observations, Masked) is masked
    assert all(type(obs) is np.ndarray for obs in boundaries)
    if masked:
        masks = window.observations.action_mask
        np.testing.assert_array_equal(masks, np.eye(4, dtype=bool)[:3])
        assert window.next_observations.action_mask[-1].all()
    assert source.evaluate(agent(), 0, 1) == 3
    source.close()


def test_a_live_stream_whose_first_episode_has_no_step_tells_its_masks_after_it():
    class Begins(Stream):
        def stream(self):
            yield np.zeros(1, np.float32), 0.0, True, False, {}
            yield from super().stream()

    source = LivePipeline(Begins(Told))
    window = source.collect(Obeys(), source.open(), None)
    assert (
        window.observations.action_mask.tolist() == np.eye(4, dtype=bool)[:3].tolist()
    )
    source.close()


def test_a_live_stream_that_stops_telling_is_refused():
    items = [
        ([0.0], 0.0, False, False, {"action_mask": [0, 1]}),
        ([1.0], 0.0, False, False, {}),
    ]

    class Ends:
        def stream(self):
            yield from items

    source = LivePipeline(Ends())
    with pytest.raises(ValueError, match="info of Ends must hold 'action_mask'"):
        source.collect(Obeys(), source.open(), None)
    source.close()


def test_an_object_that_acts_says_when_it_wants_a_mask():
    mask = np.array([False, True])
    assert LoadedAgent(Obeys(), {}, 0.0).act(np.zeros(1), action_mask=mask) == 1
    for agent, masked, given, message in (
        (Obeys(), True, None, "must be given: Obeys has learned which actions are"),
        (Obeys(), False, mask, "must be None: Obeys has learned where all actions"),
        (Counts(), None, mask, "must be None: Counts does not take masks"),
    ):
        player = LoadedAgent(agent, {}, 0.0, masked=masked)
        with pytest.raises(ValueError, match=message):
            player.act(np.zeros(1), action_mask=given)


def test_taxi_and_the_probe_tell_theirs_and_cart_pole_none():
    taxi = max(name for name in gymnasium.registry if name.startswith("Taxi-"))
    for make, masked in (
        (lambda: gymnasium.make(taxi), True),
        (Draws, True),
        (lambda: gymnasium.make("CartPole-v1"), False),
    ):
        source = BatchPipeline(make)
        assert source.masked is masked
        source.close()
