"""The evaluation of the dev split."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from spectra_jax.errors import InputError
from spectra_jax.training import Clip, read_manifest
from spectra_jax.training.evaluate import Evaluator
from spectra_jax.training.step import Leaves
from tests.training.runs import config, write_corpus


def evaluator(clips: list[Clip], pool: ThreadPoolExecutor) -> Evaluator:
    """Of a network that takes the tone of the spoofs for loud: its bona fide logit is minus the window's power."""

    def forward(_: Leaves, windows: jax.Array) -> jax.Array:
        power = jnp.mean(windows**2, axis=1)
        return jnp.stack([power, -power], axis=1)

    mesh = Mesh(np.array(jax.devices()[:1]), ("clips",))
    return Evaluator(clips, config(), forward, NamedSharding(mesh, P("clips")), pool)


def test_the_figures_of_a_network(tmp_path: Path) -> None:
    """Seven clips of each class: batches of eight, of which the last one is padded."""
    clips = read_manifest(write_corpus(tmp_path, dev=7))["dev"]
    with ThreadPoolExecutor(2) as pool:
        scored = evaluator(clips, pool).score({})
        result = evaluator(clips, pool).evaluate({})
    assert scored.logits.shape == (14, 2) and scored.bonafide.sum() == 7 and scored.skipped == []
    assert result.eer == 0 and result.skipped == ()
    margin = scored.logits[:, 1] - scored.logits[:, 0]
    losses = np.log1p(np.exp(np.where(scored.bonafide, -margin, margin)))
    wanted = (losses[scored.bonafide].mean() + losses[~scored.bonafide].mean()) / 2
    assert result.loss == pytest.approx(wanted, rel=1e-5)


def test_clips_that_cannot_be_decoded_are_skipped(tmp_path: Path) -> None:
    clips = read_manifest(write_corpus(tmp_path, dev=2))["dev"]
    (tmp_path / "dev_spoof_0.wav").write_bytes(b"not audio")
    with ThreadPoolExecutor(2) as pool:
        result = evaluator(clips, pool).evaluate({})
        assert len(result.skipped) == 1 and "dev_spoof_0" in result.skipped[0]
        (tmp_path / "dev_spoof_1.wav").write_bytes(b"not audio")
        with pytest.raises(InputError, match="no clip of one class can be decoded"):
            evaluator(clips, pool).evaluate({})
