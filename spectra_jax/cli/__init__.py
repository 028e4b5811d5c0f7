"""The command line. Each command reads its options, calls the library once and prints what it returns.

| module | holds |
| --- | --- |
| `app` | the commands together, and `main`: errors, interrupts and exit statuses |
| `score`, `inspect`, `serve`, `evaluate` and so on | one command each |
| `options` | options that several commands have |
| `score_options` | the options of `score` together, and which of them exclude each other |
| `output` | messages on standard error, tables and JSON on standard output |
| `progress` | progress bars, and the lines that report a run's progress |
| `invocation` | the state of one run of the command line |
| `signals`, `streams` | signals that end a command; standard streams that are closed, full or not read |
"""

from spectra_jax.cli.app import app, main

__all__ = ["app", "main"]
