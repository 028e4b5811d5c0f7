"""Comparison: numbers against plain ones, near ties told from bugs, verdicts and exit statuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from spectra_jax.data.labels import Labels
from spectra_jax.data.score_files import Scores
from spectra_jax.errors import InputError
from spectra_jax.evaluation import metrics
from spectra_jax.evaluation.compare import compare
from spectra_jax.evaluation.evaluate import six_decimals
from tests.conftest import spectra

N = 200
IDS = np.array([f"t{index}" for index in range(N)], object)


def systems(jumps: dict[int, float], gaps: dict[int, float] | None = None) -> tuple[Scores, Scores]:
    """Two systems that differ by rounding, and at some trials by more."""
    random = np.random.default_rng(0)
    one = random.normal(size=N)
    other = one + random.uniform(-1e-6, 1e-6, N)
    for place, jump in jumps.items():
        other[place] += jump
    columns = {}
    if gaps is not None:
        column = np.full(N, 1e-3)
        column[list(gaps)] = list(gaps.values())
        columns = {"smallest_rank_gap": column, "rank_gap_pool": np.full(N, "branch2.pool_t", object)}
    return Scores("one", IDS, one, columns), Scores("other", IDS[::-1], other[::-1])


def test_the_same_by_rounding() -> None:
    one, other = systems({})
    found = compare(one, other)
    numbers = found.numbers
    size = np.abs(one.scores - other.scores[::-1])
    assert found.agrees and "none differs by more than 0.0001" in found.verdict
    assert numbers["max_difference"] == size.max() and numbers["mean_difference"] == size.mean()
    assert numbers["quantiles"]["0.9"] == np.quantile(size, 0.9)
    assert numbers["spearman"] == pytest.approx(stats.spearmanr(one.scores, other.scores[::-1]).statistic, abs=1e-12)
    assert numbers["pearson"] == pytest.approx(stats.pearsonr(one.scores, other.scores[::-1]).statistic, abs=1e-12)


def test_a_near_tie_explains_and_a_bug_of_the_same_size_does_not() -> None:
    jumps = {3: 0.02, 50: -0.001, 120: 0.006}
    near = compare(*systems(jumps, dict.fromkeys(jumps, 1e-6)))
    assert near.agrees and near.numbers["n_explained"] == 3
    assert near.numbers["max_difference_without_near_ties"] < 1e-5
    # The same jumps, one of them where nothing nearly ties.
    bug = compare(*systems(jumps, {3: 1e-6, 50: 1e-6}))
    assert not bug.agrees and list(IDS[bug.unexplained]) == ["t120"] and list(IDS[bug.explained]) == ["t3", "t50"]
    worst = bug.numbers["worst"][0]
    assert (worst["utterance_id"], worst["unexplained"]) == ("t120", True), "before larger ones that are explained"
    assert bug.numbers["worst"][1]["rank_gap_pool"] == "branch2.pool_t"
    unknown = compare(*systems(jumps))
    assert not unknown.agrees and "--diagnostics" in unknown.verdict
    assert compare(*systems(jumps), tolerance=0.03).agrees


def test_the_smaller_gap_of_both_counts() -> None:
    one, other = systems({7: 0.01}, {})
    gaps = np.full(N, np.nan)
    gaps[N - 1 - 7] = 1e-6
    other = Scores("other", other.utterance_ids, other.scores, {"smallest_rank_gap": gaps})
    assert compare(one, other).agrees
    assert not compare(one, other, gap_bound=1e-7).agrees


def test_eers_flips_and_paired_intervals() -> None:
    random = np.random.default_rng(1)
    bonafide = np.arange(N) < 80
    base = random.normal(size=N) + 1.5 * bonafide
    one, other = Scores("one", IDS, base), Scores("other", IDS, base + random.normal(scale=0.3, size=N))
    numbers = compare(one, other, Labels("l", IDS, bonafide), resamples=300).numbers
    equal = [metrics.eer(s[bonafide], s[~bonafide]) for s in map(six_decimals, (one.scores, other.scores))]
    assert numbers["eer_percent"] == [100 * equal[0].rate, 100 * equal[1].rate]
    at = equal[0].threshold
    assert numbers["n_flips"] == np.sum((one.scores >= at) != (other.scores >= at)) > 0
    low, high = numbers["eer_difference_percent_interval"]
    assert low <= numbers["eer_difference_percent"] <= high
    # What both have in common cancels, since they are drawn together.
    (low_a, high_a), _ = numbers["eer_percent_interval"]
    assert high - low < high_a - low_a


def test_clusters_are_drawn_whole() -> None:
    random = np.random.default_rng(2)
    speaker = np.arange(N) % 20
    bonafide = np.arange(N) < 100
    one = Scores("one", IDS, random.normal(size=N) + bonafide)
    # The second system is better for half of the speakers, and worse for the others.
    other = Scores("other", IDS, one.scores + np.where(bonafide, 1, -1) * np.where(speaker < 10, 1.5, -1.5))
    labels = Labels("l", IDS, bonafide, {"speaker": np.array([f"s{name}" for name in speaker], object)})
    by_trial = compare(one, other, labels, resamples=300).numbers["eer_difference_percent_interval"]
    by_speaker = compare(one, other, labels, cluster="speaker", resamples=300).numbers
    low, high = by_speaker["eer_difference_percent_interval"]
    assert high - low > 1.2 * (by_trial[1] - by_trial[0]) and by_speaker["cluster"] == "speaker"
    with pytest.raises(InputError, match="no column 'sex' in l: speaker"):
        compare(one, other, labels, cluster="sex")
    with pytest.raises(InputError, match="need labels"):
        compare(one, other, cluster="speaker")


def test_ids_that_do_not_match_and_impossible_bounds() -> None:
    one, other = systems({})
    fewer = Scores("fewer", other.utterance_ids[:-2], other.scores[:-2], skipped={"t0": "cut.flac: cut"})
    with pytest.raises(InputError, match=r"2 trials of one not in fewer:\n  t0 \(skipped there: cut.flac: cut\)\n  t1"):
        compare(one, fewer)
    assert compare(one, fewer, common=True).numbers["n_only_a"] == 2
    with pytest.raises(InputError, match="no trial in common"):
        compare(one, Scores("x", np.array(["x"], object), np.ones(1)), common=True)
    with pytest.raises(InputError, match="a tolerance of nan"):
        compare(one, other, tolerance=float("nan"))
    with pytest.raises(InputError, match="200 trials without a label"):
        compare(one, other, Labels("l", np.array(["x"], object), np.array([True])))


def test_a_single_trial_and_constant_scores() -> None:
    one = Scores("one", IDS[:1], np.ones(1))
    assert compare(one, one).numbers["pearson"] is None
    flat = Scores("flat", IDS[:3], np.ones(3))
    found = compare(flat, flat)
    assert found.agrees and found.numbers["worst"] == [] and found.numbers["spearman"] is None


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, jumps in (("a", {}), ("b", {}), ("c", {5: 0.01})):
        _, scores = systems(jumps)
        lines = (f"{i} {s:.6f}\n" for i, s in zip(scores.utterance_ids, scores.scores, strict=True))
        (tmp_path / f"{name}.txt").write_text("".join(lines))
    assert spectra(monkeypatch, "compare", tmp_path / "a.txt", tmp_path / "b.txt") == 0
    assert "The same: 200 trials" in capsys.readouterr().out
    assert spectra(monkeypatch, "compare", tmp_path / "a.txt", tmp_path / "c.txt") == 1
    shown = capsys.readouterr().out
    assert "Different: 1 of 200 trials" in shown and "t5" in shown
    assert spectra(monkeypatch, "compare", tmp_path / "a.txt", tmp_path / "c.txt", "--json") == 1
    assert json.loads(capsys.readouterr().out)["n_unexplained"] == 1
    assert spectra(monkeypatch, "compare", tmp_path / "a.txt", tmp_path / "d.txt") == 2


def test_a_column_of_rank_gaps_may_be_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    header = "utterance_id,score,smallest_rank_gap,rank_gap_pool\n"
    (tmp_path / "with.csv").write_text(header + "t0,1.5,1e-6,branch1.pool_t\nt1,-0.5,0.1,branch1.pool_t\n")
    (tmp_path / "without.csv").write_text(header + "t0,1.6,,\nt1,-0.5,,\n")
    assert spectra(monkeypatch, "compare", tmp_path / "with.csv", tmp_path / "without.csv") == 0
    assert "The same but for near ties" in " ".join(capsys.readouterr().out.split())
    assert spectra(monkeypatch, "compare", tmp_path / "without.csv", tmp_path / "without.csv") == 0
    (tmp_path / "wrong.csv").write_text(header + "t0,1.6,,\nt1,-0.5,small,\n")
    assert spectra(monkeypatch, "compare", tmp_path / "with.csv", tmp_path / "wrong.csv") == 2
    assert "wrong.csv: its rank gaps are not numbers" in capsys.readouterr().err


def test_hints_of_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = Path(__file__).parents[1] / "inputs" / "tables"
    key = ["--labels", inputs / "p21la.txt", "--resamples", 0]
    assert spectra(monkeypatch, "compare", inputs / "s.txt", inputs / "s_flac.txt") == 2
    assert "differ by the extension .flac only. --match stem" in capsys.readouterr().err
    asked = ["compare", inputs / "s.txt", inputs / "s_flac.txt", *key, "--match", "stem"]
    assert spectra(monkeypatch, *asked, "--json") == 0
    printed = capsys.readouterr()
    assert "pools the trials of 3 subsets" in printed.err and json.loads(printed.out)["n"] == 40
    assert spectra(monkeypatch, *asked, "--subset", "eval", "--json") == 0
    printed = capsys.readouterr()
    assert printed.err == "" and json.loads(printed.out)["n"] == 12
    assert spectra(monkeypatch, "compare", inputs / "s.txt", inputs / "s_inv.txt") == 1
    assert "rank the trials in opposite orders: are the scores of one inverted?" in capsys.readouterr().err
    assert spectra(monkeypatch, "compare", inputs / "s.txt", inputs / "s_inv.txt", *key) == 1
    assert "s_inv.txt: an EER of 96.667 %" in capsys.readouterr().err
