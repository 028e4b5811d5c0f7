"""Scores on the GPU are those of the CPU."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.monitoring
import numpy as np
import pytest

from spectra_jax.data.score_files import Scores
from spectra_jax.data.trial import Trial
from spectra_jax.evaluation.compare import compare
from spectra_jax.inference import compilation_cache
from spectra_jax.inference.scorer import Scorer
from tests.conftest import GOLDEN, expected, golden_windows
from tests.golden.checks import CLIPS, NEAR_TIES
from tests.inference.compilation_cache.small_program import jax_cache_switched, jax_setting
from tests.tolerances import LOGITS

pytestmark = pytest.mark.gpu

TINY = GOLDEN / "tiny"
CLIP_ROWS = json.loads((GOLDEN / "trials" / "expected.json").read_text())["networks"]["tiny"]
WAVEFORM_ROWS = expected("tiny")["waveforms"] + NEAR_TIES


def score_clips(scorer: Scorer) -> Sequence[Any]:
    trials = [Trial(row["utterance_id"], CLIPS / Path(row["path"]).name) for row in CLIP_ROWS]
    return list(scorer.score_trials(trials))


def as_scores(name: str, results: Sequence[Any]) -> Scores:
    gaps = {"smallest_rank_gap": np.array([result.rank_gap for result in results])}
    ids = np.array([result.trial.utterance_id for result in results], object)
    return Scores(name, ids, np.array([result.logits[1] for result in results], np.float64), gaps)


def test_certified_scores_are_those_of_float64_on_a_cpu(cpu: jax.Device) -> None:
    windows = golden_windows(WAVEFORM_ROWS)
    reference = np.array([row["logits_float64"] for row in WAVEFORM_ROWS])
    on_cpu = Scorer(TINY, precision="float64", devices=[cpu]).logits(windows)
    np.testing.assert_allclose(on_cpu, reference, rtol=0, atol=LOGITS["float64"])
    certified = Scorer(TINY, certify=True).logits(windows)
    np.testing.assert_allclose(certified, reference, rtol=0, atol=LOGITS["float32"])


def test_certified_scores_of_clips_are_the_golden_ones() -> None:
    logits = np.array([result.logits for result in score_clips(Scorer(TINY, certify=True))])
    reference = np.array([row["logits_float64"] for row in CLIP_ROWS])
    np.testing.assert_allclose(logits, reference, rtol=0, atol=LOGITS["float32"])


@pytest.mark.parametrize("model", [TINY, "demo"], ids=["tiny", "demo"])
def test_float32_scores_differ_near_ties_only(model: Path | str, cpu: jax.Device) -> None:
    exact = score_clips(Scorer(model, precision="float64", devices=[cpu], diagnostics=True))
    found = score_clips(Scorer(model, diagnostics=True))
    comparison = compare(as_scores("GPU", found), as_scores("CPU", exact), resamples=0, tolerance=LOGITS["float32"])
    print(comparison.verdict)
    assert comparison.agrees, comparison.verdict


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_scorer_on_the_cpu_of_this_process(precision: str, cpu: jax.Device) -> None:
    """The encoder has cuDNN's attention for the GPU only, and cuDNN is not on the CPU."""
    windows = golden_windows(WAVEFORM_ROWS[:2])
    scorer = Scorer(TINY, precision=precision, devices=[cpu], batch_size=2)
    reference = np.array([row["logits_float64"] for row in WAVEFORM_ROWS[:2]])
    # In bfloat16, as measured, 0.14: a pool ranks other nodes.
    np.testing.assert_allclose(scorer.logits(windows), reference, atol=1e-4 if precision == "float32" else 0.5)
    assert scorer.model.encoder.layers[0].attention.out.bias[...].devices() == {cpu}


@contextmanager
def jax_cache_hits() -> Iterator[list[str]]:
    """Events of executables that JAX takes from its cache."""
    hits: list[str] = []

    def note(event: str, **_: str | int) -> None:
        if event.endswith("/cache_hits"):
            hits.append(event)

    jax.monitoring.register_event_listener(note)
    yield hits
    jax.monitoring.unregister_event_listener(note)


def test_a_second_start_loads_from_the_compilation_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with jax_setting("jax_compilation_cache_dir", None), jax_cache_switched(on=True):
        windows = golden_windows(WAVEFORM_ROWS[:2])
        logits, events = [], []
        for _ in range(2):
            with jax_cache_hits() as hits, compilation_cache.use(pytest.fail, "cuda") as cache:
                assert cache is None, "JAX's own cache stores programs for GPUs"
                scorer = Scorer(TINY, batch_size=2)
                scorer.load(cache=cache)
                logits.append(scorer.logits(windows))
            events.append(len(hits))
            # What this process has in memory would hide the files.
            jax.clear_caches()
    assert any(compilation_cache.default_directory().iterdir())
    assert events[0] == 0 and events[1] > 0, events
    np.testing.assert_array_equal(logits[0], logits[1])
