"""Comparison: statistics against plain ones, near ties versus bugs, verdicts, and exit statuses of the command."""

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
    for index, jump in jumps.items():
        other[index] += jump
    columns = {}
    if gaps is not None:
        column = np.full(N, 1e-3)
        # So many near ties that three jumps are not too many.
        column[150:] = 1e-5
        column[list(gaps)] = list(gaps.values())
        columns = {"smallest_rank_gap": column, "rank_gap_pool": np.full(N, "branch2.pool_t", object)}
    return Scores("one", IDS, one, columns), Scores("other", IDS[::-1], other[::-1])


def test_the_same_by_rounding() -> None:
    one, other = systems({})
    found = compare(one, other)
    size = np.abs(one.scores - other.scores[::-1])
    assert found.agrees and "none differs by more than 0.0001" in found.verdict
    assert found.max_difference == size.max() and found.mean_difference == size.mean()
    assert found.quantiles["0.9"] == np.quantile(size, 0.9)
    assert found.spearman == pytest.approx(stats.spearmanr(one.scores, other.scores[::-1]).statistic, abs=1e-12)
    assert found.pearson == pytest.approx(stats.pearsonr(one.scores, other.scores[::-1]).statistic, abs=1e-12)


def test_a_near_tie_explains_and_a_bug_of_the_same_size_does_not() -> None:
    jumps = {3: 0.02, 50: -0.001, 120: 0.006}
    near = compare(*systems(jumps, dict.fromkeys(jumps, 1e-6)))
    assert near.agrees and near.n_explained == 3
    assert near.max_difference_without_near_ties is not None and near.max_difference_without_near_ties < 1e-5
    # The same jumps, one of them where nothing nearly ties.
    bug = compare(*systems(jumps, {3: 1e-6, 50: 1e-6}))
    assert not bug.agrees and list(IDS[bug.unexplained]) == ["t120"] and list(IDS[bug.explained]) == ["t3", "t50"]
    assert "1 of 200 trials" in bug.verdict and "near ties explain 2 more" in bug.verdict
    worst = bug.worst[0]
    assert (worst.utterance_id, worst.unexplained) == ("t120", True), "before larger ones that are explained"
    assert bug.worst[1].rank_gap_pool == "branch2.pool_t"
    unknown = compare(*systems(jumps))
    assert not unknown.agrees and "--diagnostics" in unknown.verdict
    assert compare(*systems(jumps), tolerance=0.03).agrees


def test_a_bias_at_near_ties_is_a_difference() -> None:
    jumps = dict.fromkeys(range(80), 0.05)
    found = compare(*systems(jumps, dict.fromkeys(jumps, 1e-6)))
    assert not found.agrees and found.n_unexplained == 80 and found.n_explained == 0
    assert "80 of 130 trials with a near tie differ, and rounding changes 1 in 80" in found.verdict
    assert "80 of 80 differences have the same sign" in found.verdict
    # A jump beside a bias within the tolerance.
    small = dict.fromkeys(range(80), 5e-5) | {0: 0.05}
    found = compare(*systems(small, dict.fromkeys(small, 1e-6)))
    assert not found.agrees and found.n_unexplained == 1 and "are shifted by -3" in found.verdict


def test_the_bound_is_measured_where_both_files_have_rank_gaps() -> None:
    one, other = systems({3: 0.02, 4: 0.02}, {3: 5e-7, 4: 1.5e-5})
    stated = compare(one, other)
    assert stated.agrees and stated.gap_bound == 2e-5 and stated.num_gap_bound_trials is None
    assert any("2e-05, is that of a tiny network" in note for note in stated.near_tie_notes)
    moved = one.columns["smallest_rank_gap"][::-1] + np.linspace(-1e-6, 1e-6, N)
    moved[[N - 1 - 3, N - 1 - 4]] = 1.0
    other = Scores("other", other.utterance_ids, other.scores, {"smallest_rank_gap": moved})
    found = compare(one, other)
    assert found.gap_bound == pytest.approx(4e-6) and found.num_gap_bound_trials == N - 2, "without those that differ"
    assert list(IDS[found.explained]) == ["t3"] and list(IDS[found.unexplained]) == ["t4"]
    assert compare(one, other, gap_bound=2e-5).agrees, "a bound that is given is taken"


