"""One cache of compiled programs for the whole test session, shared by its workers."""

import os
import shutil
import sys
import tempfile

CACHE = "JAX_COMPILATION_CACHE_DIR"


def pytest_configure(config):
    """Choose the folder before jax is imported; workers and scripts inherit it.

    Tests build the same small programs again and again, in every worker and in scripts of
    their own. A folder that the environment names is left as it is, and kept.
    """
    if CACHE in os.environ:  # also in a worker
        return
    assert "jax" not in sys.modules  # which has read the environment by then
    os.environ[CACHE] = tempfile.mkdtemp(prefix="optix-tests-")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    config.add_cleanup(forget)


def forget():
    shutil.rmtree(os.environ.pop(CACHE), ignore_errors=True)
