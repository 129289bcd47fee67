"""One run over many devices, processes and actors.

mesh: the programs of a run over a mesh of devices, and what tells that the devices which
share one policy still agree. devices: how many there are; on a CPU it makes them.

hosts: joins processes that run one program. peers: what they agree on and share. launch:
those of one machine, started again when one dies.

acting: actors that play for a learner, in turn, in threads or on Ray. cluster: the
cluster of Ray, joined or started.

`optix/distributed/README.md` says which way serves which need.
"""

from typing import TYPE_CHECKING

from optix.exports import export

if TYPE_CHECKING:
    from optix.distributed.acting.asynchronous import (
        AsyncActorLearner as AsyncActorLearner,
    )
    from optix.distributed.acting.learner import actors as actors
    from optix.distributed.acting.roster import ActorsFailedError as ActorsFailedError

export(
    globals(),
    {
        "acting.asynchronous": ("AsyncActorLearner",),
        "acting.learner": ("actors",),
        "acting.roster": ("ActorsFailedError",),
    },
)
