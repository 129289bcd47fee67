"""How a test session compiles programs: quickly, and once for all its workers.

Both are chosen here, before jax is imported, also by the conftest of a folder that is run
alone; workers and scripts inherit them.
"""

import gc
import importlib.metadata
import os
import shutil
import sys
import tempfile

CACHE, FLAGS = "JAX_COMPILATION_CACHE_DIR", "XLA_FLAGS"


def quick_flags():
    """What runs for a moment is not worth a long compilation: PPO's takes 3 s, not 16.

    What is compiled as users do it is tried by running the README's main job. A second
    thread that compiles the same program costs more than it saves where every core has a
    worker.
    """
    version = tuple(map(int, importlib.metadata.version("jax").split(".")[:2]))
    plain = [] if version >= (0, 11) else ["--xla_cpu_use_fusion_emitters=false"]
    return " ".join(
        [
            "--xla_backend_optimization_level=0",
            "--xla_cpu_parallel_codegen_split_count=1",
            *plain,
        ]
    )


os.environ.setdefault(FLAGS, quick_flags())

# Tests build the same small programs again and again, in every worker and in scripts of
# their own. A folder that the environment names, as in a worker, is left as it is.
OWN = CACHE not in os.environ
if OWN:
    assert "jax" not in sys.modules  # which has read the environment by then
    os.environ[CACHE] = tempfile.mkdtemp(prefix="optix-tests-")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")

# Tracing makes many objects that live: Python would look through them some thirty times as
# often, which is a twentieth of the time.
gc.set_threshold(20_000, 10, 10)


def pytest_collection_finish():
    """What was imported and collected stays, and need not be looked through."""
    gc.freeze()


def pytest_unconfigure():
    """Forget what was compiled."""
    if OWN:
        shutil.rmtree(os.environ.pop(CACHE, ""), ignore_errors=True)
