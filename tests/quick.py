"""`jit` for tests: what runs for a moment is not worth a long compilation."""

from functools import partial

import jax

OPTIONS = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
jit = partial(jax.jit, compiler_options=OPTIONS)
