"""The contracts: records of pure functions and the immutable states they pass around.

Every part of optix is one of the records below, and each is usable alone. A record holds
functions; a state is a pytree of arrays. Whatever may differ between two seeds, all float
hyperparameters included, is a traced leaf; sizes and flags are static arguments of the
factory that made the record.

One long file on purpose: whoever writes a part reads the contracts in one place.

Axis letters: `L` lanes of a tuner, `T` steps of a window, `B` environments.
"""

import enum
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypedDict

import jax
import numpy as np

PyTree = Any
Hyperparams = Mapping[str, Any]  # {name: [] float32}, or [L] where a tuner says so

MAX_INT32 = 2**31 - 1  # of counts; no round has this number
LANE_AXIS = "optix/lane"  # the vmapped axis over a tuner's lanes; nobody else's name


class Policy(NamedTuple):
    """What a snapshot, a fork, a rollback and a spawn copy."""

    params: PyTree  # floats, the only part that is differentiated
    structure: PyTree = ()  # not trained: masks, roles, a uint8 version per entry
    opt_state: PyTree = ()
    extras: PyTree = ()  # target params, normalisers, temperature, counters


class LearnerState(NamedTuple):
    """A policy and the experience around it."""

    policy: Policy
    rollout: PyTree = ()  # [num_envs, ...] environment states, observations, carries
    memory: PyTree = ()  # replay, ONE for all lanes; () on policy


class StepExtras(TypedDict, total=False):
    """What is recorded of a step besides the transition: every key that optix reads.

    An agent may add keys of its own.
    """

    log_prob: jax.Array  # [T, B] float32 of the action when it was chosen; of `act`
    value: jax.Array  # [T, B] float32 of the observation acted on; of `act`
    carry: PyTree  # [T, B, ...] before the step; of `act` where there is a carry
    discounted_return: jax.Array  # [T, B] float32 running, this step's reward included
    episode_return: jax.Array  # [T, B] float32 the same, undiscounted
    shared: jax.Array  # [T, B] bool as in `EnvStep`, where resets are shared


class Trajectory(NamedTuple):
    """A window of experience, time major. A reset never hides `next_obs`."""

    obs: PyTree  # [T, B, ...] float32, or uint8 as the environment has it
    action: PyTree  # [T, B, ...] int32 or float32
    reward: jax.Array  # [T, B] float32
    terminated: jax.Array  # [T, B] bool: the return really ends here
    truncated: jax.Array  # [T, B] bool: cut off, the future is bootstrapped
    next_obs: PyTree  # [T, B, ...] like obs, before any reset
    extras: PyTree = ()  # `StepExtras`: what `act` and the collection add


class Transition(NamedTuple):
    """Rows to learn from off policy; `N` of them, or none on an example."""

    obs: PyTree  # [N, ...] float32, or uint8 as the environment has it
    action: PyTree  # [N, ...] int32 or float32
    reward: jax.Array  # [N] float32, the discounted sum where several steps are one row
    discount: jax.Array  # [N] float32 on the value of `next_obs`; 0 where terminated
    next_obs: PyTree  # [N, ...] like obs, before any reset


class Sample(NamedTuple):
    """What a buffer hands out; `M` rows."""

    items: PyTree  # [M, ...]
    index: jax.Array  # [M] int32 where they are stored
    weight: jax.Array  # [M] float32 of each row in a loss; ones where all are equal


class Buffer(NamedTuple):
    """A replay of fixed capacity, oldest rows overwritten first.

    capacity: static int, in rows.
    init: `(item) -> state` from one row, arrays or shapes.
    add: `(state, items [N, ...], valid [N] bool) -> state`; rows that are not valid leave
        no trace.
    size: `(state) -> [] int32` rows stored.
    sample: `(state, key, batch_size, importance_exponent) -> Sample`; rows may repeat.
        Of an empty buffer the rows are zeros.
    update: `(state, index [M], priority [M], valid [] bool) -> state`; nothing where all
        rows are equal.
    """

    capacity: int
    init: Callable[[PyTree], PyTree]
    add: Callable[[PyTree, PyTree, jax.Array], PyTree]
    size: Callable[[PyTree], jax.Array]
    sample: Callable[..., Sample]
    update: Callable[..., PyTree]


