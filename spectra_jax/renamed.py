"""The names that modules had before this release. They keep working for one release, with a warning."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from types import ModuleType
from typing import Any

# Old name -> the modules that have its contents now, searched in this order.
_MODULES = {
    "bulk": ("jobs",),
    "checkpoint": ("checkpoints.checkpoint", "checkpoints.load", "checkpoints.native", "errors"),
    "comparison": ("evaluation.compare",),
    "config": ("model.config", "errors"),
    "labels": ("data.labels",),
    "metrics": ("evaluation.metrics", "errors"),
    "precision": ("model.precision",),
    "pretrained": ("checkpoints.resolve",),
    "rank_gap": ("model.rank_gap",),
    "ray": ("jobs.ray",),
    "report": ("reporting.page",),
    "results": ("inference.results",),
    "score_file": ("data.score_files",),
    "scoring": ("inference.scorer",),
    "sources": ("data.sources",),
    "trials": ("data.trial", "errors"),
}


class _RenamedModule(ModuleType):
    """A module under its old name: reading an attribute gives that of the new module, with a warning."""

    def __init__(self, package: str, old: str):
        super().__init__(f"{package}.{old}")
        self._package, self._old = package, old

    def __getattr__(self, name: str) -> Any:
        # importlib reads attributes such as `__path__` of every module: no reason for a warning, or for an import.
        if name.startswith("__"):
            raise AttributeError(name)
        for module in _MODULES[self._old]:
            found = import_module(f"{self._package}.{module}")
            if hasattr(found, name):
                warnings.warn(
                    f"{self._package}.{self._old} is now {self._package}.{module}; the old name will be removed in "
                    "the next release",
                    DeprecationWarning,
                    stacklevel=2,
                )
                return getattr(found, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


def install(package: str) -> None:
    """Make the old modules importable from `package`, and attributes of it."""
    for old in _MODULES:
        module = sys.modules.setdefault(f"{package}.{old}", _RenamedModule(package, old))
        setattr(sys.modules[package], old, module)
