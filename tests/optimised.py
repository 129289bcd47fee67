"""`jit` for tests that compute for long: optimised, as the session's other code is not."""

from functools import partial

import jax

jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 3})