class Report(NamedTuple):
    """What one window tells: nothing in here is needed for the next step."""

    env_steps: jax.Array  # [] int32 environment steps of the window
    finite: jax.Array  # [] bool: data and update held no NaN or infinity
    metrics: dict[str, jax.Array]  # {name: [] float32}; "return" is that of `Learner`
    trajectory: PyTree = ()  # Trajectory, or () where the learner has none
    data_finite: Any = True  # [] bool: observations and rewards were finite


class Discrete(NamedTuple):
    """`n` actions or observations, 0 to n - 1."""

    n: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """The numbers of choices of its parts, of which there is one."""
        return (self.n,)


class MultiDiscrete(NamedTuple):
    """Several choices at once, the i-th of 0 to sizes[i] - 1: int32 [len(sizes)].

    Logits and masks of all parts are one row after another, [sum(sizes)].
    """

    sizes: tuple[int, ...]


class Box(NamedTuple):
    """Real vectors of a shape; optix environments take actions in [-1, 1] of it."""

    shape: tuple[int, ...]


Numbered = Discrete | MultiDiscrete  # actions with logits, and with masks
ActionSpace = Numbered | Box


class Masked(NamedTuple):
    """An observation, and which actions are allowed at it.

    It stands wherever the observation of a masked environment does. A mask that allows
    nothing counts as one that allows everything.
    """

    obs: PyTree  # [..., *observation_shape], all that networks and normalisers see
    action_mask: PyTree  # [..., n] bool array; n is the sum of a MultiDiscrete's sizes


class EnvStep(NamedTuple):
    """What a step of a batch of environments gives."""

    obs: PyTree  # [B, ...] to act on next: of a fresh episode after an end
    reward: jax.Array  # [B] float32
    terminated: jax.Array  # [B] bool
    truncated: jax.Array  # [B] bool
    next_obs: PyTree  # [B, ...] before any reset
    shared: Any = None  # [B] bool: its fresh episode began as another's of this step
    # did; None where that can not be


class ObservationParts(Protocol):
    """Between observations of several parts and the vectors that agents see."""

    def join(self, observation: PyTree) -> Any:
        """Return observations [...] of the environment's own as vectors [..., size]."""
        ...

    def split(self, vector: Any) -> PyTree:
        """Return the parts [..., *shape] of vectors, by name or number as they were."""
        ...


class Environment(NamedTuple):
    """A batch of environments, in one form for all agents.

    Observations are float32 arrays (integers are cast, discrete ones one-hot, several
    parts one vector), or uint8 where `observation_dtype` says so; agents take those for
    shares of 255. Actions of a
    bounded box are in [-1, 1] and are scaled (and clipped) to its bounds inside.

    reset: `(key, batch) -> (state, obs [batch, ...])`.
    step: `(key, state, action) -> (state, EnvStep)`; where an episode ended the state is
        of a fresh one.
    play: as `step`, but an ended episode is not replaced: for evaluation.
    decode: `(action) -> action` of one environment, as the one behind takes it: within
        its bounds, in its shape. None where that is the same.
    observation_dtype: of `obs` and `next_obs`, float32 or uint8.
    claim: `(key, state, obs, steps, active, play=False) -> (state, obs, fresh [] bool)`,
        called before the first of `steps` steps, of `play` until the first end of each
        if so told. A state whose environments are outside the device may be one that
        they have left behind; then it gives fresh episodes, and says so. Where `active`
        [] bool is False nothing is stepped. None on the device, where any state will do.
    host: the part outside the device, None if there is none.
    masked: not all actions are always allowed: observations are `Masked`.
    parts: of observations that are a dictionary or a tuple; a network of one's own gets
        them back by `parts.split(obs)`. None where they are one array.
    render: `(state) -> [H, W, 3] uint8`, a picture of one environment, whose state has no
        axis of a batch, made outside of programs. None where there is none; those outside
        the device have it from their `host`.
    html: `(states) -> str`, a page that plays an episode, where there is such a thing.
    kept_dtype: a smaller type that holds all observations exactly, in which a replay
        keeps them: of flags, of small integers. None where there is none.
    """

    name: str
    observation_shape: tuple[int, ...]
    action_space: ActionSpace
    time_limit: int
    reset: Callable[..., tuple[PyTree, PyTree]]
    step: Callable[..., tuple[PyTree, EnvStep]]
    play: Callable[..., tuple[PyTree, EnvStep]]
    decode: Callable[[Any], Any] | None = None
    observation_dtype: Any = np.dtype(np.float32)
    claim: Callable[..., tuple[PyTree, PyTree, jax.Array]] | None = None
    host: "HostPart | None" = None
    masked: bool = False
    parts: ObservationParts | None = None
    render: Callable[[PyTree], np.ndarray] | None = None
    html: Callable[[list[PyTree]], str] | None = None
    kept_dtype: Any = None


