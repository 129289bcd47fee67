"""What `RLOptimizer` is given: factories, folders, and forty mistakes."""

from typing import ClassVar

import numpy as np
import pytest

import optix
from optix import CheckpointError, LoopCallback, RLOptimizer, RunFolderError
from optix.host import HyperparamSet, LivePipeline
from optix.param_space import checked_space, sample
from optix.tuners.spsa import spsa
from tests.run.walkers import Filed, Track, Walker

QUICK = {"progress": False, "final_scores": 1, "evaluation_episodes": 1}
SPACE = {"step": ("float", 1.0, 4.0)}


def a_walker(params):
    return Walker(steps=[params["step"]])


def test_trials_choose_and_the_best_agent_goes_on(tmp_path):
    """The longest step climbs highest; its agent goes on from where the trial ended."""
    pipelines, agents = [], []

    def a_track():
        pipelines.append(Track())
        return pipelines[-1]

    def an_agent(params):
        agents.append(a_walker(params))
        return agents[-1]

    about = dict(param_space=SPACE, n_trials=2, trial_episodes=2, max_episodes=3)
    about |= dict(pipeline_factory=a_track, checkpoint_dir=tmp_path / "run", **QUICK)
    opt = RLOptimizer(agent_factory=an_agent, **about)
    assert opt.agent is None and opt.pipeline is None and not agents
    opt.run()
    steps = [agent.steps[0] for agent in agents]
    assert 1 <= min(steps) < 2.5 <= max(steps) <= 4  # a trial in each half
    assert opt.agent is agents[int(np.argmax(steps))]
    assert opt.agent.weight == pytest.approx(5 * max(steps))
    assert [pipeline.closed for pipeline in pipelines] == [True, True, False]
    opt.close()
    assert pipelines[-1].closed
    given = []

    def noting(params):
        given.append(params)
        return a_walker(params)

    again = RLOptimizer(agent_factory=noting, **about)
    again.run()  # the trials are not played again
    assert [set(params) for params in given] == [set(SPACE)]  # and nothing else
    assert again.agent.steps == (max(steps),) or again.agent.steps == [max(steps)]
    assert len(pipelines) == 4


def test_settings_are_within_their_space_and_spread():
    space = checked_space(
        {
            "rate": ("log_float", 1e-4, 1e-2),
            "size": ("int", 1, 3),
            "wide": ("log_int", 1, 1000),
            "kind": ("categorical", "a", (1, 2)),
        }
    )
    drawn = sample(space, 300, np.random.default_rng(0))
    rates = np.sort([np.log10(row["rate"]) for row in drawn])
    # one in each of 300 cells
    assert np.abs(rates - np.linspace(-4, -2, 300)).max() < 2 / 300
    for name, values in (("size", {1, 2, 3}), ("kind", {"a", (1, 2)})):
        counts = [sum(row[name] == value for row in drawn) for value in values]
        assert sum(counts) == 300 and max(counts) - min(counts) <= 2
    wide = [row["wide"] for row in drawn]
    assert min(wide) >= 1 and max(wide) <= 1000 and 20 < np.median(wide) < 50


def test_a_foreign_folder_and_a_run_of_another_agent_are_refused(tmp_path):
    (tmp_path / "a thesis").touch()
    with pytest.raises(RunFolderError, match="holds something else .a thesis"):
        RLOptimizer(Filed(), Track(), checkpoint_dir=tmp_path, **QUICK).run()
    place = tmp_path / "run"
    stopped = RLOptimizer(Filed(), Track(), checkpoint_dir=place, **QUICK)
    stopped.stop()
    stopped.run()

    class Other(Filed):
        pass

    with pytest.raises((ValueError, CheckpointError), match="a run whose agent is a"):
        RLOptimizer(Other(), Track(), checkpoint_dir=place, **QUICK).run()


class Feed:
    """A source whose reward is one; it says what it was given."""

    def stream(self):
        while True:
            yield np.zeros(2, np.float32), 1.0, False, False, {}


