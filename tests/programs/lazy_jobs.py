"""Look up the names of `spectra_jax.jobs` in a new process, in which nothing has imported its modules."""

import inspect
import sys

from spectra_jax import jobs

assert {*jobs.__all__, "parts", "run", "store"} <= set(dir(jobs))
assert not {"pyarrow", "spectra_jax.jobs.run"} & set(sys.modules)
assert jobs.SkipLimitError.__module__ == "spectra_jax.errors" and "pyarrow" not in sys.modules
assert jobs.run.BulkRun is jobs.BulkRun
assert {"BulkRun", "Part", "SkipLimitError", "Store"} <= {name for name, _ in inspect.getmembers(jobs, inspect.isclass)}
assert not hasattr(jobs, "walk")