class Network(NamedTuple):
    """A function approximator: an MLP, a recurrent network, a neuron graph.

    init: `(key) -> (params, structure)`.
    initial_carry: `(batch) -> carry` with a leading axis [batch], or ().
    apply: `(params, structure, carry, obs) -> (carry, out)` on obs [..., *obs_shape].
    sequence: `(params, structure, carry, obs [T, B, *obs_shape], ended [T, B] bool) ->
        (carry, out [T, B, ...])`, many steps at once: what `apply` gives step by step
        with an initial carry after every step that ended. None where nothing is faster
        than that; see `optix.networks.sequence.run_sequence`.
    optimizer: makes the transformation that its parameters want, as the agents' option
        of that name, which goes before it; None leaves the choice to the agent.
    noisy: `(params, structure, key, obs [B, *obs_shape]) -> out [B, ...]` with the
        parameters of `optix.networks.noisy`, each row under noise of its own. None where
        nothing is cheaper than to perturb the parameters for each row.
    """

    init: Callable[[jax.Array], tuple[PyTree, PyTree]]
    initial_carry: Callable[[int], PyTree]
    apply: Callable[[PyTree, PyTree, PyTree, PyTree], tuple[PyTree, PyTree]]
    sequence: Callable[..., tuple[PyTree, PyTree]] | None = None
    optimizer: Callable[[], Any] | None = None
    noisy: Callable[..., PyTree] | None = None


class Learned(NamedTuple):
    """What an agent makes of a batch."""

    policy: Policy
    info: dict[str, jax.Array]  # {name: [] float32} for people
    finite: Any = True  # [] bool: the update held no NaN or infinity
    priority: PyTree = ()  # [M] float32 errors of the rows, for a prioritised replay


class Agent(NamedTuple):
    """An algorithm: how to act and how to learn from a batch.

    Wherever both are taken, hyperparameters stand before the key.

    init: `(key) -> Policy`.
    initial_carry: `(batch) -> carry`, () when feed-forward.
    act: `(policy, carry, obs [B, ...], hyperparams, key, explore) -> (carry, action
        [B, ...], StepExtras)`; `explore` is a static bool, False plays
        deterministically.
    learn: `(policy, batch, hyperparams, key) -> Learned`; the batch is a `Trajectory` on
        policy and a `Sample` of `Transition` off policy.
    hyperparams: {name: default float}; "discount" is among them.
    observe: `(policy, trajectory) -> policy`, what experience changes before anything is
        learned from it: counters, normalisers. Off policy only; on policy `learn` does.
    outputs: `(policy, carry, obs [B, ...]) -> (carry, outputs)`, what the choice of an
        action is made from: parameters of its distribution (logits [B, n], or (mean, log
        scale) [B, size]), the values of all actions [B, n], or the action itself where
        the policy is deterministic. None where there is no such thing.
    output_names: what the leaves of these outputs are called in files that hold the
        policy, () where that is not known.
    axis_name: the devices over which `learn` takes means, None for one.
    check_window: `(num_steps, num_envs)` raises ValueError where windows of that size
        can not be learned from. Static ints; on policy.
    metrics: the names in `Learned.info`, None where that is not known.
    """

    init: Callable[[jax.Array], Policy]
    initial_carry: Callable[[int], PyTree]
    act: Callable[..., tuple[PyTree, PyTree, PyTree]]
    learn: Callable[[Policy, PyTree, Hyperparams, jax.Array], Learned]
    hyperparams: Mapping[str, float]
    observe: Callable[[Policy, PyTree], Policy] = lambda policy, trajectory: policy
    outputs: Callable[[Policy, PyTree, PyTree], tuple[PyTree, PyTree]] | None = None
    axis_name: str | None = None
    check_window: Callable[[int, int], Any] = lambda num_steps, num_envs: None
    output_names: tuple[str, ...] = ()
    metrics: tuple[str, ...] | None = None


