"""Several policies instead of one.

ensemble: policies that act as one. average: one policy of the mean of their parameters.
weighting: how much each counts.

`ensemble` and `average` are named like their modules: `from optix.population.average
import average`.
"""

from typing import TYPE_CHECKING

from optix.exports import export

if TYPE_CHECKING:
    from optix.population.average import keep_if_not_worse as keep_if_not_worse
    from optix.population.average import top as top
    from optix.population.ensemble import join as join
    from optix.population.ensemble import stack as stack
    from optix.population.weighting import normalised as normalised
    from optix.population.weighting import shares as shares

export(
    globals(),
    {
        "average": ("keep_if_not_worse", "top"),
        "ensemble": ("join", "stack"),
        "weighting": ("normalised", "shares"),
    },
)
