"""The errors of this package, under one root.

    SpectraError
    ├── InputError (ValueError)              arguments, files or tables that have to change; nothing was scored
    │   ├── TooLongError                     a recording that is longer than a caller's limit
    │   └── UnusableFileError                a file of a run that is damaged or belongs to another run
    ├── AudioError (ValueError)              a clip that cannot be decoded or scored
    │   └── UnsupportedCodecError            a sound file in a codec that no decoder here has
    ├── ConfigError (ValueError)             a configuration that is not valid for a network or a training run
    ├── CheckpointError (ValueError)         weights that are not those of the network
    ├── TensorFileError (ValueError)         a file that is not a complete safetensors file
    ├── MetricError (ValueError)             scores from which no metric can be computed
    ├── DevicesError (ValueError)            devices that JAX cannot start
    ├── CompilationCacheError                a cached executable that could not be loaded; it is compiled instead
    ├── RequestError                         a request to the HTTP service that is refused or failed
    ├── HubError                             a file that the Hugging Face Hub cannot give
    │   ├── NoSafetensorsError               a repository that has no weights as safetensors
    │   ├── NoRevisionError                  a repository that has no such branch, tag or commit
    │   └── UnreachableError                 no connection to the Hub, and the file is not in the cache
    └── StoppedError (RuntimeError)          work that stopped early; what was completed is kept
        ├── SkipLimitError                   more trials were skipped than `--max-errors` allows
        └── TrainingError                    training that cannot continue

`except SpectraError` catches them all, and each can be pickled, so that it survives the way from another process. Each
message states what was wrong, with the value, and what to do. Two kinds of errors stay Python's own: a `ValueError` or
`TypeError` for a wrong argument of a Python call, and an `OSError` from the operating system.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_MAX_LISTED_PROBLEMS = 20


class SpectraError(Exception):
    """The root of this package's errors."""


class InputError(SpectraError, ValueError):
    """Arguments, files or tables that have to change before the work can be done. Nothing was scored."""


class TooLongError(InputError):
    """A recording is longer than a caller's limit."""


class UnusableFileError(InputError):
    """A file of a run that is damaged or belongs to another run. The same command writes it again."""


class AudioError(SpectraError, ValueError):
    """A clip that cannot be decoded or scored. States what was wrong with the file or the values."""


class UnsupportedCodecError(AudioError):
    """A file without visible damage, in a codec that no decoder here has."""


class ConfigError(SpectraError, ValueError):
    """A configuration that is not valid for a network or a training run. States the field, the value and the rule."""


class CheckpointError(SpectraError, ValueError):
    """Weights that are not those of the network. `problems` lists every problem found, a sentence each."""

    def __init__(self, summary: str, problems: Iterable[str] = ()):
        self.problems = list(problems)
        listed = [f"  - {problem}" for problem in self.problems[:_MAX_LISTED_PROBLEMS]]
        if len(self.problems) > _MAX_LISTED_PROBLEMS:
            listed.append(f"  ... and {len(self.problems) - _MAX_LISTED_PROBLEMS:,} more")
        super().__init__("\n".join([summary, *listed]))


class TensorFileError(SpectraError, ValueError):
    """A file that is not a complete safetensors file. States what the file is instead, and what to do."""


class MetricError(SpectraError, ValueError):
    """Scores from which no metric can be computed: a class is empty, or numbers are not finite."""


class DevicesError(SpectraError, ValueError):
    """Devices that JAX cannot start."""


class CompilationCacheError(SpectraError):
    """A cached executable that could not be loaded. Scoring compiles the network instead, so callers never see it."""


class RequestError(SpectraError):
    """A request to the HTTP service that is refused or failed.

    Args:
      status: of the response.
      detail: what was wrong, and what to do.
      headers: of the response, besides its type.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None):
        super().__init__(status, detail, headers)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})

    def __str__(self) -> str:
        return self.detail


class HubError(SpectraError):
    """A file that the Hugging Face Hub cannot give. States what happened, then what to do about it."""


class NoSafetensorsError(HubError):
    """A repository that has no weights as safetensors. Other formats are pickles, which are never loaded."""


class NoRevisionError(HubError):
    """A repository that has no such branch, tag or commit."""


class UnreachableError(HubError):
    """The Hub cannot be reached, and the cache lacks the file.

    Args:
      message: about this file.
      reason: why, in words that hold for every other file as well.
    """

    # Unpickling passes the message alone, and sets the attribute afterwards.
    def __init__(self, message: str, reason: str = ""):
        super().__init__(message)
        self.reason = reason


class StoppedError(SpectraError, RuntimeError):
    """Work that stopped early. What was completed is kept."""


class SkipLimitError(StoppedError):
    """More trials were skipped than `--max-errors` allows. What was completed is kept."""


class TrainingError(StoppedError):
    """Training that cannot continue. The checkpoints saved so far are kept."""