class HostPart(Protocol):
    """What a learner keeps outside the device, behind what its state names there."""

    def raise_if_failed(self) -> None:
        """Raise the exception of a callback itself, once, if there was one."""
        ...

    def keep(self, state: PyTree) -> None:
        """Forget what `state`, which holds all that is still needed, does not name."""
        ...

    def save(self, tree: PyTree) -> dict[str, np.ndarray]:
        """Return what a tree names, as {name: [n] uint8}, for a checkpoint."""
        ...

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take back what `save` returned, so that the trees that name it are whole."""
        ...


class Learner(NamedTuple):
    """An agent bound to a source of experience.

    init: `(key) -> LearnerState`.
    begin: `(policy, key) -> rollout` with fresh episodes.
    step: `(state, hyperparams, key, active) -> (state, Report)`: one window, collected
        and learned. The loop freezes policy and rollout of a stopped seed; what it can
        not reach, `memory` and anything outside the device, the learner leaves alone
        where `active` is False. With several lanes it runs inside a vmap over LANE_AXIS
        in which `memory` is not batched, so what enters it is gathered over the lanes
        first. `Report.metrics["return"]` is the mean return of the episodes that ended
        in the window, as they were played for training; of the latest ones before where
        none ended, -inf where none has yet.
    evaluate: `(policy, hyperparams, key) -> score []`: whole episodes, nothing is
        learned.
    hyperparams: {name: default float}.
    host: None, or the part of the learner's state that lives outside the device.
    agent: the agent that it binds, None where that is no `Agent`.
    env: the environment that it acts in, None where that is no `Environment`.
    lanes: how many lanes may share its memory, None for any number.
    windows_per_round: how many windows a round has unless the loop is told.
    """

    init: Callable[[jax.Array], LearnerState]
    begin: Callable[[Policy, jax.Array], PyTree]
    step: Callable[..., tuple[LearnerState, Report]]
    evaluate: Callable[[Policy, Hyperparams, jax.Array], jax.Array]
    hyperparams: Mapping[str, float]
    host: HostPart | None = None
    agent: Agent | None = None
    env: Environment | None = None
    lanes: int | None = None
    windows_per_round: int = 1


class Phase(enum.IntEnum):
    """Where a run stands."""

    ACTIVE = 0
    COOLING = 1  # no improvement lately: reversible measures only
    DORMANT = 2  # flat for so long that learning no longer pays
    STOPPED = 3


class Verdict(enum.IntEnum):
    """What the scores of the last rounds say."""

    UNDECIDED = 0  # too few or too noisy: neither counts nor resets
    IMPROVING = 1
    FLAT = 2  # precise enough to say that nothing is left to gain
    DEGRADING = 3


class StopReason(enum.IntEnum):
    """Why a run ended; `describe` says it in words."""

    RUNNING = 0
    CONVERGED = 1
    TARGET_REACHED = 2
    MAX_ROUNDS = 3
    MAX_ENV_STEPS = 4
    NON_FINITE = 5
    NON_FINITE_DATA = 6
    NON_FINITE_SCORE = 7
    NO_SIGNAL = 8
    SETTLED = 9  # of a population

    def describe(self) -> str:
        """Return the reason as a sentence for people."""
        return _STOP_SENTENCES[self]


_STOP_SENTENCES = {
    StopReason.RUNNING: "still running",
    StopReason.CONVERGED: "converged: the scores have been flat for long enough",
    StopReason.TARGET_REACHED: "the target score was reached",
    StopReason.MAX_ROUNDS: "the budget of rounds is spent",
    StopReason.MAX_ENV_STEPS: "the budget of environment steps is spent",
    StopReason.NON_FINITE: "the updates kept producing NaN or infinity",
    StopReason.NON_FINITE_DATA: "the environment kept giving rewards or observations "
    "that are NaN or infinity",
    StopReason.NON_FINITE_SCORE: "the scores kept being NaN or infinity, though data and "
    "updates were finite",
    StopReason.NO_SIGNAL: "no learning signal: the scores have not moved since the first "
    "rounds",
    StopReason.SETTLED: "the population has settled: no policy trains any more, and no "
    "other is spawned",
}


class Event(enum.IntFlag):
    """What happened in a round, a bit mask in `StepReport.events`."""

    NONE = 0
    IMPROVEMENT = 1  # a new best policy
    PLATEAU = 2  # the phase is COOLING
    DORMANT = 4
    DEGRADATION = 8  # the scores fall, consistently
    ROLLBACK = 16  # at least one lane went back to the best policy
    HYPERPARAMS = 32  # the tuner's centre moved
    NON_FINITE = 64
    STRUCTURE = 128  # a transform changed the network's structure
    STOPPED = 256
    COPY = 512  # a lane goes on from another one
    SPAWN = 1024  # a population has a new member
    PRUNE = 2048  # a member has left it
    LOSS_SPIKE = 4096  # this and the next ones by `optix.loop.diagnostics`
    ENTROPY_COLLAPSE = 8192
    DIVERGENCE = 16384  # the policy has moved too far
    STALE_EXPLORATION = 32768


DIAGNOSES = {  # in words
    Event.LOSS_SPIKE: "loss spike",
    Event.ENTROPY_COLLAPSE: "entropy collapse",
    Event.DIVERGENCE: "divergence too high",
    Event.STALE_EXPLORATION: "stale exploration",
}


class Decision(enum.IntEnum):
    """What a population's meta-controller says of a member that trains no more."""

    NONE = 0  # nobody asked
    SPAWN = 1  # it stays as it is, and another one begins
    PRUNE = 2  # it leaves, and its place is free for another one
    STOP = 3  # it stays as it is, and no other one begins
    GO_ON = 4  # it trains on


