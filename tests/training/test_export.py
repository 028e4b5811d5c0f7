"""The best network of a run, in the native format and in PyTorch's."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from spectra_jax.checkpoints.resolve import open_checkpoint
from spectra_jax.convert import convert
from spectra_jax.training import BEST, EvaluationEvent
from spectra_jax.training.export import export_best
from tests.conftest import spectra
from tests.training.runs import config, weights_of


def test_the_best_network_scores_with_the_ordinary_command(
    manifest: Path, finished: tuple[Path, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, events = finished
    evaluations = [event for event in events if isinstance(event, EvaluationEvent)]
    best = min(evaluations, key=lambda event: (event.eer, event.loss))
    assert open_checkpoint(output / BEST).provenance["training_step"] == str(best.step)
    clip = manifest.parent / "dev_spoof_0.wav"
    assert spectra(monkeypatch, "score", "--model", output / BEST, "-o", tmp_path / "s.txt", clip) == 0
    assert (tmp_path / "s.txt").read_text().startswith("dev_spoof_0 ")


def test_the_best_network_goes_to_pytorch_and_back(finished: tuple[Path, list[Any]], tmp_path: Path) -> None:
    output, _ = finished
    convert(output / BEST, tmp_path / "torch", "torch")
    convert(tmp_path / "torch", tmp_path / "native")
    before, after = weights_of(output / BEST), weights_of(tmp_path / "native")
    assert before.keys() == after.keys()
    for path, leaf in before.items():
        # The positional kernel comes back as a product, everything else as it was.
        np.testing.assert_allclose(after[path], leaf, rtol=1e-6 if "positional" in path else 0, atol=1e-9, err_msg=path)


def test_a_full_disk_leaves_the_network_before(finished: tuple[Path, list[Any]], tmp_path: Path) -> None:
    weights = {path: jnp.asarray(leaf) for path, leaf in weights_of(finished[0] / BEST).items()}
    identity = {"manifest_sha256": "0" * 64, "init": None, "init_sha256": None}
    evaluation = EvaluationEvent(2, 0.5, 0.25, True)
    export_best(tmp_path, config(), identity, weights, evaluation)
    larger = {path: leaf + 1 for path, leaf in weights.items()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OSError):
            export_best(tmp_path, config(), identity, larger, replace(evaluation, step=4))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert open_checkpoint(tmp_path / BEST).provenance["training_step"] == "2"
    for path, leaf in weights_of(tmp_path / BEST).items():
        np.testing.assert_array_equal(leaf, weights[path], err_msg=path)
    export_best(tmp_path, config(), identity, larger, replace(evaluation, step=4))
    assert open_checkpoint(tmp_path / BEST).provenance["training_step"] == "4"
