"""An agent and its pipeline as one object: what runs, what is kept, what is told."""

import contextlib
import threading
import traceback

import gymnasium
import numpy as np
import pytest

from optix import LoopCallback, Phase, RLOptimizer, StopReason
from optix.host import BatchPipeline
from optix.run import programs, rl_optimizer
from tests.run.walkers import Filed, Track, Walker

QUICK = {"progress": False, "final_scores": 1, "evaluation_episodes": 1}


class Notes(LoopCallback):
    """All that a callback is told."""

    def __init__(self, act=lambda episode: None):
        self.act, self.scores, self.metrics, self.infos = act, [], [], []
        self.snapshots, self.made = [], []

    def on_loop_start(self, info):
        self.infos.append(info)

    def on_improvement(self, snapshot):
        self.snapshots.append(snapshot)

    def on_episode_end(self, episode_id, eval_metrics):
        self.scores.append(eval_metrics.primary_score)
        self.metrics.append(eval_metrics)
        self.act(episode_id)


@contextlib.contextmanager
def counted(module, *names):
    """Give a list of the names of those functions that are called meanwhile."""
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            original = getattr(module, name)

            def called(*given, name=name, original=original, **options):
                calls.append(name)
                return original(*given, **options)

            patch.setattr(module, name, called)
        yield calls


@pytest.fixture(scope="module")
def three_runs(tmp_path_factory):
    """Five rounds, of which the third is the best; none more; and four more."""
    notes = Notes()
    agent = Walker(steps=(1.0, 1.0, 3.0, -2.0, 1.0, 4.0, 1.0, -5.0, 1.0))
    folder = tmp_path_factory.mktemp("home") / "deep" / "run"
    opt = RLOptimizer(
        agent,
        Track(),
        checkpoint_dir=folder,
        max_episodes=5,
        metrics=["weight"],
        callbacks=[notes],
        **QUICK,
    )
    before = opt.state, opt.best_snapshot
    found = []
    for more in (None, None, 9):
        with counted(programs, "_programs") as made:
            result = opt.run(max_episodes=more)
        notes.made.append(len(made))
        held = float(agent.weight), agent.rate, opt.best_snapshot
        found.append((result, *held, opt.state, list(notes.scores)))
        agent.weight, agent.rate = np.array(77.0), 77.0  # it is its owner's in between
    return opt, agent, notes, before, found, folder


def test_a_run_plays_its_episodes_and_gives_the_agent_the_best(three_runs):
    _, _, _, before, found, folder = three_runs
    assert before == (Phase.ACTIVE, None)
    result, weight, rate, snapshot, state, scores = found[0]
    assert result.message == "the budget of rounds is spent"
    assert result.directory == folder and state is Phase.STOPPED
    assert scores == [1.0, 2.0, 5.0, 3.0, 4.0]  # sums of the steps
    assert weight == 5.0 and rate == 1.0
    assert snapshot.eval_metrics.primary_score == 5.0
    assert snapshot.eval_metrics.episode_id == 2
    assert snapshot.eval_metrics.metrics["weight"] == 5.0
    assert snapshot.eval_metrics.metrics["return"] == 2.0
    assert snapshot.eval_metrics.generalization_gap == -3.0
    assert snapshot.hyperparams == {"rate": 1.0, "epochs": 3}


def test_a_second_run_goes_on_and_its_budget_is_of_the_whole_run(three_runs):
    _, agent, notes, _, found, _ = three_runs
    assert found[1][1] == 5.0 and len(found[1][5]) == 5
    assert found[1][3].eval_metrics.episode_id == 2
    # from the last round, not from the best one, and not from what its owner did
    assert found[2][5][5:] == [8.0, 9.0, 4.0, 5.0]
    assert found[2][1] == 9.0 and found[2][3].eval_metrics.episode_id == 6
    assert agent.seen == tuple(range(1, 10))  # the replay went on
    assert [info.resumed_from for info in notes.infos] == [None, (5,), (5,)]
    assert notes.made == [1, 0, 0]  # nothing is compiled again


def test_the_weights_are_files_that_the_agent_reads(three_runs):
    _, _, _, _, found, folder = three_runs
    for entry in (found[0], found[2]):
        path, agent = entry[3].weights_path, Filed()
        agent.load_weights(path)
        assert agent.weight == entry[1] and folder in path.parents


def test_another_process_goes_on_in_the_folder(three_runs):
    """An agent made anew, with weights of its own, that takes those of the run."""
    *_, folder = three_runs
    agent, notes = Walker(steps=[0.5]), Notes()
    agent.weight = np.array(-3.0)
    opt = RLOptimizer(
        agent,
        Track(),
        checkpoint_dir=folder,
        max_episodes=10,
        metrics=["weight"],
        callbacks=[notes],
        **QUICK,
    )
    opt.run()
    assert notes.scores == [5.5] and agent.seen == (10,)
    assert agent.weight == 9.0  # of the seventh round
    assert opt.best_snapshot.eval_metrics.episode_id == 6
    assert opt.best_snapshot.eval_metrics.metrics["weight"] == 9.0