def test_a_live_source_serves_one_optimizer_in_two_runs():
    pipeline = LivePipeline(
        Feed(), boundary=LivePipeline.every_n_steps(3), stall_seconds=5.0
    )
    try:
        opt = RLOptimizer(
            Filed(), pipeline, val_pipeline=Track(), max_episodes=2, **QUICK
        )
        opt.run()
        opt.run(max_episodes=3)
        assert opt.agent.weight == 3.0
        with pytest.raises(ValueError, match="can serve only 1: it can not be copied"):
            RLOptimizer(
                Filed(),
                pipeline,
                val_pipeline=Track(),
                optimizer=spsa({"rate": (0.1, 2.0)}),
            )
        with pytest.raises(ValueError, match="Feed takes no actions.*val_pipeline="):
            RLOptimizer(Filed(), pipeline)
    finally:
        pipeline.close()


def test_a_run_inside_a_run_is_refused():
    opt = RLOptimizer(Filed(), Track(), **QUICK)
    with opt._playing, pytest.raises(RuntimeError, match="is running; stop.. ends"):
        opt.run()


class Hooked(LoopCallback):
    def on_episode_ends(self):
        pass


SCORE = {"checkpoint_score_fn": len}
FACTORY = {"agent": None, "agent_factory": a_walker, "param_space": SPACE}
MISTAKES = [
    ({"agent": None}, "takes agent= or agent_factory=, got neither"),
    ({"agent_factory": a_walker}, "got both"),
    ({"agent": Filed}, "agent must derive from"),
    ({"agent": 3}, "agent must derive from"),
    (
        {"agent": optix.make_agent("CartPole-v1")},
        "got Agent; .* by optix.as_base_agent",
    ),
    ({"pipeline": None}, "takes pipeline= or pipeline_factory=, got neither"),
    ({"pipeline_factory": Track}, "got both"),
    ({"pipeline": None, "pipeline_factory": 3}, "pipeline_factory must be a function"),
    ({"pipeline": Track}, "pipeline must have the methods"),
    ({"pipeline": "CartPole-v1"}, "pipeline must have the methods.* of them$"),
    ({"param_space": SPACE}, "belong together"),
    ({**FACTORY, "param_space": None}, "belong together"),
    ({**FACTORY, "agent_factory": 3}, "agent_factory must be a function"),
    ({**FACTORY, "param_space": {}}, "param_space must be"),
    ({**FACTORY, "param_space": {"a": 3}}, "a in param_space is 3"),
    ({**FACTORY, "param_space": {"a": ("flat", 0, 1)}}, "did you mean 'float'"),
    ({**FACTORY, "param_space": {"a": ("float", 0)}}, "a in param_space is"),
    ({**FACTORY, "param_space": {"a": ("float", 1, 0)}}, "finite with low < high"),
    ({**FACTORY, "param_space": {"a": ("log_int", 0, 4)}}, "must begin above 0"),
    ({**FACTORY, "param_space": {"a": ("int", 0.5, 4)}}, "whole bounds"),
    ({**FACTORY, "param_space": {"a": ("categorical",)}}, "has no values"),
    ({**FACTORY, "n_trials": 0}, "n_trials must be an integer >= 1"),
    ({**FACTORY, "trial_episodes": 1.5}, "trial_episodes must be an integer"),
    ({"val_pipeline": 3}, "validation must have the methods evaluate"),
    ({"val_pipeline": 3, **SCORE}, "val_pipeline must have the method evaluate"),
    ({"checkpoint_score_fn": 3}, "checkpoint_score_fn must be a function"),
    ({"optimizer": 3}, "optimizer must be a Tuner"),
    ({"optimizer": "sspa"}, "did you mean 'spsa'"),
    ({"optimizer": "spsa"}, "default_param_bounds, and Walker has none"),
    ({"optimizer": spsa({"lr": (0.1, 1.0)})}, "unknown tuned hyperparameter 'lr'"),
    ({"max_episodes": 0}, "max_episodes must be an integer >= 1"),
    ({"max_episodes": "all"}, "max_episodes must be an integer"),
    ({"target_score": np.nan}, "target_score must be in"),
    ({"dormant_threshold": 0}, "dormant_threshold must be an integer >= 1"),
    ({"min_episodes_before_dormant": -1}, "min_episodes_before_dormant must be"),
    ({"rollback_on_degradation": "yes"}, "rollback_on_degradation must be True"),
    ({"max_snapshots": 1}, "max_snapshots must be an integer >= 2"),
    ({"seed": -1}, "seed must be an integer >= 0"),
    ({"progress": "no"}, "progress must be True or False"),
    ({"verbose": 2}, "verbose must be True or False"),
    ({"callbacks": LoopCallback()}, "callbacks must be an iterable"),
    ({"callbacks": [Hooked()]}, "did you mean 'on_episode_end'"),
    ({"checkpoint_dir": 3}, "checkpoint_dir must be the path of a folder, got"),
    ({"max_episode": 3}, "unknown option of RLOptimizer 'max_episode'"),
    ({"improvement_margin": 0.1}, "unknown option of RLOptimizer"),
    ({"windows_per_round": 0}, "windows_per_round must be an integer >= 1"),
    ({"evaluation_episodes": 0}, "evaluation_episodes must be an integer >= 1"),
]


