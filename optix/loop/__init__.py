"""The autonomous run.

loop: a run from its parts. round: training, scoring, judging, transforming and forking.
lanes: work over the lanes of a tuner. judge: what a round's scores mean, by convergence
(what the scores say) and phases (ACTIVE, COOLING, DORMANT). finish: which policy is kept.
transforms: pure callbacks; modulation and diagnostics are two. curve: a fixed-size
history. until_stopped: a while loop over many seeds.

`loop` and `diagnostics` are named like their modules: `from optix.loop.loop import loop`.
"""

from typing import TYPE_CHECKING

from optix.exports import export

if TYPE_CHECKING:
    from optix.loop.convergence import Assessment as Assessment
    from optix.loop.convergence import assess as assess
    from optix.loop.convergence import initial_history as initial_history
    from optix.loop.convergence import push as push
    from optix.loop.modulation import neuromodulation as neuromodulation
    from optix.loop.phases import advance as advance
    from optix.loop.phases import initial_progress as initial_progress
    from optix.loop.transforms import chain as chain

export(
    globals(),
    {
        "convergence": ("Assessment", "assess", "initial_history", "push"),
        "modulation": ("neuromodulation",),
        "phases": ("advance", "initial_progress"),
        "transforms": ("chain",),
    },
)
