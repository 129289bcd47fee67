"""Populations of autonomous runs, and several policies instead of one.

population: the factory. state: what a population is. round: one of its rounds. decisions:
what becomes of members that train no more, by meta, which decides. spawning: where new
ones begin. finish: which policy is kept. duties: weights, boosts, regime, status, report.
turns: work that is done as often as it is due.

ensemble: policies that act as one. average: one policy of the mean of their parameters.
weighting: how much each counts.

`population`, `ensemble` and `average` are named like their modules:
`from optix.population.population import population`.
"""

from typing import TYPE_CHECKING

from optix.exports import export

if TYPE_CHECKING:
    from optix.population.average import keep_if_not_worse as keep_if_not_worse
    from optix.population.average import top as top
    from optix.population.duties import Policies as Policies
    from optix.population.duties import boost as boost
    from optix.population.duties import policies as policies
    from optix.population.duties import pruned as pruned
    from optix.population.duties import ranked as ranked
    from optix.population.duties import report as report
    from optix.population.duties import status as status
    from optix.population.duties import weights as weights
    from optix.population.duties import with_regime as with_regime
    from optix.population.ensemble import acting as acting
    from optix.population.ensemble import join as join
    from optix.population.ensemble import stack as stack
    from optix.population.meta import Figures as Figures
    from optix.population.meta import MetaController as MetaController
    from optix.population.meta import meta_controller as meta_controller
    from optix.population.weighting import normalised as normalised
    from optix.population.weighting import shares as shares

export(
    globals(),
    {
        "duties": (
            *("Policies", "boost", "policies", "pruned", "ranked", "report"),
            *("status", "weights", "with_regime"),
        ),
        "meta": ("Figures", "MetaController", "meta_controller"),
        "average": ("keep_if_not_worse", "top"),
        "ensemble": ("acting", "join", "stack"),
        "weighting": ("normalised", "shares"),
    },
)