class Meets(Track):
    """While `waits`, a window ends only after somebody else has set `goes_on`."""

    waits = False

    def __init__(self):
        super().__init__()
        self.reached, self.goes_on = threading.Event(), threading.Event()

    def collect(self, agent, envs, seed):
        if self.waits:
            self.reached.set()
            assert self.goes_on.wait(60)
        return super().collect(agent, envs, seed)


def test_stop_from_a_hook_a_thread_or_before_and_the_next_run_goes_on():
    """What plays is `optix.train` and then `optix.resume`."""
    notes = Notes(lambda episode: episode == 1 and opt.stop("enough"))
    pipeline = Meets()
    opt = RLOptimizer(Filed(), pipeline, max_episodes=9, callbacks=[notes], **QUICK)

    def stops():
        assert pipeline.reached.wait(60)
        with pytest.raises(RuntimeError, match="this RLOptimizer is running"):
            opt.run()
        opt.stop("from a thread")
        pipeline.goes_on.set()

    with counted(rl_optimizer, "train", "resume") as calls:
        opt.stop()  # before there is a run
        result = opt.run()
        assert (result.paused, notes.scores) == ("stopped by the caller", [])
        assert opt.best_snapshot is None and opt.state is Phase.ACTIVE
        result = opt.run()
        played = len(notes.scores)
        assert result.paused == "enough" and 2 <= played < 9
        assert result.message == "paused: enough; continue with run()"
        assert result.directory is None and notes.infos[0].directory is None
        thread, pipeline.waits = threading.Thread(target=stops), True
        thread.start()
        result = opt.run()  # the round under way is played to its end
        thread.join()
        pipeline.waits = False
        assert result.paused == "from a thread" and played < len(notes.scores) < 9
        assert opt.run().paused is None
    assert notes.scores == [float(n) for n in range(1, 10)]
    assert opt.agent.weight == 9.0 and calls == ["train", "resume", "resume", "resume"]
    path = opt.best_snapshot.weights_path
    assert path.with_suffix(".npz").exists()
    opt.close()
    assert not path.parent.exists()


