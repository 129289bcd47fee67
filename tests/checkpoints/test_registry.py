"""The registry against damage, kills, foreign trees and its own pruning rule."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import warnings

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from optix.checkpoints.registry import (
    CheckpointError,
    CheckpointRegistry,
    CorruptCheckpointError,
)


def a_tree(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "weights": [
            jnp.asarray(rng.normal(size=(5, 3)), jnp.float32),
            jnp.array([np.nan, -0.0, np.inf, -np.inf], jnp.float32),
        ],
        "half": jnp.asarray(rng.normal(size=4), jnp.bfloat16),
        "flags": jnp.array([True, False]),
        "count": jnp.int32(seed),
        "bytes": jnp.arange(7, dtype=jnp.uint8),
        "empty": (jnp.zeros((0, 3)), (), None),
        "key": jax.random.key(seed),
        "keys": jax.random.split(jax.random.key(seed, impl="rbg"), 3),
    }


def as_bytes(tree):
    def leaf_bytes(leaf):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        return np.asarray(leaf).tobytes()

    return [(str(x.dtype), x.shape, leaf_bytes(x)) for x in jax.tree.leaves(tree)]


def empty_the_arrays(snapshot):
    for file in (snapshot / "arrays" / "d").iterdir():
        file.write_bytes(b"")


def test_all_kinds_of_leaves_come_back_bit_for_bit(tmp_path):
    registry = CheckpointRegistry(tmp_path)
    tree = a_tree(3)
    registry.save(7, tree, 1.5, {"rounds": [1, 2], "name": "x"})
    for target in (a_tree(0), jax.eval_shape(lambda: a_tree(0))):
        back, snapshot = registry.load(7, target)
        assert jax.tree.structure(back) == jax.tree.structure(tree)
        assert as_bytes(back) == as_bytes(tree)
        assert snapshot[:3] == (7, 1.5, {"rounds": [1, 2], "name": "x"})
    draw = jax.random.normal(back["key"], (3,))
    assert jnp.array_equal(draw, jax.random.normal(tree["key"], (3,)))


def test_loaded_arrays_can_be_donated(tmp_path):
    registry = CheckpointRegistry(tmp_path)
    registry.save(0, {"x": jnp.arange(64.0)})
    tree, _ = registry.load(0, {"x": jnp.zeros(64)})
    add = jax.jit(lambda t: jax.tree.map(lambda x: x + 1, t), donate_argnums=0)
    assert jnp.array_equal(add(tree)["x"], jnp.arange(64.0) + 1)


def test_target_may_depend_on_the_snapshot(tmp_path):
    registry = CheckpointRegistry(tmp_path)
    registry.save(0, {"blob": np.arange(5, dtype=np.uint8)}, metadata={"size": 5})

    def target(snapshot):
        return {"blob": jax.ShapeDtypeStruct((snapshot.metadata["size"],), jnp.uint8)}

    assert registry.load_latest(target)[0]["blob"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("max_snapshots", [2, 3, 5])
def test_best_and_latest_survive_pruning(tmp_path, max_snapshots):
    registry = CheckpointRegistry(tmp_path, max_snapshots)
    scores = np.random.default_rng(max_snapshots).permutation(9).astype(float)
    for step, score in enumerate(scores):
        registry.save(step, {"s": jnp.float32(score)}, score)
        seen = scores[: step + 1]
        # The rule by brute force: the latest, and the best of those before it.
        best_before = max(range(step + 1), key=lambda i: seen[i])
        assert registry.latest.step == step
        assert registry.best.step == best_before
        assert len(registry.steps()) == min(step + 1, max_snapshots)
    others = sorted(scores[:-1], reverse=True)[: max_snapshots - 1]
    kept = {scores[s] for s in registry.steps()}
    assert kept == {*others, scores[-1]}
    tree, _ = registry.load_best({"s": jnp.float32(0)})
    assert tree["s"] == 8


def test_the_latest_protected_snapshot_survives_pruning(tmp_path):
    registry = CheckpointRegistry(
        tmp_path, 3, protect=lambda snapshot: snapshot.metadata["large"]
    )
    kept = []
    for step, large in enumerate([1, 0, 0, 0, 1, 0, 0, 0]):
        registry.save(step, {"s": jnp.int32(step)}, metadata={"large": bool(large)})
        kept.append(registry.steps())
    assert kept[:4] == [[0], [0, 1], [0, 1, 2], [0, 2, 3]]
    # an older protected one ranks as any other: they do not pile up
    assert kept[4:] == [[2, 3, 4], [3, 4, 5], [4, 5, 6], [4, 6, 7]]
    registry.save(4, {"s": jnp.int32(4)}, metadata={"large": False})  # no longer
    registry.save(8, {"s": jnp.int32(8)}, metadata={"large": False})
    assert registry.steps() == [6, 7, 8]


def test_scores_that_are_not_finite_are_never_best(tmp_path):
    registry = CheckpointRegistry(tmp_path, 3)
    for step, score in enumerate([np.nan, 2.0, np.inf, None, -np.inf]):
        registry.save(step, {"s": jnp.int32(step)}, score)
    assert registry.best.step == 1 and registry.best.score == 2.0
    assert registry.latest.score is None
    assert registry.steps() == [1, 3, 4]  # without a score the later ones rank higher
    without = CheckpointRegistry(tmp_path / "none")
    assert without.best is None and without.latest is None and without.steps() == []
    with pytest.raises(CheckpointError, match="no intact checkpoint in .*none"):
        without.load_best({})


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ({"w": jnp.zeros((2, 4))}, r"\['w'\]: stored float32\[2, 3\], expected .*2, 4"),
        ({"w": jnp.zeros((2, 3), jnp.int32)}, r"stored float32.*expected int32"),
        ({"v": jnp.zeros((2, 3))}, r"\['v'\]: stored nothing"),
        ({"w": jnp.zeros((2, 3)), "z": jnp.zeros(1)}, r"\['z'\]: stored nothing"),
        ({"w": jax.random.key(0)}, r"expected key<fry>"),
    ],
)
def test_a_foreign_tree_is_refused(tmp_path, target, words):
    registry = CheckpointRegistry(tmp_path)
    registry.save(4, {"w": jnp.ones((2, 3))})
    with pytest.raises(CheckpointError, match=words) as error:
        registry.load_latest(target)
    assert str(tmp_path / "4") in str(error.value)
    assert not isinstance(error.value, CorruptCheckpointError)


def test_no_flipped_or_missing_byte_goes_unseen(tmp_path):
    whole = tmp_path / "whole"
    tree = a_tree(1)
    CheckpointRegistry(whole).save(1, tree, 1.0, {"a": 1})
    files = sorted(p.relative_to(whole) for p in whole.rglob("*") if p.is_file())
    rng = random.Random(0)
    for trial in range(3 * len(files)):
        copy, name = tmp_path / str(trial), files[trial % len(files)]
        shutil.copytree(whole, copy)
        data = bytearray((copy / name).read_bytes())
        place = rng.randrange(len(data))
        if trial % 2:
            data = data[:place]
        else:
            data[place] ^= 1 << rng.randrange(8)
        (copy / name).write_bytes(data)
        try:
            back, snapshot = CheckpointRegistry(copy).load(1, a_tree(0))
        except CorruptCheckpointError as error:
            assert str(copy / "1") in str(error) and "remove it" in str(error)
        else:  # a file that nothing is read from, such as the note of the commit
            assert name.parts[1:3] not in [("arrays", "d"), ("record", "metadata")]
            assert as_bytes(back) == as_bytes(tree)
            assert snapshot[:3] == (1, 1.0, {"a": 1})


def test_arrays_of_another_snapshot_are_found(tmp_path):
    registry = CheckpointRegistry(tmp_path)
    for step in range(2):
        registry.save(step, a_tree(step))
    shutil.rmtree(tmp_path / "1" / "arrays")
    shutil.copytree(tmp_path / "0" / "arrays", tmp_path / "1" / "arrays")
    with pytest.raises(CorruptCheckpointError, match="fails its checksum"):
        registry.load(1, a_tree(0))
    record = tmp_path / "0" / "record" / "metadata"
    record.write_text(record.read_text().replace('"step": 0', '"step": 5'))
    with pytest.raises(CorruptCheckpointError, match="record fails the checksum"):
        registry.load(0, a_tree(0))


def test_latest_and_best_fall_back_to_an_intact_snapshot(tmp_path):
    registry = CheckpointRegistry(tmp_path)
    for step in range(3):
        registry.save(step, {"w": jnp.full(300, step)}, float(step))
    empty_the_arrays(tmp_path / "2")
    target = {"w": jnp.zeros(300, jnp.int32)}
    for load in (registry.load_latest, registry.load_best):
        with pytest.warns(UserWarning, match="2 is damaged.*trying the one before"):
            tree, snapshot = load(target)
        assert snapshot.step == 1 and tree["w"][0] == 1
    registry.discard_after(1)
    assert registry.steps() == [0, 1]
    for step in (0, 1):
        empty_the_arrays(tmp_path / str(step))
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(CheckpointError, match="no intact checkpoint.*start a new run"),
    ):
        registry.load_latest(target)


def test_a_moved_folder_works_from_any_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    CheckpointRegistry("here").save(1, {"w": jnp.arange(3)}, 5.0)
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.chdir("/")
    registry = CheckpointRegistry(tmp_path / "there")
    assert registry.best.score == 5.0
    assert registry.load_best({"w": jnp.zeros(3, jnp.int32)})[0]["w"].tolist() == [
        0,
        1,
        2,
    ]


def test_reading_a_live_folder_removes_nothing(tmp_path):
    registry = CheckpointRegistry(tmp_path)
    registry.save(1, {"w": jnp.arange(3)}, 5.0)
    (tmp_path / "2.orbax-checkpoint-tmp").mkdir()
    (tmp_path / ".trash-0").mkdir()
    reader = CheckpointRegistry(tmp_path)
    assert reader.steps() == [1] and reader.latest.step == 1
    assert (tmp_path / "2.orbax-checkpoint-tmp").exists()
    registry.save(3, {"w": jnp.arange(3)}, 5.0)
    assert sorted(os.listdir(tmp_path)) == ["1", "3"]


def test_a_folder_that_can_not_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(CheckpointError, match="can not write .*file.*choose a folder"):
        CheckpointRegistry(tmp_path / "file").save(0, {"w": jnp.ones(2)})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(CheckpointError, match="can not write.*Permission"):
        CheckpointRegistry(tmp_path / "x").save(0, {"w": jnp.ones(2)})


def test_a_full_disk_leaves_the_old_snapshots(tmp_path):
    registry = CheckpointRegistry(tmp_path)
    tree = {"w": jax.random.normal(jax.random.key(0), (100_000,))}
    registry.save(0, tree)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match="can not write"):
            registry.save(1, tree)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert registry.steps() == [0]
    assert as_bytes(registry.load_latest(tree)[0]) == as_bytes(tree)
    registry.save(1, tree)
    assert sorted(os.listdir(tmp_path)) == ["0", "1"]


def test_bad_arguments_are_refused(tmp_path):
    with pytest.raises(ValueError, match="max_snapshots must be an integer >= 2"):
        CheckpointRegistry(tmp_path, 1)
    registry = CheckpointRegistry(tmp_path)
    with pytest.raises(ValueError, match="step must be an integer >= 0"):
        registry.save(-1, {})
    with pytest.raises(TypeError, match="JSON"):
        registry.save(1, {"w": jnp.ones(1)}, metadata={"f": object()})
    with pytest.raises(
        CheckpointError, match="no checkpoint at .*9 .steps there: none"
    ):
        registry.load(9, {})


def test_a_newer_format_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("optix.checkpoints.record._FORMAT", 2)
        CheckpointRegistry(tmp_path).save(1, {"w": jnp.ones(1)})
    with pytest.raises(CheckpointError, match="has format 2.*reads format 1"):
        CheckpointRegistry(tmp_path).load_latest({"w": jnp.ones(1)})


SAVER = """
import itertools, json, sys
import numpy as np
from optix.checkpoints.registry import CheckpointRegistry
registry = CheckpointRegistry(sys.argv[1], 2)
first = registry.steps()[-1] + 1 if registry.steps() else 0
for step in itertools.count(first):
    registry.save(step, {"w": np.full(1000, step)}, float(-step))
    print(json.dumps(step), flush=True)
