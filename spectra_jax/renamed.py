"""The names that modules had before 0.2. They work for one release, with a warning."""

from __future__ import annotations

import sys
import warnings
from importlib import import_module
from types import ModuleType
from typing import Any

# Several modules where the names of an old one are found in more than one today.
_MODULES = {
    "bulk": ("jobs",),
    "checkpoint": ("checkpoints.native", "errors"),
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
    """A module under its old name: an attribute is taken, with a warning, from the module that has it today."""

    def __init__(self, package: str, old: str):
        super().__init__(f"{package}.{old}")
        self._package, self._old = package, old

    def __getattr__(self, name: str) -> Any:
        # What importlib asks of every module is not there, and no reason to import another one.
        if name.startswith("__"):
            raise AttributeError(name)
        for module in _MODULES[self._old]:
            found = import_module(f"{self._package}.{module}")
            if hasattr(found, name):
                warnings.warn(
                    f"{self._package}.{self._old} is now {self._package}.{module}; the old name goes with the next "
                    "release",
                    DeprecationWarning,
                    stacklevel=2,
                )
                return getattr(found, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


def install(package: str) -> None:
    """Make the old modules importable, and attributes of `package`."""
    for old in _MODULES:
        module = sys.modules.setdefault(f"{package}.{old}", _RenamedModule(package, old))
        setattr(sys.modules[package], old, module)