def test_a_gap_that_changes_by_more_than_rounding_sets_no_bound() -> None:
    """Otherwise every trial would have a near tie, and a few wrong scores would be explained."""
    one, other = systems({3: 0.02}, {})
    moved = one.columns["smallest_rank_gap"][::-1].copy()
    moved[7] += 1.0
    found = compare(one, Scores("other", other.utterance_ids, other.scores, {"smallest_rank_gap": moved}))
    assert not found.agrees and found.gap_bound == 2e-5 and found.num_gap_bound_trials is None


def test_a_score_that_no_swap_gives_is_unexplained() -> None:
    one, other = systems({3: 0.02, 50: 0.005}, {3: 1e-6, 50: 1e-6})
    swapped = {f"t{index}": [float(one.scores[index]), float(one.scores[index]) + 0.02] for index in (3, 50)}
    found = compare(one, other, swapped_scores=swapped)
    assert list(IDS[found.explained]) == ["t3"] and list(IDS[found.unexplained]) == ["t50"]
    assert "B's score is not A's with the tied nodes swapped" in found.verdict
    assert found.near_tie_tests is not None and found.near_tie_tests.num_wrong_size == 1
    assert "Not tested" in compare(one, other).near_tie_notes[0] and "Not tested" not in found.near_tie_notes[0]


def test_the_smaller_gap_of_both_counts() -> None:
    one, other = systems({7: 0.01}, {})
    gaps = np.full(N, np.nan)
    gaps[N - 1 - 7] = 1e-6
    other = Scores("other", other.utterance_ids, other.scores, {"smallest_rank_gap": gaps})
    assert compare(one, other).agrees
    assert not compare(one, other, gap_bound=1e-7).agrees
    with pytest.raises(InputError, match="a gap bound of -1"):
        compare(one, other, gap_bound=-1)


def test_the_pool_is_that_of_the_smaller_gap() -> None:
    ids = IDS[:2]
    one, two = (
        Scores(name, ids, scores, {"smallest_rank_gap": np.array(gaps), "rank_gap_pool": np.array(pools, object)})
        for name, scores, gaps, pools in (
            ("a", np.zeros(2), [1e-3, 1e-6], ["a0", "a1"]),
            ("b", np.ones(2), [1e-5, np.nan], ["b0", "b1"]),
        )
    )
    pool_of = {trial.utterance_id: trial.rank_gap_pool for trial in compare(one, two).worst}
    assert pool_of == {"t0": "b0", "t1": "a1"}


def test_eers_flips_and_paired_intervals() -> None:
    random = np.random.default_rng(1)
    bonafide = np.arange(N) < 80
    base = random.normal(size=N) + 1.5 * bonafide
    one, other = Scores("one", IDS, base), Scores("other", IDS, base + random.normal(scale=0.3, size=N))
    rates = compare(one, other, Labels("l", IDS, bonafide), resamples=300).error_rates
    assert rates is not None and rates.intervals is not None
    equal = [metrics.eer(s[bonafide], s[~bonafide]) for s in map(six_decimals, (one.scores, other.scores))]
    assert rates.eer_percent == (100 * equal[0].rate, 100 * equal[1].rate)
    at = equal[0].threshold
    assert rates.flips == list(IDS[(one.scores >= at) != (other.scores >= at)]) != []
    difference, own = rates.intervals.difference, rates.intervals.eer_a
    assert difference.low <= rates.eer_difference_percent <= difference.high
    # What both have in common cancels, since they are resampled together.
    assert difference.high - difference.low < own.high - own.low


def test_json_states_what_the_attributes_do() -> None:
    one, other = systems({3: 0.02, 50: 0.5}, {3: 1e-6})
    found = compare(one, other, Labels("l", IDS, np.arange(N) < 80), resamples=20, seed=4)
    values = json.loads(json.dumps(found.to_dict()))
    assert (values["a"], values["b"], values["n"]) == ("one", "other", N)
    assert values["max_difference"] == found.max_difference and values["verdict"] == found.verdict
    assert values["n_unexplained"] == 1 and values["n_explained"] == 1 and values["agrees"] is False
    assert values["worst"][0]["utterance_id"] == "t50" and values["worst"][0]["unexplained"] is True
    rates = found.error_rates
    assert rates is not None and rates.intervals is not None and values["eer_percent"] == list(rates.eer_percent)
    assert values["eer_percent_interval"][1] == [rates.intervals.eer_b.low, rates.intervals.eer_b.high]
    assert (values["resamples"], values["seed"], values["cluster"]) == (20, 4, None)
    assert "eer_percent" not in compare(one, other).to_dict(), "without labels"