"""


def test_kill_in_the_middle_of_a_save_leaves_the_one_before(tmp_path):
    rng = random.Random(1)
    for _ in range(5):
        saver = subprocess.Popen(
            [sys.executable, "-c", SAVER, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        saved = json.loads(saver.stdout.readline())
        time.sleep(rng.uniform(0, 0.3))
        os.kill(saver.pid, signal.SIGKILL)
        saved = max([saved, *(json.loads(x) for x in saver.stdout if x.endswith("\n"))])
        saver.wait()
        registry = CheckpointRegistry(tmp_path, 2)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nothing damaged may be met
            tree, snapshot = registry.load_latest({"w": np.zeros(1000, int)})
            best, _ = registry.load_best({"w": np.zeros(1000, int)})
        assert snapshot.step in (saved, saved + 1)
        assert tree["w"][0] == snapshot.step and best["w"][0] == 0
        assert len(registry.steps()) <= 3  # one more if killed before the pruning
    registry.save(10**6, {"w": np.zeros(1000, int)})
    assert len(os.listdir(tmp_path)) == 2


# ------------------------------------------------------------- damage is told by name


def three(tmp_path):
    registry = CheckpointRegistry(tmp_path)
    for step in range(3):
        registry.save(step, {"w": np.full(300, step)}, float(step))
    return {"w": np.zeros(300, int)}


def as_another_format(monkeypatch, directory, step, score=None):
    with monkeypatch.context() as patch:
        patch.setattr("optix.checkpoints.record._FORMAT", 2)
        registry = CheckpointRegistry(directory)
        return registry.save(step, {"w": np.full(300, step)}, score)


def a_file_in_its_place(step):
    shutil.rmtree(step)
    step.write_text("")


DAMAGE_TO_A_RECORD = {
    "missing": lambda step: (step / "record" / "metadata").unlink(),
    "empty": lambda step: (step / "record" / "metadata").write_bytes(b""),
    "no object": lambda step: (step / "record" / "metadata").write_text("[]"),
    "deep": lambda step: (step / "record" / "metadata").write_text("[" * 10**5),
    "no folder": a_file_in_its_place,
    "nothing in it": lambda step: (shutil.rmtree(step), step.mkdir()),
    "of another step": lambda step: (
        shutil.rmtree(step),
        shutil.copytree(step.with_name("0"), step),
    ),
}


@pytest.mark.parametrize("damage", DAMAGE_TO_A_RECORD)
def test_a_damaged_record_is_named_and_the_best_of_the_others_taken(tmp_path, damage):
    target = three(tmp_path)
    DAMAGE_TO_A_RECORD[damage](tmp_path / "2")
    with pytest.warns(UserWarning, match="2 is damaged.*may have been the best"):
        assert CheckpointRegistry(tmp_path).load_best(target)[1].step == 1
    with pytest.warns(UserWarning, match="2 is damaged.*the one before"):
        assert CheckpointRegistry(tmp_path).load_latest(target)[1].step == 1
    (fault,) = CheckpointRegistry(tmp_path).faults()
    assert str(tmp_path / "2") in str(fault)
    registry = CheckpointRegistry(tmp_path)
    registry.save(2, {"w": np.full(300, 2)}, 2.0)  # whatever is there is replaced
    registry.discard_after(0)
    assert os.listdir(tmp_path) == ["0"]


def test_where_all_records_are_damaged_the_error_says_so(tmp_path):
    target = three(tmp_path)
    for step in range(3):
        (tmp_path / str(step) / "record" / "metadata").write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(CheckpointError, match="no intact checkpoint in .*is damaged"),
    ):
        CheckpointRegistry(tmp_path).load_best(target)


def test_another_format_is_named_and_never_removed(tmp_path, monkeypatch):
    target = three(tmp_path)
    as_another_format(monkeypatch, tmp_path, 3, 9.0)
    with pytest.warns(UserWarning, match="3 has format 2.*may have been the best"):
        assert CheckpointRegistry(tmp_path).load_best(target)[1].step == 2
    with pytest.raises(CheckpointError, match="3 has format 2"):
        CheckpointRegistry(tmp_path).load_latest(target)  # to go on would lose it
    registry = CheckpointRegistry(tmp_path, 2)
    for step in range(4, 8):
        registry.save(step, {"w": np.zeros(300, int)}, float(-step))
    assert registry.steps() == [2, 3, 7]


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "best").write_text("")
    registry = CheckpointRegistry(tmp_path / "best")
    for ask in (registry.steps, lambda: registry.load_best({})):
        with pytest.raises(CheckpointError, match="best can not be read as a folder"):
            ask()


def test_those_that_are_preferred_come_first(tmp_path):
    target = three(tmp_path)
    registry = CheckpointRegistry(tmp_path)
    assert registry.load_best(target, lambda s: s.step < 2)[1].step == 1


def test_a_replaced_snapshot_stays_until_the_new_one_is_whole(tmp_path, monkeypatch):
    target = three(tmp_path)

    def full(path, arrays, record):
        path.mkdir()
        raise OSError("the disk is full")

    registry = CheckpointRegistry(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(CheckpointError, match="full"):
        patch.setattr("optix.checkpoints.store.write", full)
        registry.save(2, {"w": np.full(300, 7)}, 2.0)
    assert registry.load(2, target)[0]["w"][0] == 2
    registry.save(2, {"w": np.full(300, 7)}, 2.0)
    assert registry.load(2, target)[0]["w"][0] == 7
    assert sorted(os.listdir(tmp_path)) == ["0", "1", "2"]


def test_a_save_does_not_read_back_its_own_record(tmp_path, monkeypatch):
    registry = CheckpointRegistry(tmp_path, 2)

    def read(path):
        raise AssertionError(f"{path} is known")

    monkeypatch.setattr("optix.checkpoints.store.read_record", read)
    for step in range(4):
        registry.save(step, {"w": np.zeros(3)}, float(step))
    assert registry.steps() == [2, 3]


def test_a_key_that_could_not_be_restored_is_refused(tmp_path, monkeypatch):
    registry = CheckpointRegistry(tmp_path)
    odd = jax.extend.random.define_prng_impl(
        key_shape=(2,),
        seed=lambda seed: jnp.zeros(2, jnp.uint32),
        split=lambda key, shape: jnp.zeros((*shape, 2), jnp.uint32),
        random_bits=lambda key, width, shape: jnp.zeros(shape, jnp.uint32),
        fold_in=lambda key, data: key,
        name="of-nobody",
        tag="nobody",
    )
    tree = {"key": jax.random.wrap_key_data(jnp.zeros(2, jnp.uint32), impl=odd)}
    words = r"\['key'\] is a PRNG key of the implementation"
    with pytest.raises(CheckpointError, match=words):
        registry.save(0, tree)
    assert registry.steps() == []
    with monkeypatch.context() as patch:
        patch.setattr("optix.checkpoints.registry.check_keys", lambda *args: None)
        registry.save(0, tree)  # as an earlier version did
    with pytest.raises(CheckpointError, match=words):
        registry.load_latest(tree)


def test_the_best_within_a_band_are_loaded_together(tmp_path):
    registry = CheckpointRegistry(tmp_path)
    scores = {1: 80.0, 2: 95.0, 3: 100.0, 4: None, 5: 99.0, 6: 10.0}
    for step, score in scores.items():
        registry.save(step, {"w": jnp.int32(step)}, score, {"kind": step % 2})
    target = {"w": jnp.int32(0)}

    def steps(*arguments, **options):
        found = registry.load_ensemble(target, *arguments, **options)
        assert [int(tree["w"]) for tree, _ in found] == [s.step for _, s in found]
        return [snapshot.step for _, snapshot in found]

    assert steps() == [3, 5, 2]
    assert steps(2) == [3, 5]
    assert steps(9) == [3, 5, 2]
    assert steps(9, 0.2) == [3, 5, 2, 1]
    assert steps(9, np.inf) == [3, 5, 2, 1, 6]
    assert steps(9, same=lambda tree, s: int(tree["w"]) % 2) == [3, 2]
    # the band is about the score of the first one
    assert steps(9, prefer=lambda s: s.step == 1) == [1, 3, 5, 2]
    empty_the_arrays(registry.snapshots()[1].path)  # step 5
    with pytest.warns(UserWarning, match="it is left out"):
        assert steps() == [3, 2]
    for wrong, message in (((0,), "top_k must be"), ((3, -1.0), "score_band must be")):
        with pytest.raises(ValueError, match=message):
            steps(*wrong)
    with pytest.raises(CheckpointError, match="no intact checkpoint"):
        CheckpointRegistry(tmp_path / "none").load_ensemble(target)


def test_scores_below_zero_have_a_band_too(tmp_path):
    registry = CheckpointRegistry(tmp_path)
    for step, score in enumerate([-100.0, -109.0, -111.0]):
        registry.save(step, {"w": jnp.int32(step)}, score)
    found = registry.load_ensemble({"w": jnp.int32(0)}, 3)
    assert [snapshot.step for _, snapshot in found] == [0, 1]