def test_the_latest_best_weights_stay_in_a_folder_that_does_not_move(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    opt = RLOptimizer(
        Walker(), Track(), checkpoint_dir="deep/run", max_snapshots=2, **QUICK
    )
    folder = tmp_path / "deep" / "run"
    for episodes in (1, 2, 4):
        assert opt.run(max_episodes=episodes).directory == folder
        monkeypatch.chdir(tmp_path.parent)  # the path was of where it was given
    kept = sorted(path.name for path in (folder / "weights").iterdir())
    assert kept == ["1", "3"]  # rounds whose policy was the best one when a run ended
    assert opt.best_snapshot.weights_path == folder / "weights" / "3" / "weights"
    best = [path for path in (folder / "best").iterdir() if path.name.isdigit()]
    assert len(best) == 2 and not (tmp_path.parent / "deep").exists()


def test_the_score_that_decides_and_the_one_beside_it():
    """Training says otherwise, validation too: the function alone decides."""
    agent, notes = Walker(steps=[1.0]), Notes()

    def closest_to_two(given):
        assert given is agent
        score = -abs(float(agent.weight) - 2)
        agent.weight = np.array(100.0)  # is undone
        return np.float32(score)

    opt = RLOptimizer(
        agent,
        Track(),
        val_pipeline=Track(shift=10.0),
        checkpoint_score_fn=closest_to_two,
        max_episodes=4,
        callbacks=[notes],
        **QUICK,
    )
    opt.run()
    assert notes.scores == [-1.0, 0.0, -1.0, -2.0] and agent.weight == 2.0
    told = [metrics.metrics["validation"] for metrics in notes.metrics]
    assert told == [11.0, 12.0, 13.0, 14.0]
    best = opt.best_snapshot.eval_metrics
    assert best.episode_id == 1 and best.metrics["validation"] == 12.0
    assert best.generalization_gap == 2.0  # two rewards of one, less a score of zero


class Downhill(Track):
    """Scores that fall as the weight grows."""

    def evaluate(self, agent, seed, episodes):
        return -float(agent.weight)


def test_falling_scores_take_the_run_back():
    """Validation falls while the training return stays; the first policy is the best."""
    fallen = []

    class Falls(LoopCallback):
        def on_degradation(self, episode_id, eval_metrics):
            fallen.append(episode_id)

        def on_episode_end(self, episode_id, eval_metrics):
            if fallen and fallen[0] < episode_id:
                after.append(eval_metrics.primary_score)
                opt.stop()

    after = []
    agent = Walker(steps=[1.0])
    opt = RLOptimizer(
        agent,
        Track(),
        val_pipeline=Downhill(),
        max_episodes=150,
        callbacks=[Falls()],
        **QUICK,
    )
    opt.run()
    assert fallen and agent.weight == 1.0
    assert after[0] == -2.0  # from the first policy, a step on


def test_a_target_ends_the_run():
    opt = RLOptimizer(Walker(), Track(), target_score=4.0, **QUICK)
    # the mean of three rounds reaches it: 3, 4, 5
    result = opt.run()
    assert result.stop_reasons == (StopReason.TARGET_REACHED,)
    assert int(result.state.round[0]) == 5 and opt.state is Phase.STOPPED


def test_what_has_converged_is_dormant():
    opt = RLOptimizer(
        Walker(steps=[0.0]),
        Track(),
        dormant_threshold=2,
        plateau_threshold=1,
        min_episodes_before_dormant=5,
        min_rounds_without_signal=5,
        **QUICK,
    )
    result = opt.run()
    assert result.stop_reasons[0] in (StopReason.CONVERGED, StopReason.NO_SIGNAL)
    assert opt.state is Phase.DORMANT and int(result.state.round[0]) < 500


def test_a_score_that_is_none_ends_the_run_without_a_best_policy():
    opt = RLOptimizer(
        Filed(), Track(), checkpoint_score_fn=lambda agent: np.nan, **QUICK
    )
    result = opt.run()
    assert result.stop_reasons == (StopReason.NON_FINITE_SCORE,)
    assert opt.best_snapshot is None and opt.state is Phase.STOPPED


class TrackError(Exception):
    pass


class Fails(Track):
    """Raises once, in the fourth window."""

    windows = 0

    def collect(self, agent, envs, seed):
        self.windows += 1
        if self.windows == 4:
            raise TrackError("derailed")
        return super().collect(agent, envs, seed)


def test_an_exception_arrives_and_the_next_run_goes_on():
    class Broken(LoopCallback):
        def on_episode_end(self, episode_id, eval_metrics):
            raise ValueError("only logged")

    notes = Notes()
    opt = RLOptimizer(
        Walker(), Fails(), max_episodes=6, callbacks=[Broken(), notes], **QUICK
    )
    with pytest.raises(TrackError, match="derailed"):
        opt.run()
    assert opt.best_snapshot.eval_metrics.primary_score == notes.scores[-1]
    assert opt.best_snapshot.weights_path is None
    with pytest.warns(RuntimeWarning, match="goes on with fresh ones"):
        assert opt.run().paused is None
    assert opt.agent.weight == 6.0
    assert notes.scores[-1] == 6.0 and sorted(notes.scores) == notes.scores


class AgentError(Exception):
    pass


class ScoreError(Exception):
    pass


class Stumbles(Walker):
    """Raises in one window."""

    stumbles = True

    def learn(self, episode_data):
        if self.windows == 2 and self.stumbles:
            self.stumbles = False
            raise AgentError("stumbled")
        return super().learn(episode_data)


@pytest.mark.filterwarnings("ignore:the episodes that were under way")
def test_exceptions_of_agent_and_score_arrive_as_they_were_raised():
    """And the next run goes on from the rounds before."""
    raises, notes = [ScoreError("lost")], Notes()

    def judge(agent):
        if agent.weight == 4.0 and raises:
            raise raises.pop()
        return float(agent.weight)

    opt = RLOptimizer(
        Stumbles(),
        Track(),
        checkpoint_score_fn=judge,
        max_episodes=6,
        callbacks=[notes],
        **QUICK,
    )
    for kind, words, function in (
        (AgentError, "stumbled", "learn"),
        (ScoreError, "lost", "judge"),
    ):
        with pytest.raises(kind, match=f"^{words}$") as caught:
            opt.run()
        frames = traceback.extract_tb(caught.value.__traceback__)
        assert frames[-1].name == function and frames[-1].filename == __file__
    assert opt.run().paused is None and opt.agent.weight == 6.0
    assert notes.scores[-1] == 6.0 and sorted(notes.scores) == notes.scores


def test_two_optimizers_on_one_pipeline_do_not_meet():
    pipeline = BatchPipeline(lambda: gymnasium.make("CartPole-v1"), window_size=6)

    def scores(pipeline):
        notes = Notes()
        agent = Filed()
        opt = RLOptimizer(
            agent,
            pipeline,
            max_episodes=2,
            windows_per_round=1,
            callbacks=[notes],
            **QUICK,
        )
        opt.run()
        return notes.scores, [m.metrics["window_episodes"] for m in notes.metrics]

    first = scores(pipeline)
    assert scores(pipeline) == first and len(first[0]) == 2
    pipeline.close()
