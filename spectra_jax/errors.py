"""Every error that this package raises on purpose, under one root.

    SpectraError
    ├── InputError (ValueError)              arguments, files or tables that have to change; nothing was scored
    │   └── UnusableFileError                a file of a run that is damaged or belongs to another run
    ├── AudioError (ValueError)              a clip that cannot be decoded or scored
    │   └── UnsupportedCodecError            a sound file in a codec that no decoder here has
    ├── ConfigError (ValueError)             a configuration that describes no network or training run
    ├── CheckpointError (ValueError)         weights that are not those of the network
    ├── TensorFileError (ValueError)         a file that is not a complete safetensors file
    ├── MetricError (ValueError)             scores from which no metric can be computed
    ├── DevicesError (ValueError)            devices that JAX cannot start
    ├── HubError                             a file that the Hugging Face Hub cannot give
    │   └── UnreachableError                 no connection to the Hub, and the file is not in the cache
    └── StoppedError (RuntimeError)          work that stopped early; what was completed is kept
        ├── SkipLimitError                   more trials were skipped than `--max-errors` allows
        └── TrainingError                    training that cannot continue

`except SpectraError` catches them all. Each message states what was wrong, with the value, and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable

_MAX_LISTED_PROBLEMS = 20


class SpectraError(Exception):
    """The root of this package's errors."""


class InputError(SpectraError, ValueError):
    """Arguments, files or tables that have to change before the work can be done. Nothing was scored."""


class UnusableFileError(InputError):
    """A file of a run that is damaged or belongs to another run. The same command writes it again."""


class AudioError(SpectraError, ValueError):
    """A clip that cannot be scored. States what was wrong with the file or the values."""


class UnsupportedCodecError(AudioError):
    """A file that is intact as far as a decoder can tell, in a codec that this decoder lacks."""


class ConfigError(SpectraError, ValueError):
    """A configuration that this package cannot use. Names the field, the value and the rule."""


class CheckpointError(SpectraError, ValueError):
    """Weights that are not those of the network. `problems` holds each problem found, one sentence each."""

    def __init__(self, summary: str, problems: Iterable[str] = ()):
        self.problems = list(problems)
        listed = [f"  - {problem}" for problem in self.problems[:_MAX_LISTED_PROBLEMS]]
        if len(self.problems) > _MAX_LISTED_PROBLEMS:
            listed.append(f"  ... and {len(self.problems) - _MAX_LISTED_PROBLEMS:,} more")
        super().__init__("\n".join([summary, *listed]))


class TensorFileError(SpectraError, ValueError):
    """A file that is not a complete safetensors file. States what it is instead, and what to do."""


class MetricError(SpectraError, ValueError):
    """Scores from which no metric can be computed: a class is empty, or numbers are not finite."""


class DevicesError(SpectraError, ValueError):
    """JAX cannot start the devices that it was asked for."""


class HubError(SpectraError):
    """A file that the Hub cannot give: one sentence on what happened, then what to do about it."""


class UnreachableError(HubError):
    """The Hub cannot be reached, and the cache lacks the file. `reason` holds for every other file as well."""

    def __init__(self, message: str, reason: str):
        super().__init__(message)
        self.reason = reason


class StoppedError(SpectraError, RuntimeError):
    """Work that stopped early. What was completed is kept."""


class SkipLimitError(StoppedError):
    """More trials could not be scored than was allowed. What was completed is kept."""


class TrainingError(StoppedError):
    """Training that cannot continue. What was saved is left as it was."""
