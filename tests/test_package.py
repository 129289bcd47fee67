"""What importing optix costs and offers."""

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import optix

HERE = Path(optix.__file__).parent
MODULES = [module.name for module in pkgutil.walk_packages(optix.__path__, "optix.")]
PACKAGES = [
    "optix",
    *(name for name in MODULES if (HERE.parent / name.replace(".", "/")).is_dir()),
]
FACADES = [
    name
    for name in PACKAGES
    if "from optix.exports import"
    in Path(importlib.import_module(name).__file__).read_text()
]

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


def loaded(statement):
    script = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def loaded_by(statement):
    return {name.split(".")[0] for name in loaded(statement)}


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
    for name in MODULES:
        assert importlib.import_module(name).__doc__, name


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_names_its_modules(name):
    package = importlib.import_module(name)
    named = set(re.findall(r"\w+", package.__doc__ or ""))
    assert {module.name for module in pkgutil.iter_modules(package.__path__)} <= named


@pytest.mark.parametrize("name", FACADES)
def test_a_package_offers_what_it_says(name):
    """The names that a type checker sees are those that are there, and hide no module."""
    package = importlib.import_module(name)
    seen = {
        alias.asname or alias.name
        for node in ast.walk(ast.parse(Path(package.__file__).read_text()))
        if isinstance(node, ast.ImportFrom) and node.module != "typing"
        for alias in node.names
    }
    assert set(package.__all__) == seen - {"export"}
    assert {
        module.name for module in pkgutil.iter_modules(package.__path__)
    }.isdisjoint(package.__all__)
    for exported in package.__all__:
        assert getattr(package, exported).__module__.startswith(f"{name}.")
        assert exported in dir(package)
    with pytest.raises(AttributeError, match=f"'{name}' has no attribute 'nothing'"):
        package.nothing  # noqa: B018


def test_offering_a_name_imports_nothing():
    assert "optix.loop.modulation" not in loaded("import optix")
    loaded_now = loaded("from optix.loop import neuromodulation")
    assert "optix.loop.modulation" in loaded_now


USED = r"""
import warnings
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    import jax, optix
    loop = optix.make("CartPole-v1", num_envs=2, num_steps=8, hidden=(4,))
    jax.eval_shape(loop.run, jax.eval_shape(loop.init, jax.random.key(0)))
print(*(f"{w.filename}: {w.message}" for w in told), sep="\n")
"""


def test_the_import_warns_of_nothing():
    importing = [sys.executable, "-W", "error", "-c", "import optix"]
    done = subprocess.run(importing, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_of_ours_warns_when_used():
    done = subprocess.run(
        [sys.executable, "-c", USED], capture_output=True, text=True, check=True
    )
    assert str(HERE) not in done.stdout
