"""The windows of many clips as batches: which go together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from spectra_jax.data.trial import Trial
from spectra_jax.errors import AudioError
from spectra_jax.inference.windows import WindowPolicy
from tests.engine_stand_in import stand_in_scorer
from tests.inference.clips import (
    as_decoded,
    in_blocks,
    levels,
    replace_streams,
    trials_of,
    waveform,
    zeros,
)


@pytest.mark.parametrize("flush_every", [None, 1, 2, 3])
def test_batches_fill_across_recordings(flush_every: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The composition of batches depends only on the trials, since scores depend on it by rounding."""
    counts = [1, 40, 2, 3, 16, 17, 1, 1, 33, 15]
    length = {count: 64_600 + (count - 1) * 8000 for count in counts}
    recordings = {str(index): in_blocks(np.full(length[count], index + 1)) for index, count in enumerate(counts)}
    refused = {"4": in_blocks(np.full(100, np.nan)), "6": in_blocks(np.ones(64_600), AudioError("cut short"))}
    replace_streams(monkeypatch, recordings | refused)
    dispatched: list[list[int]] = []

    def compute(windows: np.ndarray) -> np.ndarray:
        logits = levels(windows)
        dispatched.append([round(level) - 1 for level in logits[:, 0]])
        return logits

    scorer = stand_in_scorer(compute)
    progress: list[int] = []
    results = list(
        scorer.score_trials(
            trials_of(recordings),
            window_policy=WindowPolicy(0.5),
            flush_every=flush_every,
            on_progress=lambda done: progress.append(done.windows),
        )
    )
    assert [len(result.window_scores or ()) for result in results] == [
        0 if name in refused else count for name, count in zip(recordings, counts, strict=True)
    ]
    groups: list[list[int | None]] = [[]]
    for index, count in enumerate(counts):
        # A refused one takes a row that stays empty.
        for row in [None] if str(index) in refused else [index] * count:
            groups[-1].append(row)
            if len(groups[-1]) == scorer.batch_size:
                groups.append([])
        if flush_every and (index + 1) % flush_every == 0 and groups[-1]:
            groups.append([])
    wanted = [[row for row in group if row is not None] for group in groups]
    assert dispatched == [group for group in wanted if group]
    assert sorted(set(progress)) == list(np.cumsum([len(group) for group in dispatched]))


def test_groups_are_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def compute(windows: np.ndarray) -> np.ndarray:
        sizes.append(len(windows))
        return zeros(windows)

    monkeypatch.setattr("spectra_jax.audio.decode", lambda *_, **__: as_decoded(waveform(1)))
    scorer = stand_in_scorer(compute)
    trials = [Trial(str(index), tmp_path / "x.wav") for index in range(11)]
    results = list(scorer.score_trials(trials, flush_every=5))
    assert [result.trial for result in results] == trials
    assert sizes == [3, 2, 3, 2, 1]
