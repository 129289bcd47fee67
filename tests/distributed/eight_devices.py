"""Runs on eight CPU devices; `test_devices.py` runs this file in a process of its own."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.checkpoints.registry import CheckpointRegistry
from optix.checks import OptionError
from optix.distributed.mesh import DevicesDifferError, Split, mesh_of, over_mesh
from optix.loop.loop import loop
from optix.loop.transforms import chain
from optix.make import make
from optix.run.evaluate import evaluate
from optix.run.load import load
from optix.run.programs import programs
from optix.run.sharing import divided
from optix.run.train import resume, train
from optix.trees import repeat, take
from optix.tuners.fixed import fixed
from optix.types import Transform
from tests.supervised import supervised
from tests.toys import scripted_learner

SEEDS = 8
TINY = {"num_envs": 4, "num_steps": 8, "hidden": (4,), "evaluation_episodes": 4}
REPLAY = {"batch_size": 8, "capacity": 64, "learning_starts": 8, "gradient_steps": 1}
QUIET = {"progress": False, "checkpoint_seconds": 0.0, "memory_every": 1}
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute")


def keys_of(seeds):
    return jax.random.split(jax.random.key(0), seeds)


def mesh_with(seeds, data=1):
    return mesh_of(Split(seeds, data), jax.devices()[: seeds * data])


def bits(tree):
    """All leaves on the host, of PRNG keys their data."""
    named = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path): np.asarray(
            jax.random.key_data(leaf)
            if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else leaf
        )
        for path, leaf in named
    }


def assert_same_bits(a, b):
    a, b = bits(a), bits(b)
    assert a.keys() == b.keys()
    for name, leaf in a.items():
        assert leaf.shape == b[name].shape, name
        assert leaf.tobytes() == b[name].tobytes(), name


def limited(state):
    """Seeds that stop in rounds of their own."""
    rounds = jnp.arange(SEEDS, dtype=jnp.int32) + 2
    rounds = jax.device_put(rounds, state.limits.max_rounds.sharding)
    return state._replace(limits=state.limits._replace(max_rounds=rounds))


def played(run, keys, count=40):
    state, reports, rounds = run.advance(limited(run.init(keys)), np.int32(count))
    return run.finish(state), reports, rounds


# ------------------------------------------------------------------------------- seeds


@pytest.fixture(scope="module")
def alone():
    """Eight seeds on one device, without a mesh."""
    return played(programs(supervised(), False), keys_of(SEEDS))


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_seeds_are_the_same_bit_for_bit_on_any_number_of_devices(alone, count):
    run = programs(supervised(), False, mesh_with(count))
    state, reports, rounds = played(run, keys_of(SEEDS))
    assert_same_bits(state, alone[0])
    np.testing.assert_array_equal(rounds, np.arange(SEEDS) + 2)
    turns = np.arange(reports.round.shape[1]) < np.asarray(rounds)[:, None]
    for ours, theirs in zip(*map(jax.tree.leaves, (reports, alone[1])), strict=True):
        np.testing.assert_array_equal(ours[turns], theirs[turns])
    assert len(state.round.sharding.device_set) == count


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_seeds_of_an_agent_are_the_same_bit_for_bit(name):
    run = make("CartPole-v1", name, **sizes(name))
    ends = []
    for mesh in (None, mesh_with(8)):
        parts = programs(run, False, mesh)
        state = parts.init(keys_of(SEEDS))
        ends.append(parts.finish(parts.advance(state, np.int32(2))[0]))
    assert_same_bits(*ends)
    if name == "dqn":
        assert (np.asarray(ends[0].learner.memory.env_steps) == 2 * 32).all()


def test_pmap_of_a_vmapped_run_is_the_mesh():
    run, count = supervised(), 4
    mesh = programs(run, True, mesh_with(count))
    begun = limited(mesh.init(keys_of(SEEDS)))
    cut = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), begun)
    theirs = jax.pmap(jax.vmap(run.run))(cut)
    theirs = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), theirs)
    state = mesh.finish(mesh.advance(begun, np.int32(40))[0])
    assert_same_bits(state, theirs)


def test_a_device_has_the_memory_and_the_work_of_its_own_seeds():
    """The partitioner would have every device compute every seed."""

    def costs(seeds, mesh):
        run = programs(supervised(), True, mesh)
        state = run.placed(jax.eval_shape(run.init, keys_of(seeds)))
        count = jax.ShapeDtypeStruct((), jnp.int32)
        compiled = run.advance.lower(state, count).compile()
        memory = compiled.memory_analysis()
        flops = compiled.cost_analysis()["flops"]
        sizes = memory.argument_size_in_bytes, memory.temp_size_in_bytes
        return np.array([*sizes, flops]), compiled.as_text()

    few, _ = costs(2, None)
    many, _ = costs(8, None)
    shared, text = costs(8, mesh_with(4))
    np.testing.assert_allclose(shared, few, rtol=0.05)
    assert (many > 3 * few).all()  # so each of the three would tell
    assert not any(f" {word}" in text for word in COLLECTIVES)
    state = programs(supervised(), False, mesh_with(4)).init(keys_of(SEEDS))
    for leaf in jax.tree.leaves(state):
        assert leaf.addressable_shards[0].data.shape == (2, *leaf.shape[1:])


# -------------------------------------------------------------------------------- data


def sizes(name):
    """Options of a tiny run of an agent that is quickly compiled."""
    own = REPLAY if name == "dqn" else {"num_epochs": 1, "num_minibatches": 1}
    return {**TINY, **own, "max_rounds": 2, "final_scores": 1}


@pytest.mark.parametrize(("name", "seeds"), [("ppo", 2), ("dqn", 1)])
def test_devices_that_share_data_are_a_vmapped_axis(name, seeds):
    """What every device must have alike, and the experience of each."""
    run = make("CartPole-v1", name, **divided(name, sizes(name), 2))
    mesh = programs(run, False, mesh_with(seeds, 2))
    begun = mesh.init(keys_of(seeds))
    before = jax.tree.map(jnp.copy, begun)
    state, reports, rounds = mesh.advance(begun, np.int32(2))
    assert (np.asarray(rounds) == 2).all()
    assert (np.asarray(state.env_steps) == 2 * 4 * 8).all()  # as on one device

    step = jax.jit(jax.vmap(run.step, axis_name="data"))
    for seed in range(seeds):
        theirs = on_both(jax.device_get(take(before, seed)))
        for _ in range(2):
            theirs, report = step(theirs)
        ours = take(state, seed)
        close(ours.learner.rollout, theirs.learner.rollout)
        close(ours.learner.memory, theirs.learner.memory)
        for device in range(2):
            close(alike(ours), take(alike(theirs), device))
        np.testing.assert_array_equal(reports.score[seed, 1], report.score[0])
    obs = bits(state.learner.rollout)
    differing = [name for name, leaf in obs.items() if (leaf[:, 0] != leaf[:, 1]).any()]
    assert any("obs" in name for name in differing)


def on_both(state):
    """The state of one seed, with an axis of two devices before everything."""
    learner = state.learner
    own = learner.rollout, learner.memory
    state = repeat(state._replace(learner=learner._replace(rollout=(), memory=())), 2)
    learner = state.learner._replace(rollout=own[0], memory=own[1])
    return state._replace(learner=learner)


def alike(state):
    return state._replace(learner=state.learner.policy)


def close(ours, theirs):
    ours, theirs = bits(ours), bits(theirs)
    for name, leaf in ours.items():
        np.testing.assert_allclose(
            leaf, theirs[name], rtol=2e-4, atol=1e-5, err_msg=name
        )


def test_data_of_one_run_on_devices_is_kept_like_that_of_one(tmp_path):
    """Evaluated and loaded on one device; resumed on as many."""
    directory, given = tmp_path / "run", {"agent": "dqn", "devices": 2, **sizes("dqn")}
    first = train("CartPole-v1", directory=directory, **given, **QUIET)
    about = json.loads((directory / "run.json").read_text())
    assert (about["devices"], about["data_devices"]) == (2, 2)
    assert about["recipe"]["options"]["num_envs"] == 4  # as it was asked for
    assert first.state.learner.memory.env_steps.tolist() == [[2 * 32] * 2]
    again = resume(directory, max_rounds=4, **QUIET)
    whole = train("CartPole-v1", **{**given, "max_rounds": 4}, progress=False)
    assert_same_bits(again.state, whole.state)
    ((one, other),) = stored(directory)
    assert one == other
    assert evaluate(directory, 4).stored == float(again.scores[0])
    assert load(directory).act(np.zeros(4)).shape == ()
    with pytest.raises(
        OptionError, match="one of 2 for a run of 1 seed that began with"
    ):
        resume(directory, devices=4)


def stored(directory):
    """The checksums of the latest checkpoint."""
    return latest(directory)["checksums"]


def latest(directory):
    """What the latest checkpoint says of itself."""
    snapshot = CheckpointRegistry(directory / "checkpoints").latest
    assert snapshot is not None
    return snapshot.metadata


# ---------------------------------------------------------------------------- sessions


def test_seeds_go_on_where_other_devices_are(tmp_path):
    directory, whole = tmp_path / "run", train(supervised(), seeds=4, progress=False)
    train(
        supervised(max_rounds=5),
        seeds=4,
        devices=4,
        directory=directory,
        progress=False,
    )
    for devices, rounds in ((1, 9), (2, 20), (4, 60)):
        result = resume(
            directory, supervised(), devices=devices, max_rounds=rounds, progress=False
        )
        assert (np.asarray(result.state.round) == rounds).all()
    assert len(stored(directory)) == 4
    assert_same_bits(result.state, whole.state)


def parting(share):
    """A run whose policy a transform moves by the number of its device."""

    def update(state, policy, rollout, report, signals):
        own = share * jax.lax.axis_index("data") * (signals.round >= 3)
        params = jax.tree.map(lambda x: x + own, policy.params)
        return state, policy._replace(params=params), rollout, {}

    learner = scripted_learner(lambda windows, key: windows)
    agent = make("CartPole-v1", **divided("ppo", TINY, 2)).learner.agent
    apart = chain(Transform(lambda policy: (), update, {}))
    return loop(learner._replace(agent=agent), fixed(), transforms=apart, max_rounds=6)


def test_devices_that_come_apart_end_the_run(tmp_path):
    directory = tmp_path / "run"
    result = train(parting(0.0), devices=2, directory=directory, **QUIET)
    assert result.paused is None
    kept, given = tmp_path / "kept", {"devices": 2, **QUIET}
    with pytest.raises(DevicesDifferError, match="seed 0 hold different policies"):
        train(parting(1e-3), directory=kept, **given)
    assert latest(kept)["rounds"][0] <= 3
    with pytest.raises(DevicesDifferError):  # without a folder too
        train(parting(1e-3), **given)


def test_what_devices_can_not_share_is_refused(tmp_path):
    for words, environment, options in [
        ("are outside the device", "gymnasium:CartPole-v1", {**TINY, "seeds": 2}),
        ("at most 8, .* kind cpu .* got 9", "CartPole-v1", {"devices": 9}),
        (
            "num_envs must be divisible by the 2 .* got 3; take 4",
            "CartPole-v1",
            {"num_envs": 3},
        ),  # fmt: skip
        ("policies can not be given where 2", "CartPole-v1", {"policies": 2}),
        ("axis_name can not be given", "CartPole-v1", {"axis_name": "data"}),
        ("devices must divide the seeds", supervised(), {"seeds": 3}),
    ]:
        with pytest.raises(OptionError, match=words):
            train(environment, directory=tmp_path / "run",
                  **{"devices": 2, "progress": False, **options})  # fmt: skip
        assert not (tmp_path / "run").exists()
    other = programs(supervised(), False)
    with pytest.raises(OptionError, match="axis_name must be 'data'"):
        over_mesh(mesh_with(1, 2), *other[:3], "device")
    with pytest.raises(OptionError, match="made with axis_name='data'"):
        over_mesh(mesh_with(1, 2), *other[:3], None)