class Signals(NamedTuple):
    """What the loop tells tuners and transforms after a round.

    Only the score has no default, so that a tuner is told without a loop too, as in
    `tuner.tell(state, Signals(score), key)`.
    """

    score: jax.Array  # [L] float32 for a tuner, [] for a transform; -inf if not finite
    round: Any = 0  # [] int32
    phase: Any = Phase.ACTIVE  # [] int32 Phase
    verdict: Any = Verdict.UNDECIDED  # [] int32 Verdict
    gain_limit: Any = math.inf  # [] float32 upper limit of the gain over the window, in
    # residual standard deviations
    autocorrelation: Any = 0.0  # [] float32 lag one, of the residuals
    improved: Any = False  # [] bool: this round set a new best
    hyperparams: Hyperparams = {}  # what the round used: {name: [L]} or {name: []}
    metrics: dict[str, jax.Array] = {}  # of the learner: {name: [L]} or {name: []}
    key: Any = None  # [] PRNG key of the round, for transforms; equal in all lanes


class Tuner(NamedTuple):
    """What chooses the hyperparameters of the next round.

    lanes: static int; copies trained side by side.
    bounds: {name: (low, high)} of what it tunes.
    init: `(base {name: []}, key) -> state`.
    ask: `(state) -> {name: [L]}`; reads only.
    tell: `(state, signals, key) -> (state, parents [L] int32 in [0, L])`: from which lane
        each lane goes on; L is the best snapshot.
    centre: `(state) -> {name: []}`: what it would hand over now, never a probe. `finish`
        takes it for what lane 0 ends with.
    judged: how many of the first lanes stand for the run: their mean is its score, and
        only they compete for the best policy; None for all.
    common_random_numbers: whether all lanes begin as copies and train with the same keys.
        Otherwise each begins from a policy of its own and sees experience of its own;
        scores are on the same keys either way.
    metrics: names among `Signals.metrics` that it can not do without.
    """

    lanes: int
    bounds: Mapping[str, tuple[float, float]]
    init: Callable[[Hyperparams, jax.Array], PyTree]
    ask: Callable[[PyTree], Hyperparams]
    tell: Callable[[PyTree, Signals, jax.Array], tuple[PyTree, jax.Array]]
    centre: Callable[[PyTree], Hyperparams]
    judged: int | None = None
    common_random_numbers: bool = True
    metrics: tuple[str, ...] = ()