def test_numbers_still_work_with_a_warning() -> None:
    found = compare(*systems({}))
    with pytest.warns(DeprecationWarning, match=r"Comparison.numbers is deprecated .* Comparison.max_difference"):
        numbers = found.numbers
    assert numbers == found.to_dict()


def test_clusters_are_resampled_as_a_unit() -> None:
    random = np.random.default_rng(2)
    speaker = np.arange(N) % 20
    bonafide = np.arange(N) < 100
    one = Scores("one", IDS, random.normal(size=N) + bonafide)
    # The second system is better for half of the speakers, and worse for the others.
    other = Scores("other", IDS, one.scores + np.where(bonafide, 1, -1) * np.where(speaker < 10, 1.5, -1.5))
    labels = Labels("l", IDS, bonafide, {"speaker": np.array([f"s{name}" for name in speaker], object)})
    widths = []
    for cluster in (None, "speaker"):
        rates = compare(one, other, labels, cluster=cluster, resamples=300).error_rates
        assert rates is not None and rates.intervals is not None and rates.intervals.resampling.cluster == cluster
        widths.append(rates.intervals.difference.high - rates.intervals.difference.low)
    assert widths[1] > 1.2 * widths[0]
    with pytest.raises(InputError, match="no column 'sex' in l; its columns are speaker"):
        compare(one, other, labels, cluster="sex")
    with pytest.raises(InputError, match="needs labels"):
        compare(one, other, cluster="speaker")


def test_ids_that_do_not_match_and_impossible_bounds() -> None:
    one, other = systems({})
    fewer = Scores("fewer", other.utterance_ids[:-2], other.scores[:-2], skipped={"t0": "cut.flac: cut"})
    with pytest.raises(
        InputError, match=r"2 trials of one not in fewer:\n  t0 \(skipped in fewer: cut.flac: cut\)\n  t1"
    ):
        compare(one, fewer)
    assert compare(one, fewer, common=True).n_only_a == 2
    with pytest.raises(InputError, match="no trial in common"):
        compare(one, Scores("x", np.array(["x"], object), np.ones(1)), common=True)
    with pytest.raises(InputError, match="a tolerance of nan"):
        compare(one, other, tolerance=float("nan"))
    with pytest.raises(InputError, match="200 trials without a label"):
        compare(one, other, Labels("l", np.array(["x"], object), np.array([True])))


def test_a_single_trial_and_constant_scores() -> None:
    one = Scores("one", IDS[:1], np.ones(1))
    assert compare(one, one).pearson is None
    flat = Scores("flat", IDS[:3], np.ones(3))
    found = compare(flat, flat)
    assert found.agrees and found.worst == [] and found.spearman is None


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


def test_the_command_refuses_a_bias_at_near_ties(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    header = "utterance_id,score,smallest_rank_gap\n"
    for name, bias in (("a", 0.0), ("one", 0.05), ("all", 0.05)):
        biased = 1 if name == "one" else 10
        rows = (f"t{i},{i + bias * (i < biased)},{1e-6 if i < 10 else 1e-3}\n" for i in range(30))
        (tmp_path / f"{name}.csv").write_text(header + "".join(rows))
    asked = ["compare", tmp_path / "a.csv"]
    # The gaps of both files are the same, so that a bound is given.
    assert spectra(monkeypatch, *asked, tmp_path / "one.csv", "--gap-bound", 2e-5) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 of 10 where rounding changes 1 in 80 (p = 0.12)" in shown and "1 differs by more" in shown
    assert spectra(monkeypatch, *asked, tmp_path / "all.csv", "--gap-bound", 2e-5) == 1
    assert "10 of 10 trials with a near tie differ" in " ".join(capsys.readouterr().out.split())
    assert spectra(monkeypatch, *asked, tmp_path / "all.csv", "--gap-bound", 2e-5, "--json") == 1
    tests = json.loads(capsys.readouterr().out)["near_tie_tests"]
    assert (tests["num_jumps"], tests["num_near_ties"], len(tests["refusals"])) == (10, 10, 1)


def test_a_column_of_rank_gaps_may_be_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
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
