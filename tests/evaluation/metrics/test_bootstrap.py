"""The bootstrap: each resample's figures are the plain metrics of its trials, and intervals cover what they should."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from spectra_jax.errors import MetricError
from spectra_jax.evaluation import metrics
from spectra_jax.evaluation.metrics import bootstrap, bootstrap_difference
from spectra_jax.evaluation.metrics.bootstrap import STATISTICS, _by_cluster, _by_trial, _System
from spectra_jax.evaluation.metrics.detection import ASVSPOOF5


def system(people: int, machines: int, seed: int = 0, decimals: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Scores with ties, and which of them are bona fide, in no order."""
    random = np.random.default_rng(seed)
    bonafide = random.permutation(np.arange(people + machines) < people)
    return np.round(random.normal(np.where(bonafide, 0.8, -0.8), 1), decimals), bonafide


@pytest.mark.parametrize("sizes", [(40, 60), (1, 5), (3, 1), (2, 2)])
def test_a_resample_is_the_plain_metric_of_its_trials(sizes: tuple[int, int]) -> None:
    scores, bonafide = system(*sizes)
    draw = _by_trial(bonafide)
    for seed in range(50):
        times = draw(np.random.default_rng(seed))
        assert times[bonafide].sum() == sizes[0] and times[~bonafide].sum() == sizes[1]
        counts = _System.of(scores, bonafide).counts(times)
        people = np.repeat(scores[bonafide], times[bonafide])
        machines = np.repeat(scores[~bonafide], times[~bonafide])
        for name, statistic in STATISTICS.items():
            plain = getattr(metrics, name)(people, machines)
            plain = getattr(plain, "rate", plain)
            # Zeros stand between the same terms of the sums.
            assert statistic(counts, ASVSPOOF5) == pytest.approx(plain, abs=1e-12), name


def test_clusters_are_drawn_whole() -> None:
    _, bonafide = system(30, 30)
    speaker = np.arange(60) % 6
    times = _by_cluster(bonafide, speaker)(np.random.default_rng(3))
    assert all(len(set(times[speaker == name])) == 1 for name in range(6))
    assert times.sum() == 60 and set(times) != {1}


def test_intervals_agree_with_scipy() -> None:
    scores, bonafide = system(150, 200, decimals=3)
    ours = bootstrap(scores, bonafide, ("auc",), resamples=4000)["auc"]
    theirs = stats.bootstrap(
        (scores[bonafide], scores[~bonafide]),
        metrics.auc,
        n_resamples=4000,
        method="percentile",
        vectorized=False,
        rng=np.random.default_rng(1),
    ).confidence_interval
    # Two draws of 4,000 place a 2.5 % quantile to a few hundredths of the interval's length.
    assert ours.low == pytest.approx(theirs.low, abs=0.1 * (theirs.high - theirs.low))
    assert ours.high == pytest.approx(theirs.high, abs=0.1 * (theirs.high - theirs.low))


def test_intervals_cover_the_truth() -> None:
    """Normal scores a distance of 2 apart have an AUC of Phi(2 / sqrt(2))."""
    truth = stats.norm.cdf(2 / np.sqrt(2))
    covered = 0
    for seed in range(100):
        random = np.random.default_rng(seed)
        scores, bonafide = random.normal(np.repeat([1.0, -1.0], 100)), np.repeat([True, False], 100)
        interval = bootstrap(scores, bonafide, ("auc",), resamples=200, seed=seed)["auc"]
        covered += interval.low <= truth <= interval.high
    assert 85 <= covered <= 100, "95 of 100 are expected, give or take five"


def test_seeded_and_apart_from_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, bonafide = system(50, 50)
    first = bootstrap(scores, bonafide, tuple(STATISTICS), resamples=50)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    assert bootstrap(scores, bonafide, tuple(STATISTICS), resamples=50) == first
    assert bootstrap(scores, bonafide, ("eer",), resamples=50, seed=1)["eer"] != first["eer"]


def test_clusters_widen_what_speakers_share() -> None:
    random = np.random.default_rng(0)
    speaker = np.repeat(np.arange(30), 20)
    bonafide = np.tile(np.arange(20) < 10, 30)
    scores = random.normal(np.where(bonafide, 0.5, -0.5), 0.3) + random.normal(0, 1, 30)[speaker]
    by_trial = bootstrap(scores, bonafide, ("eer",), resamples=400)["eer"]
    by_speaker = bootstrap(scores, bonafide, ("eer",), resamples=400, clusters=speaker)["eer"]
    assert by_speaker.high - by_speaker.low > 1.5 * (by_trial.high - by_trial.low)


def test_a_difference_is_paired() -> None:
    scores, bonafide = system(100, 100, decimals=3)
    same = bootstrap_difference(scores, scores, bonafide, ("eer", "min_cllr"), resamples=50)
    assert all((interval.low, interval.high) == (0.0, 0.0) for interval in same.values())
    better = scores + 0.4 * bonafide
    difference = bootstrap_difference(scores, better, bonafide, ("eer",), resamples=500)["eer"]
    alone = bootstrap(scores, bonafide, ("eer",), resamples=500)["eer"]
    assert difference.low > 0 and difference.high - difference.low < alone.high - alone.low


def test_refuses() -> None:
    scores, bonafide = system(20, 20)
    for wrong, message in (
        ({"statistics": ("err",)}, "no statistic 'err'; there are eer"),
        ({"resamples": 0}, "resamples = 0"),
        ({"confidence": 1.0}, "confidence = 1.0"),
        ({"clusters": ["a"]}, "1 clusters for 40 trials"),
        ({"bonafide": bonafide.astype(int)}, "bonafide must be bool"),
        ({"scores": scores[1:]}, "bonafide must be bool and have the scores' shape"),
    ):
        with pytest.raises(ValueError, match=message):
            bootstrap(**({"scores": scores, "bonafide": bonafide, "statistics": ("eer",)} | wrong))
    with pytest.raises(MetricError, match="no bona fide"):
        bootstrap(scores, np.zeros(40, bool), ("eer",))
    # One cluster a class: half of the resamples have one class alone, and are drawn again.
    bootstrap(scores, bonafide, ("eer",), clusters=bonafide, resamples=20)
