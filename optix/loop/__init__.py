"""The autonomous run.

loop: rounds of training, scoring, judging and forking. judge: which lane goes on.
convergence: what the scores say. phases: ACTIVE, COOLING, DORMANT. lanes: states side by
side. transforms: pure callbacks. modulation: a transform that sets rates by the regime of
the scores. curve: a history of fixed size. until_stopped: a while loop over many seeds.
finish: the best policy, chosen and scored at the end.

`loop` is named like its module: `from optix.loop.loop import loop`.
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
