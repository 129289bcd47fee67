"""What importing optix costs and offers."""

import importlib
import pkgutil
import subprocess
import sys

import optix

HEAVY = {
    "distrax",
    "gymnasium",
    "gymnax",
    "matplotlib",
    "optuna",
    "orbax",
    "rich",
    "tensorflow",
    "tensorflow_probability",
    "torch",
    "tyro",
}


def loaded_by(statement):
    script = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in done.stdout.split()}


def test_importing_optix_loads_nothing_heavy():
    # what flax and optax load themselves is not ours to answer for
    before = loaded_by("import jax, flax.linen, optax")
    assert not (loaded_by("import optix") - before) & HEAVY


def test_what_is_exported_exists():
    assert sorted(optix.__all__) == optix.__all__
    for name in optix.__all__:
        assert hasattr(optix, name)
    # a function must not be hidden by the module of the same name
    assert callable(optix.make) and callable(optix.train)


def test_every_module_says_what_it_is():
    for module in pkgutil.walk_packages(optix.__path__, "optix."):
        assert importlib.import_module(module.name).__doc__, module.name
