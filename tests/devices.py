"""Running a script with two CPU devices, which only a new process can have."""

import os
import subprocess
import sys
import textwrap


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
