"""A trial: what makes two equal, and what is shown of one."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

from spectra_jax.data.trial import Trial

TRIAL = Trial("a", Path("a.wav"), "spoof", b"RIFF" * 1000, stamp="4000:7")


def test_trials_are_equal_by_what_is_scored() -> None:
    assert replace(TRIAL, stamp="4000:8", problem="damaged", fallbacks=("b",), max_bytes=1) == TRIAL
    assert replace(TRIAL, label=None) != TRIAL
    assert replace(TRIAL, content=b"fLaC") != TRIAL


def test_the_bytes_of_a_clip_are_not_shown() -> None:
    assert repr(TRIAL).startswith("Trial(utterance_id='a', path=") and "RIFF" not in repr(TRIAL)


def test_trials_survive_pickling_with_all_fields() -> None:
    after = pickle.loads(pickle.dumps(TRIAL))
    assert after == TRIAL and after.stamp == TRIAL.stamp and after.content == TRIAL.content
