"""Observers of a run on the host.

base: the hooks, and what calls them. console: a progress bar. dashboard: a panel in the
terminal. display: what both are, live or line by line. terminal: text on streams that can
not show everything. records: logs of one JSON object a line. jsonl: that with one line
per round and seed; members: that of a population's members and decisions. curve: the
learning curve as a picture; hyperparams: that of the hyperparameters; drawing: what both
share. tensorboard, wandb: the same loggers as elsewhere; scalars: under which tags.
"""

from typing import TYPE_CHECKING

from optix.exports import export

if TYPE_CHECKING:
    from optix.callbacks.base import EvalMetrics as EvalMetrics
    from optix.callbacks.base import LoopCallback as LoopCallback
    from optix.callbacks.base import PolicySnapshot as PolicySnapshot
    from optix.callbacks.console import Console as Console
    from optix.callbacks.curve import CurvePlot as CurvePlot
    from optix.callbacks.curve import learning_curve as learning_curve
    from optix.callbacks.dashboard import RichDashboardCallback as RichDashboardCallback
    from optix.callbacks.hyperparams import HyperparamsPlot as HyperparamsPlot
    from optix.callbacks.hyperparams import hyperparameters as hyperparameters
    from optix.callbacks.jsonl import JsonlLog as JsonlLog
    from optix.callbacks.jsonl import read_log as read_log
    from optix.callbacks.tensorboard import TensorBoardCallback as TensorBoardCallback
    from optix.callbacks.wandb import WandbCallback as WandbCallback

export(
    globals(),
    {
        "base": ("EvalMetrics", "LoopCallback", "PolicySnapshot"),
        "console": ("Console",),
        "curve": ("CurvePlot", "learning_curve"),
        "dashboard": ("RichDashboardCallback",),
        "hyperparams": ("HyperparamsPlot", "hyperparameters"),
        "jsonl": ("JsonlLog", "read_log"),
        "tensorboard": ("TensorBoardCallback",),
        "wandb": ("WandbCallback",),
    },
)
