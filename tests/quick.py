"""`jit` for tests: what runs for a moment is not worth a long compilation."""

from functools import partial

import jax

OPTIONS: dict[str, int | bool] = {"xla_backend_optimization_level": 0}
if jax.__version_info__ < (0, 11):  # 0.11.2 refuses the name
    OPTIONS["xla_cpu_use_fusion_emitters"] = False
jit = partial(jax.jit, compiler_options=OPTIONS)