class Transform(NamedTuple):
    """A pure callback on one lane: topology, Hebbian learning, diagnostics.

    init: `(policy) -> state`; the state travels with the policy.
    update: `(state, policy, rollout, report, signals) -> (state, policy, rollout,
        modulation)`: of the lane that the report is of, before any lane is forked;
        `modulation` is {name: [] float32} factors that multiply the next
        round's hyperparameters, within bounds, unknown to the tuner.
    hyperparams: {"name/parameter": default float}, tunable like any other.
    events: `(state) -> [] int32`, Event bits of what the last update found; None for
        none.
    trajectory: whether it looks at `report.trajectory`, which else is not kept.
    """

    init: Callable[[Policy], PyTree]
    update: Callable[..., tuple[PyTree, Policy, PyTree, dict]]
    hyperparams: Mapping[str, float]
    events: Callable[[PyTree], jax.Array] | None = None
    trajectory: bool = True


class Limits(NamedTuple):
    """When the watchdog ends a run. Traced: they may differ between seeds."""

    max_rounds: jax.Array  # [] int32
    max_env_steps: jax.Array  # [] int32, 2**31 - 1 for none
    target_score: jax.Array  # [] float32, infinity for none


class Best(NamedTuple):
    """The best policy so far; its hyperparameters are never a probe's."""

    policy: Policy
    transforms: PyTree
    hyperparams: Hyperparams  # {name: [] float32}
    score: jax.Array  # [] float32: in the run the score that chose it; after `finish`
    # the mean return on keys that no choice has seen
    choice_score: jax.Array  # [] float32 that chose it, after `finish` too: by this one
    # the policies of several seeds are compared
    round: jax.Array  # [] int32


class History(NamedTuple):
    """The scores that the convergence statistics look at; starts afresh at a break."""

    scores: jax.Array  # [300] float32 ring
    count: jax.Array  # [] int32 scores since the last break


class Baseline(NamedTuple):
    """The first scores of a run; no break makes it forget them."""

    scores: jax.Array  # [10] float32
    count: jax.Array  # [] int32 of them
    moved: jax.Array  # [] bool: later scores have been others, be it for a while


class Progress(NamedTuple):
    """Where the state machine of phases stands."""

    phase: jax.Array  # [] int32 Phase
    stagnant: jax.Array  # [] int32 flat or degrading verdicts since an improving one
    degrading: jax.Array  # [] int32 degrading verdicts in a row


