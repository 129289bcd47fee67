"""Running a script with two CPU devices, which only a new process can have."""

import os
import subprocess
import sys
import textwrap

# What is quickly compiled and has the same bits in every program: without fusion emitters,
# as in tests/conftest.py, XLA rounds a sum of two products as it comes.
STEADY = "--xla_backend_optimization_level=0"


def in_two_devices(script: str) -> str:
    """Run the script, whatever its indent, and return what it printed."""
    flags = os.environ.get("XLA_FLAGS", "")
    flags += " --xla_force_host_platform_device_count=2"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script).strip()],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
