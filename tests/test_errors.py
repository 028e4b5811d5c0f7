"""The tree of errors: complete, as drawn, and able to cross from one process to another."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil
import re

import pytest

import spectra_jax
from spectra_jax import errors
from spectra_jax.errors import CheckpointError, RequestError, SpectraError, UnreachableError

PUBLIC = [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, SpectraError)]


def all_exceptions() -> list[type[BaseException]]:
    """Every exception class that a module of the package defines."""
    found = []
    for info in pkgutil.walk_packages(spectra_jax.__path__, "spectra_jax."):
        if info.name == "spectra_jax.__main__":
            continue
        if info.name == "spectra_jax.jobs.ray":
            pytest.importorskip("ray")
        module = importlib.import_module(info.name)
        found += [
            one
            for one in vars(module).values()
            if inspect.isclass(one) and issubclass(one, BaseException) and one.__module__ == module.__name__
        ]
    return found


def test_every_exception_of_the_package_descends_from_one_root() -> None:
    found = all_exceptions()
    assert set(PUBLIC) < set(found), "what errors.py defines was not found, nor then anything else"
    strangers = [f"{one.__module__}.{one.__name__}" for one in found if not issubclass(one, SpectraError)]
    assert not strangers


def test_every_public_exception_is_defined_in_errors() -> None:
    elsewhere = [one for one in all_exceptions() if one.__module__ != errors.__name__]
    assert all(one.__name__.startswith("_") for one in elsewhere), elsewhere


DRAWN = re.compile(r"    (?P<rails>(?:[│ ]   )*(?:[├└]── )?)(?P<name>\w+Error)(?: \((?P<other>\w+)\))?(?: |$)")


def drawn_tree() -> dict[str, tuple[str, ...]]:
    """Each class that the docstring of `errors` draws, and its bases: the one above it, and those in parentheses."""
    found, path = {}, list[str]()
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(
            r"    (?P<rails>(?:[│ ]   )*(?:[├└]── )?)(?P<name>\w+Error)(?: \((?P<other>\w+)\))?(?: |$)", line
        )
        if match:
            depth = len(match["rails"]) // 4
            path[depth:] = [match["name"]]
            above = path[depth - 1 : depth] if depth else ["Exception"]
            found[match["name"]] = (*above, *([match["other"]] if match["other"] else []))
    return found


def test_the_drawn_tree_is_the_real_one() -> None:
    assert drawn_tree() == {one.__name__: tuple(base.__name__ for base in one.__bases__) for one in PUBLIC}


def example(kind: type[SpectraError]) -> SpectraError:
    if kind is CheckpointError:
        return CheckpointError("Not this network's weights:", [f"missing tensor {number}" for number in range(30)])
    if kind is UnreachableError:
        return UnreachableError("no model.safetensors", "the Hub cannot be reached")
    if kind is RequestError:
        return RequestError(429, "the queue is full; try again in 1 s", {"Retry-After": "1"})
    return kind("what was wrong, and what to do")


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_errors_survive_pickling(kind: type[SpectraError], protocol: int) -> None:
    before = example(kind)
    after = pickle.loads(pickle.dumps(before, protocol))
    assert type(after) is kind
    assert str(after) == str(before) and vars(after) == vars(before)