class LoopState(NamedTuple):
    """A whole autonomous run: saving this pytree saves the run."""

    key: jax.Array  # [] PRNG key; a round's keys are folded from it
    learner: LearnerState  # policy, rollout [L, ...]; memory without a lane axis
    transforms: PyTree  # [L, ...]
    modulation: dict[str, jax.Array]  # {name: [L] float32}
    tuner: PyTree
    best: Best
    history: History
    baseline: Baseline
    curve: jax.Array  # [1024] float32 scores, -inf where none yet
    curve_stride: jax.Array  # [] int32 rounds between two points of the curve
    limits: Limits
    round: jax.Array  # [] int32
    env_steps: jax.Array  # [] int32, all lanes together; stays at 2**31 - 1
    progress: Progress
    stop_reason: jax.Array  # [] int32 StopReason
    non_finite: jax.Array  # [] int32 non-finite rounds in a row

    @property
    def active(self) -> jax.Array:
        """True while the run goes on, [] bool."""
        return self.stop_reason == StopReason.RUNNING

    @property
    def phase(self) -> jax.Array:
        """The Phase, [] int32."""
        return self.progress.phase


class Members(NamedTuple):
    """A round of a population by place, `P` of them, for people and callbacks."""

    trained: jax.Array  # [P] bool: a member there has played the round
    alive: jax.Array  # [P] bool: a policy there counts after it
    weight: jax.Array  # [P] float32 of that policy among all, 0 where none counts
    round: jax.Array  # [P] int32 of the member
    env_steps: jax.Array  # [P] int32 of the member so far
    score: jax.Array  # [P] float32
    best_score: jax.Array  # [P] float32
    phase: jax.Array  # [P] int32 Phase
    verdict: jax.Array  # [P] int32 Verdict
    events: jax.Array  # [P] int32 Event bits
    stop_reason: jax.Array  # [P] int32 StopReason
    decision: jax.Array  # [P] int32 Decision
    gap: jax.Array  # [P] float32 train less validation, in standard errors
    gap_slope: jax.Array  # [P] float32 of the last policy over the best, in the same
    gain_limit: jax.Array  # [P] float32 as `Signals.gain_limit`
    child: jax.Array  # [P] int32 the place of who was spawned then, -1 for nobody
    parent: (
        jax.Array
    )  # [P] int32 from which place it was spawned, -1 for a fresh policy
    reach: jax.Array  # [P] int32 how far from its parent, 0 is nearest
    spawns: jax.Array  # [] int32 so far


class StepReport(NamedTuple):
    """One round, for people and callbacks."""

    round: jax.Array  # [] int32
    env_steps: jax.Array  # [] int32 so far, all lanes
    score: jax.Array  # [] float32, mean over the judged lanes
    lane_scores: jax.Array  # [L] float32
    best_score: jax.Array  # [] float32
    hyperparams: Hyperparams  # {name: [L]} as used in this round
    centre: Hyperparams  # {name: []} what the tuner would hand over
    phase: jax.Array  # [] int32 Phase
    verdict: jax.Array  # [] int32 Verdict
    events: jax.Array  # [] int32 Event bits
    stop_reason: jax.Array  # [] int32 StopReason
    metrics: dict[str, jax.Array]  # {name: [] float32} means over windows and lanes
    members: PyTree = ()  # Members of a population


class Loop(NamedTuple):
    """An autonomous run as pure functions.

    init: `(key, hyperparams=None) -> LoopState`; traced overrides {name: []}.
    step: `(state) -> (state, StepReport)`: one round. A stopped state stays as it is.
    run: `(state) -> state`: rounds until every seed has stopped, then `finish`.
    finish: `(state) -> state`: scores the best policy on unseen keys.
    restart: `(state, policy, hyperparams, key) -> state`: the same budget, a new start.
    score: `(policy, hyperparams, key) -> []`, by which rounds are judged.
    learner, tuner: the parts, for drivers and for those who compose.
    """

    init: Callable[..., LoopState]
    step: Callable[[LoopState], tuple[LoopState, StepReport]]
    run: Callable[[LoopState], LoopState]
    finish: Callable[[LoopState], LoopState]
    restart: Callable[..., LoopState]
    score: Callable[[Policy, Hyperparams, jax.Array], jax.Array]
    learner: Learner
    tuner: Tuner