@pytest.mark.parametrize(("wrong", "words"), MISTAKES)
def test_a_mistake_is_one_clear_error_at_once(wrong, words):
    with pytest.raises((TypeError, ValueError), match=words):
        RLOptimizer(**{"agent": Walker(), "pipeline": Track(), **wrong})


@pytest.mark.parametrize("value", ["1", None, True, [1.0], {}])
def test_a_score_function_must_return_a_number(value):
    judge = RLOptimizer(
        Filed(), Track(), checkpoint_score_fn=lambda agent: value, **QUICK
    )._binding.judge
    with pytest.raises(TypeError, match="checkpoint_score_fn must return a number"):
        judge.evaluate(Filed(), 0, 1)


def test_later_mistakes():
    opt = RLOptimizer(Filed(), Track(), **QUICK)
    with pytest.raises(ValueError, match="pass LoopCallback"):
        opt.add_callback(LoopCallback)
    with pytest.raises(ValueError, match="reason must be a text"):
        opt.stop("")
    with pytest.raises(ValueError, match="max_episodes must be an integer >= 1, got 0"):
        opt.run(max_episodes=0)
    with pytest.raises(ValueError, match="max_seconds must be > 0"):
        opt.run(max_seconds=-1)


class Rated(Walker):
    """Tells at which rates it learned."""

    def __init__(self, rates):
        super().__init__()
        self.rates = rates

    def get_hyperparams(self):
        return HyperparamSet({"learning_rate": self.rate, "epochs": 3})

    def set_hyperparams(self, hyperparams):
        self.rate = hyperparams.params["learning_rate"]

    def learn(self, episode_data):
        self.rates.append(self.rate)
        return {**super().learn(episode_data), "kl": 1e-9}


class Wide(Rated):
    default_param_bounds: ClassVar = {"learning_rate": (1e-6, 1e6)}


@pytest.mark.parametrize(
    ("optimizer", "kind"), [("spsa", Rated), ("pbt", Wide), ("trust", Wide)]
)
def test_a_tuner_by_name_stays_where_trials_chose_from(optimizer, kind):
    rates = []

    def agent_factory(params):
        agent = kind(rates)
        agent.rate = params["learning_rate"]
        return agent

    space = {"learning_rate": ("log_float", 0.5, 1.0), "width": ("int", 8, 64)}
    opt = RLOptimizer(
        agent_factory=agent_factory,
        pipeline=Track(),
        param_space=space,
        optimizer=optimizer,
        n_trials=1,
        trial_episodes=1,
        max_episodes=4,
        metrics=["kl"],
        windows_per_round=1,
        **QUICK,
    )
    opt.run()
    assert 0.5 <= min(rates) < max(rates) <= 1.0
    assert 0.5 <= opt.agent.rate <= 1.0
