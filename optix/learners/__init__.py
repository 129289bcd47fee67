"""An agent bound to a source of experience, behind the `Learner` record.

on_policy: windows from environments. off_policy: a replay filled step by step; memory:
the replay that lanes share. collect: one step in the environments, of both. evaluate:
scores of whole episodes.
Agents outside the device have theirs in `optix.host.learner`.

`on_policy` and `off_policy` are named like their modules, so they are imported from
there: `from optix.learners.on_policy import on_policy`.
"""

from typing import TYPE_CHECKING

from optix.exports import export

if TYPE_CHECKING:
    from optix.learners.collect import collector as collector
    from optix.learners.evaluate import evaluator as evaluator

export(globals(), {"collect": ("collector",), "evaluate": ("evaluator",)})
