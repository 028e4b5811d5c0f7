"""Calibration: against scikit-learn, against the truth, and against files that are none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from spectra_jax.errors import MetricError
from spectra_jax.evaluation import metrics
from spectra_jax.evaluation.metrics import Calibration, fit_isotonic, fit_logistic
from tests.conftest import spectra

RANDOM = np.random.default_rng(0)
BONAFIDE, SPOOF = RANDOM.normal(3, 1, 3000), RANDOM.normal(1, 1, 800)


def test_logistic_against_scikit_learn() -> None:
    linear = pytest.importorskip("sklearn.linear_model", reason="needs the extra `test` (scikit-learn)")
    scores = np.concatenate([BONAFIDE, SPOOF])
    labels = np.repeat([1, 0], [len(BONAFIDE), len(SPOOF)])
    model = linear.LogisticRegression(C=np.inf, class_weight="balanced", tol=1e-10, max_iter=1000)
    model.fit(scores[:, None], labels)
    ours = fit_logistic(BONAFIDE, SPOOF).log_likelihood_ratio([0.0, 1.0])
    # Platt's targets move the line by about one trial's weight in a thousand.
    assert ours[1] - ours[0] == pytest.approx(model.coef_[0, 0], rel=1e-2)
    assert ours[0] == pytest.approx(model.intercept_[0], rel=1e-2)


@pytest.mark.parametrize("fit", [fit_logistic, fit_isotonic])
def test_finds_the_true_ratio(fit) -> None:
    """Two normal classes of the same width: the true log-likelihood ratio is 2 (s - 2)."""
    calibration = fit(BONAFIDE, SPOOF)
    places = np.linspace(1, 3, 9)
    np.testing.assert_allclose(calibration.log_likelihood_ratio(places), 2 * (places - 2), atol=0.45)
    ratios = [calibration.log_likelihood_ratio(scores) for scores in (BONAFIDE, SPOOF)]
    # Pooling adjacent violators learns these very trials by heart, and a line does not.
    assert metrics.cllr(*ratios) < metrics.min_cllr(BONAFIDE, SPOOF) + 0.02
    assert metrics.cllr(*ratios) < metrics.cllr(BONAFIDE, SPOOF)


@pytest.mark.parametrize("fit", [fit_logistic, fit_isotonic])
def test_rises_stays_finite_and_reads_back_to_the_bit(fit) -> None:
    for people, machines in (
        (BONAFIDE, SPOOF),
        ([1.0, 2.0], [-2.0, -1.0]),
        ([1.0, 1.0, 3.0], [0.0, 1.0]),
        ([2.0], [1.0]),
    ):
        calibration = fit(people, machines)
        places = np.linspace(-50, 50, 1001)
        ratios = calibration.log_likelihood_ratio(places)
        assert np.isfinite(ratios).all() and (np.diff(ratios) >= 0).all() and ratios[-1] > ratios[0]
        again = Calibration.from_json(calibration.to_json())
        assert again == calibration
        np.testing.assert_array_equal(again.log_likelihood_ratio(places), ratios)


def test_probability_is_bayes_rule() -> None:
    calibration = fit_logistic(BONAFIDE, SPOOF)
    ratio = np.exp(calibration.log_likelihood_ratio([1.7]))
    for prior in (0.001, 0.5, 0.9):
        expected = prior / (prior + (1 - prior) * ratio)
        np.testing.assert_allclose(calibration.spoof_probability([1.7], prior), expected, rtol=1e-12)
    far = calibration.spoof_probability([-1e6, 1e6], 0.5)
    assert far.tolist() == [1.0, 0.0], "without overflow"
    for prior in (0.0, 1.0, float("nan")):
        with pytest.raises(MetricError, match="must be between 0 and 1"):
            calibration.spoof_probability([0.0], prior)


def test_the_share_of_classes_does_not_matter() -> None:
    once, thrice = fit_logistic(BONAFIDE, SPOOF), fit_logistic(BONAFIDE, np.tile(SPOOF, 3))
    np.testing.assert_allclose(once.ratios, thrice.log_likelihood_ratio(once.scores), atol=0.02)


def test_refuses_to_learn() -> None:
    with pytest.raises(MetricError, match=r"all 3 scores are 1[.]0"):
        fit_logistic([1.0, 1.0], [1.0])
    with pytest.raises(MetricError, match=r"reversed"):
        fit_logistic(SPOOF, BONAFIDE)
    with pytest.raises(MetricError, match="no spoofed trials"):
        fit_isotonic(BONAFIDE, [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("nonsense", "not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "not a calibration"),
        ({"format": "x"}, "not a calibration"),
        ({"version": 2}, "version 2"),
        ({"kind": "cubic"}, "damaged"),
        ({"scores": [1.0]}, "damaged"),
        ({"scores": None}, "damaged"),
        ({"scores": [1.0, 10**400]}, "damaged"),
        ({"ratios": [1.0, float("nan")]}, "damaged"),
        ({"ratios": [2.0, 1.0]}, "does not rise"),
        ({"scores": [1.0, 1.0]}, "does not rise"),
    ],
)
def test_refuses_what_is_no_calibration(change: str | dict, message: str) -> None:
    text = (
        change if isinstance(change, str) else json.dumps(json.loads(fit_logistic(BONAFIDE, SPOOF).to_json()) | change)
    )
    with pytest.raises(MetricError, match=message):
        Calibration.from_json(text)


def test_calibrates_one_subset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = Path(__file__).parents[2] / "inputs" / "tables"
    asked = ["calibrate", inputs / "s_flac.txt", "--labels", inputs / "p21la.txt", "--match", "stem", "-o"]
    assert spectra(monkeypatch, *asked, tmp_path / "all.json") == 0
    printed = capsys.readouterr().err
    assert "pools the trials of 3 subsets" in printed and "10 bona fide and 30 spoofed trials" in printed
    assert spectra(monkeypatch, *asked, tmp_path / "one.json", "--subset", "progress") == 0
    printed = capsys.readouterr().err
    assert "pools" not in printed and "4 bona fide and 12 spoofed trials" in printed
    assert spectra(monkeypatch, "calibrate", inputs / "s_inv.txt", *asked[2:4], "-o", tmp_path / "inv.json") == 2
    assert "reversed" in capsys.readouterr().err and not (tmp_path / "inv.json").exists()


def test_says_what_is_not_a_calibration_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = Path(__file__).parents[3] / "examples" / "corpus" / "eval" / "june_00.flac"
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    (tmp_path / "new").mkdir()
    for name, message in (
        ("pipe.json", "not a plain file but a pipe"),
        ("deep.json", "nested too deeply"),
        ("new", "calibration.json: cannot be read: No such file"),
    ):
        assert spectra(monkeypatch, "score", "--model", "demo", clip, "--calibration", tmp_path / name) == 2
        assert message in capsys.readouterr().err
