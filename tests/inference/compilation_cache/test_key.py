"""What the key of a cached network depends on."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import pytest

import spectra_jax
from spectra_jax import Scorer
from spectra_jax.inference.compilation_cache import CompilationCache, key
from spectra_jax.model.precision import Precision
from tests.conftest import GOLDEN
from tests.inference.compilation_cache.small_program import (
    doubled_from_cache,
    jax_setting,
)

PACKAGE = Path(spectra_jax.__file__).parent


def test_an_executable_is_found_for_the_same_facts_and_settings_only(
    empty_cache: CompilationCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [doubled_from_cache(empty_cache, facts) for facts in "aaba"] == [False, True, False, True]
    with jax_setting("jax_default_matmul_precision", "highest"):
        assert [doubled_from_cache(empty_cache, "a") for _ in range(2)] == [False, True]
    with jax_setting("jax_compilation_cache_max_size", 1234):
        assert doubled_from_cache(empty_cache, "a")
    with monkeypatch.context() as patched:
        patched.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", "") + " --xla_cpu_enable_fast_math=false")
        assert not doubled_from_cache(empty_cache, "a")
        file = tmp_path / "flags"
        patched.setenv("XLA_FLAGS", str(file))
        for flags in ("--xla_cpu_enable_fast_math=false", "--xla_cpu_enable_fast_math=true"):
            file.write_text(flags)
            assert not doubled_from_cache(empty_cache, "a")
    others = {"CODE_DIGEST": "of another version", "VERSIONS": ["flax 99"], "host": lambda: ["another CPU"]}
    for name, other in others.items():
        with monkeypatch.context() as patched:
            patched.setattr(key, name, other)
            assert [doubled_from_cache(empty_cache, "a") for _ in range(2)] == [False, True], name
    assert doubled_from_cache(empty_cache, "a")


def test_the_digest_depends_on_names_and_contents(tmp_path: Path) -> None:
    assert key.code_digest(tmp_path) is None
    assert key.code_digest(tmp_path / "package.zip") is None
    (tmp_path / "model").mkdir()
    digests = set()
    for name, code in (("a", "x = 1"), ("a", "x = 2"), ("b", "x = 2"), ("model/b", "x = 2")):
        file = tmp_path / f"{name}.py"
        file.write_text(code)
        digests.add(key.code_digest(tmp_path))
        assert key.code_digest(tmp_path) in digests
        file.unlink()
    assert len(digests) == 4 and None not in digests
    (tmp_path / ".#lock.py").symlink_to("nobody@nowhere")
    assert key.code_digest(tmp_path) is None


def test_the_key_covers_all_code_of_the_package(tmp_path: Path) -> None:
    copy = tmp_path / "spectra_jax"
    shutil.copytree(PACKAGE, copy, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    assert key.code_digest(copy) == key.CODE_DIGEST
    changed = {key.CODE_DIGEST}
    for name in ("__init__.py", "model/kan.py", "inference/engine.py", "inference/compilation_cache/key.py"):
        with (copy / name).open("a") as file:
            file.write("# changed")
        changed.add(key.code_digest(copy))
    assert len(changed) == 5


class KeyComputed(BaseException):
    """Stops a scorer from loading further."""


class RecordingCache(CompilationCache):
    """Records the facts of the network whose key is computed."""

    def key(self, facts: str) -> str:
        self.facts = facts
        raise KeyComputed


def test_networks_that_differ_have_different_facts(tmp_path: Path) -> None:
    """For everything that a scorer's network is compiled from. The same network has the same facts again."""
    cache = RecordingCache(tmp_path, pytest.fail)

    def facts(model: str | Path = "demo", **options: Any) -> str:
        with pytest.raises(KeyComputed):
            Scorer(model, **{"batch_size": 1, **options}).load(cache=cache)
        return cache.facts

    networks: list[dict[str, Any]] = [
        {},
        {"model": GOLDEN / "tiny"},
        {"precision": "float64"},
        {"precision": replace(Precision.of("float32"), lax=jax.lax.Precision.DEFAULT)},
        {"diagnostics": True},
        {"batch_size": 2},
    ]
    assert len({facts(**network) for network in networks}) == len(networks)
    assert facts() == facts()
