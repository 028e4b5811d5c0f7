"""Evaluation: matching with labels, groups, JSON, and the command; the metrics have tests of their own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from spectra_jax.data.labels import Labels
from spectra_jax.data.score_files import Scores
from spectra_jax.errors import InputError
from spectra_jax.evaluation import metrics
from spectra_jax.evaluation.evaluate import ThresholdRates, evaluate, six_decimals
from tests.conftest import spectra


def system(seed: int, n_bonafide: int = 60, n_spoof: int = 90) -> tuple[Scores, Labels]:
    """A system that is right more often than not, and its labels in another order."""
    random = np.random.default_rng(seed)
    bonafide = np.arange(n_bonafide + n_spoof) < n_bonafide
    values = random.normal(np.where(bonafide, 1.0, -1.0), 1.0)
    ids = np.array([f"trial_{index:04d}" for index in range(len(values))], object)
    order = random.permutation(len(values))
    attack = np.where(bonafide, "-", np.array(["A01", "A02", "A03"])[np.arange(len(values)) % 3]).astype(object)
    speaker = np.array([f"s{index % 12}" for index in range(len(values))], object)
    labels = Labels("labels", ids[order], bonafide[order], {"attack": attack[order], "speaker": speaker[order]})
    return Scores("scores", ids, values), labels


def test_figures_are_the_metrics_of_the_joined_trials() -> None:
    scores, labels = system(0)
    found = evaluate(scores, labels, exact=True, resamples=50)
    classes = scores.scores[:60], scores.scores[60:]
    assert found.eer_percent == 100 * metrics.eer(*classes).rate and found.threshold == metrics.eer(*classes).threshold
    assert found.rocch_eer_percent == 100 * metrics.rocch_eer(*classes).rate
    for name in ("auc", "min_dcf", "act_dcf", "cllr", "min_cllr"):
        assert getattr(found, name) == getattr(metrics, name)(*classes), name
    assert (found.n_bonafide, found.n_spoof) == (60, 90)
    interval = found.intervals["eer_percent"]
    assert interval.low < found.eer_percent < interval.high and interval.high - interval.low > 1, "in percent"
    assert found.to_dict() == evaluate(scores, labels, exact=True, resamples=50).to_dict(), "seeded"


def test_json_states_what_the_attributes_do() -> None:
    scores, labels = system(0)
    found = evaluate(scores, labels, by=["attack"], cluster="speaker", thresholds=[0.5], resamples=20, seed=3)
    values = json.loads(json.dumps(found.to_dict()))
    assert values["eer_percent"] == found.eer_percent and values["scores"] == found.name == "scores"
    interval = found.intervals["min_cllr"]
    assert values["min_cllr_interval"] == [interval.low, interval.high]
    assert (values["resamples"], values["seed"], values["cluster"]) == (20, 3, "speaker")
    group = found.groups["attack"]["A01"]
    assert values["groups"]["attack"]["A01"]["eer_percent"] == group.eer_percent and group.interval is not None
    assert values["groups"]["attack"]["A01"]["eer_percent_interval"] == [group.interval.low, group.interval.high]
    without = evaluate(scores, labels, resamples=0).to_dict()
    assert not {name for name in without if name.endswith("_interval")} and "groups" not in without


def test_numbers_still_work_with_a_warning() -> None:
    found = evaluate(*system(0), resamples=0)
    with pytest.warns(DeprecationWarning, match=r"Evaluation.numbers is deprecated .* Evaluation.eer_percent"):
        numbers = found.numbers
    assert numbers == found.to_dict()


def test_six_decimals_are_those_of_the_file() -> None:
    values = np.array([0.1234565, -2.0000005, 1e-7, 12345.6789015])
    assert six_decimals(values).tolist() == [float(f"{value:.6f}") for value in values]
    # Six decimals make two of these scores equal.
    ids = np.array(["a", "b", "c", "d"], object)
    scores = Scores("s", ids, np.array([0.5, 0.0000004, 0.0000001, -1.0]))
    labels = Labels("l", ids, np.array([True, False, True, False]))
    assert evaluate(scores, labels, resamples=0).auc == 0.875
    assert evaluate(scores, labels, resamples=0, exact=True).auc == 0.75


def test_groups() -> None:
    scores, labels = system(1)
    groups = evaluate(scores, labels, exact=True, by=["attack", "speaker"], resamples=20).groups
    assert list(groups["attack"]) == ["A01", "A02", "A03"], "not the dash of bona fide trials"
    bonafide, spoof = scores.scores[:60], scores.scores[60:]
    group = groups["attack"]["A02"]
    assert group.eer_percent == 100 * metrics.eer(bonafide, spoof[(np.arange(60, 150) % 3) == 1]).rate
    assert (group.n_bonafide, group.n_spoof, group.against) == (0, 30, "all bona fide")
    assert groups["speaker"]["s3"].against == "its own"
    members = np.arange(150) % 12 == 3
    threshold = metrics.eer(bonafide, spoof).threshold
    wrong = (scores.scores >= threshold) != (np.arange(150) < 60)
    assert groups["speaker"]["s3"].error_rate_at_threshold == wrong[members].mean()


def test_a_group_of_bona_fide_trials_is_evaluated_with_all_spoofed_ones() -> None:
    scores, labels = system(1)
    codec = np.where(labels.bonafide, "clean", "opus").astype(object)
    labels = Labels(labels.name, labels.utterance_ids, labels.bonafide, {"codec": codec})
    groups = evaluate(scores, labels, by=["codec"], resamples=0).groups["codec"]
    assert (groups["clean"].against, groups["opus"].against) == ("all spoof", "all bona fide")
    assert groups["clean"].eer_percent == groups["opus"].eer_percent == evaluate(scores, labels).eer_percent


def test_the_convention_of_asvspoof() -> None:
    scores, labels = system(0)
    bonafide, spoof = scores.scores[:60], scores.scores[60:]
    found = evaluate(scores, labels, convention="asvspoof", by=["attack"], resamples=20)
    expected = metrics.asvspoof_eer(bonafide, spoof)
    assert (found.eer_percent, found.threshold) == (100 * expected.rate, expected.threshold) and found.exact
    arena = evaluate(scores, labels, exact=True, resamples=20)
    assert arena.decision_threshold == arena.threshold and found.decision_threshold > found.threshold
    assert found.eer_percent != arena.eer_percent and found.min_dcf == arena.min_dcf
    assert set(found.intervals) == set(arena.intervals)
    group = found.groups["attack"]["A01"]
    members = spoof[np.arange(60, 150) % 3 == 0]
    assert group.eer_percent == 100 * metrics.asvspoof_eer(bonafide, members).rate
    assert group.error_rate_at_threshold == np.mean(members > expected.threshold), "at the threshold: rejected"
    assert found.to_dict()["convention"] == "asvspoof"


def test_a_table_of_two_columns() -> None:
    scores, labels = system(1)
    row = {name: index for index, name in enumerate(scores.utterance_ids)}
    of_trial = np.array([row[name] for name in labels.utterance_ids])
    codec = np.array(["none", "alaw"], object)[of_trial // 3 % 2]
    attack = np.where(labels.bonafide, "bonafide", labels.columns["attack"]).astype(object)
    labels = Labels(labels.name, labels.utterance_ids, labels.bonafide, {"attack": attack, "codec": codec})
    found = evaluate(scores, labels, exact=True, by=["attack,codec", "codec"], resamples=0)
    table = found.cross_tables["attack,codec"]
    assert list(table.rows) == ["A01", "A02", "A03"] and list(table.columns) == ["alaw", "none"]
    index = np.arange(150)
    alaw = index // 3 % 2 == 1
    bonafide, spoof = scores.scores[alaw & (index < 60)], scores.scores[alaw & (index >= 60) & (index % 3 == 1)]
    cell = table.cells["alaw"]["A02"]
    assert cell.eer_percent == 100 * metrics.eer(bonafide, spoof).rate and cell.n_spoof == len(spoof)
    assert table.columns == found.groups["codec"]
    assert table.rows["A02"] == evaluate(scores, labels, exact=True, by=["attack"], resamples=0).groups["attack"]["A02"]
    assert found.to_dict()["cross_tables"]["attack,codec"]["alaw"]["A02"]["eer_percent"] == cell.eer_percent
    with pytest.raises(InputError, match="'a,b,c': a table has two columns"):
        evaluate(scores, labels, by=["a,b,c"])


def test_thresholds_and_clusters() -> None:
    scores, labels = system(2)
    by_trial = evaluate(scores, labels, thresholds=[0.0], resamples=200)
    by_speaker = evaluate(scores, labels, cluster="speaker", resamples=200)
    values = six_decimals(scores.scores)
    expected = ThresholdRates(0.0, (values[60:] >= 0).mean(), (values[:60] < 0).mean())
    assert by_trial.thresholds == [expected]
    assert by_speaker.eer_percent == by_trial.eer_percent
    assert by_speaker.intervals["eer_percent"] != by_trial.intervals["eer_percent"]


def test_ids_that_do_not_match() -> None:
    scores, labels = system(3)
    fewer = Labels("fewer", labels.utterance_ids[:-7], labels.bonafide[:-7])
    with pytest.raises(
        InputError, match=r"7 trials of scores without a label in fewer:\n(  trial_\d{4}\n){5}  [.]{3} and 2 more"
    ):
        evaluate(scores, fewer)
    short = Scores("short", scores.utterance_ids[1:], scores.scores[1:])
    with pytest.raises(InputError, match=r"1 trial of labels without a score in short:\n  trial_0000"):
        evaluate(short, labels)
    assert evaluate(short, labels, common=True, resamples=0).n_bonafide == 59
    skipped = Scores("short", scores.utterance_ids[1:], scores.scores[1:], skipped={"trial_0000": "NaN"})
    assert evaluate(skipped, labels, resamples=0).n_skipped == 1, "a skipped trial is not missing"
    with pytest.raises(InputError, match="no trial in common: 'x' in one, 'trial_"):
        evaluate(Scores("x", np.array(["x"], object), np.ones(1)), labels, common=True)
    with pytest.raises(InputError, match="no column 'sex' in scores or labels; the columns are attack, speaker"):
        evaluate(scores, labels, by=["sex"])
    one = Labels("one class", labels.utterance_ids, np.ones(150, bool))
    with pytest.raises(ValueError, match="one class: 150 trials, all bona fide; error rates need spoofed trials too"):
        evaluate(scores, one)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    scores, labels = system(4)
    lines = (f"{i} {s:.6f}\n" for i, s in zip(scores.utterance_ids, scores.scores, strict=True))
    (tmp_path / "scores.txt").write_text("".join(lines))
    rows = zip(labels.utterance_ids, labels.bonafide, labels.columns["attack"], strict=True)
    text = "".join(f"{i},{'bonafide' if b else 'spoof'},{a}\n" for i, b, a in rows)
    (tmp_path / "labels.csv").write_text("utterance_id,label,attack\n" + text)
    return tmp_path


def test_the_command(files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["evaluate", files / "scores.txt", "--labels", files / "labels.csv", "--by", "attack", "--resamples", 50]
    assert spectra(monkeypatch, *asked) == 0
    shown = capsys.readouterr().out
    assert "60 bona fide and 90 spoofed trials" in shown and "A02" in shown
    assert spectra(monkeypatch, *asked, "--json") == 0
    numbers = json.loads(capsys.readouterr().out)
    assert {"eer_percent", "threshold", "n_bonafide", "n_spoof", "auc"} <= set(numbers)
    assert len(numbers["eer_percent_interval"]) == 2
    assert spectra(monkeypatch, "evaluate", files / "scores.txt") == 2
    assert "no labels in it; give a file that has them with --labels" in capsys.readouterr().err


def test_calibrates_and_applies(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = files / "calibration.json"
    asked = ["calibrate", files / "scores.txt", "--labels", files / "labels.csv", "--output", files]
    assert spectra(monkeypatch, *asked) == 0
    assert target.is_file() and "Cllr on them" in capsys.readouterr().err
    clip = Path(__file__).parents[2] / "examples" / "corpus" / "eval" / "june_00.flac"
    asked = ["score", "--model", "demo", clip, "--calibration", files, "--spoof-prior", "0.9"]
    assert spectra(monkeypatch, *asked, "--output", files / "one.jsonl") == 0
    row = json.loads((files / "one.jsonl").read_text())
    calibration = metrics.Calibration.from_json(target.read_text())
    assert row["log_likelihood_ratio"] == calibration.log_likelihood_ratio(np.array([row["score"]]))[0]
    odds = 0.9 / 0.1 * np.exp(-row["log_likelihood_ratio"])
    assert row["spoof_probability"] == pytest.approx(odds / (1 + odds), abs=1e-12)
    target.write_text("{}")
    assert spectra(monkeypatch, *asked) == 2
    assert "calibration.json" in capsys.readouterr().err


INPUTS = Path(__file__).parents[1] / "inputs" / "tables"
KEY = ["--labels", INPUTS / "p21la.txt", "--resamples", 0]


def test_hints_of_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert spectra(monkeypatch, "evaluate", INPUTS / "s.txt", *KEY) == 0
    pools = "p21la.txt: pools the trials of 3 subsets, eval (12), hidden_track (12), progress (16); --subset NAME takes"
    printed = capsys.readouterr()
    assert pools in printed.err and "inverted" not in printed.err and "3.333 %" in printed.out
    assert spectra(monkeypatch, "evaluate", INPUTS / "s.txt", *KEY, "--subset", "progress", "--json") == 0
    printed = capsys.readouterr()
    numbers = json.loads(printed.out)
    assert printed.err == "" and numbers["n_bonafide"] + numbers["n_spoof"] == 16
    assert numbers["subsets"] == {"progress": 16}
    assert spectra(monkeypatch, "evaluate", INPUTS / "s_inv.txt", *KEY) == 0
    printed = capsys.readouterr()
    assert "s_inv.txt: an EER of 96.667 %, above 50 %: these scores look inverted" in printed.err
    assert spectra(monkeypatch, "evaluate", INPUTS / "s_flac.txt", *KEY) == 2
    hint = "40 trials would match: their ids differ by the extension .flac only. --match stem compares ids without"
    assert hint in capsys.readouterr().err
    assert spectra(monkeypatch, "evaluate", INPUTS / "s_flac.txt", *KEY, "--common") == 2
    assert hint in capsys.readouterr().err
    assert spectra(monkeypatch, "evaluate", INPUTS / "s_flac.txt", *KEY, "--match", "stem", "--json") == 0
    assert json.loads(capsys.readouterr().out)["eer_percent"] == pytest.approx(3.333, abs=1e-3)


def test_a_score_files_own_subsets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"t{i},{i},{'real' if i % 2 else 'fake'},{'eval' if i < 6 else 'dev'}\n" for i in range(10))
    (tmp_path / "s.csv").write_text("utt_id,score,class,subset\n" + rows)
    assert spectra(monkeypatch, "evaluate", tmp_path / "s.csv", "--subset", "eval", "--json", "--resamples", 0) == 0
    numbers = json.loads(capsys.readouterr().out)
    assert (numbers["n_bonafide"], numbers["n_spoof"]) == (3, 3)


def test_ids_that_differ_by_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (INPUTS / "s.txt").read_text().splitlines()
    (tmp_path / "s.txt").write_text("".join(f"flac/D/{line.replace(' ', '.wav ')}\n" for line in lines))
    assert spectra(monkeypatch, "evaluate", tmp_path / "s.txt", *KEY) == 2
    assert "their ids differ by the folder and the extension .wav only" in capsys.readouterr().err
    assert spectra(monkeypatch, "evaluate", tmp_path / "s.txt", *KEY, "--match", "stem") == 0
    # Ids that differ by more get no such hint.
    (tmp_path / "s.txt").write_text("".join(f"x{line}\n" for line in lines))
    assert spectra(monkeypatch, "evaluate", tmp_path / "s.txt", *KEY) == 2
    assert "--match" not in capsys.readouterr().err


def test_json_of_figures_that_are_not_finite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Their Cllr overflows, and an id has a control character, which JSON permits.
    (tmp_path / "s.csv").write_text("id,score,label,x\na\x9b2J,-1e308,real,n\x9b2J\nb,1e308,fake,m\n")
    asked = ["evaluate", tmp_path / "s.csv", "--by", "x", "--json", "--exact", "--resamples", 0]
    assert spectra(monkeypatch, *asked) == 0
    printed = capsys.readouterr().out
    numbers = json.loads(printed, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert numbers["eer_percent"] == 100 and numbers["rocch_threshold"] is None
    assert "n\x9b2J" in numbers["groups"]["x"] and "\x9b" not in printed
