"""The names that modules had before this release. They keep working for one release, with a warning."""

from __future__ import annotations

import opcode
import sys
import warnings
from importlib import import_module
from types import FrameType, ModuleType
from typing import Any

# Old name -> the modules that have its contents now, searched in this order.
_MODULES = {
    "bulk": ("jobs",),
    "checkpoint": ("checkpoints.checkpoint", "checkpoints.load", "checkpoints.native", "errors"),
    "comparison": ("evaluation.compare",),
    "config": ("model.config", "errors"),
    "labels": ("data.labels",),
    "metrics": ("evaluation.metrics", "errors"),
    "model.wav2vec2": ("model.encoder",),
    "precision": ("model.precision",),
    "pretrained": ("checkpoints.resolve",),
    "rank_gap": ("model.rank_gap",),
    "ray": ("jobs.ray",),
    "report": ("reporting.page",),
    "results": ("inference.results",),
    "score_file": ("data.score_files",),
    "scoring": ("inference.scorer", "inference.decoding", "inference.windows"),
    "sources": ("data.sources",),
    "trials": ("data.trial", "errors"),
}
# Names that were replaced in an old module, and where each is now.
_NAMES = {
    ("scoring", "Listening"): ("inference.windows", "WindowPolicy"),
    ("scoring", "Waited"): ("inference.timing", "StageTimer"),
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
        modules, today = _MODULES[self._old], name
        if (self._old, name) in _NAMES:
            module, today = _NAMES[self._old, name]
            modules = (module,)
        for module in modules:
            found = import_module(f"{self._package}.{module}")
            if hasattr(found, today):
                now = f"{self._package}.{module}" + ("" if today == name else f".{today}")
                old = self.__name__ + ("" if today == name else f".{name}")
                warnings.warn(
                    f"{old} is now {now}; the old name will be removed in the next release",
                    DeprecationWarning,
                    stacklevel=2,
                )
                return getattr(found, today)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


def install(package: str) -> None:
    """Make the old modules importable from `package`, and attributes of it."""
    for old in _MODULES:
        module = sys.modules.setdefault(f"{package}.{old}", _RenamedModule(package, old))
        parent, _, name = f"{package}.{old}".rpartition(".")
        setattr(import_module(parent), name, module)


def num_unpacked_names(frame: FrameType) -> int | None:
    """How many names the caller unpacks an iterable into (`a, b = value`: 2), or None if it does something else.

    To be called by `__iter__` with the frame of its caller.
    """
    code, position = frame.f_code.co_code, frame.f_lasti
    if not 0 <= position < len(code) - 1 or opcode.opname[code[position]] != "UNPACK_SEQUENCE":
        return None
    return code[position + 1]
