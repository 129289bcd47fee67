"""`jit` for tests: what runs for a moment is not worth a long compilation."""

from functools import partial

import jax

jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
