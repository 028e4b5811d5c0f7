"""The report's content: its numbers are the evaluation's, what is outside stays text, and it stays small."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

from spectra_jax.data.labels import Labels, read_labels
from spectra_jax.data.score_files import read_scores
from spectra_jax.errors import InputError
from spectra_jax.evaluation import metrics
from spectra_jax.evaluation.evaluate import evaluate
from spectra_jax.reporting import clips, curves, page
from spectra_jax.reporting.page import write_report
from spectra_jax.reporting.papers import plot_det, plot_roc
from spectra_jax.reporting.systems import read_systems
from tests.conftest import spectra

pytest.importorskip("vl_convert", reason="needs the extra `report`")
pytest.importorskip("jinja2", reason="needs the extra `report`")
pytest.importorskip("matplotlib", reason="needs the extra `report`")

N = 400
HOSTILE = "</script><script>alert(1)</script>"


class Page(HTMLParser):
    """The tables, the elements and the texts of a page."""

    def __init__(self, html: str):
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.scripts: list[str] = []
        self.text = ""
        self._open = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "h2":
            self.headings.append("")
        elif tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in ("td", "th"):
            self.tables[-1][-1][-1] += data
        elif self._open == "h2":
            self.headings[-1] += data
        elif self._open == "script":
            self.scripts[-1] += data
        if self._open not in ("script", "style"):
            self.text += data

    def rows(self) -> Iterator[list[str]]:
        for table in self.tables:
            yield from table


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two systems of the same trials with attacks, one trial with a hostile id, and rank gaps in both."""
    folder = tmp_path_factory.mktemp("report")
    random = np.random.default_rng(0)
    people = np.arange(N) < N // 4
    attack = np.where(people, "-", np.array(["A01", "A02", "A<b>3"])[np.arange(N) % 3])
    ids = [f"trial_{index:04d}" for index in range(N)]
    ids[0] = HOSTILE
    first = random.normal(np.where(people, 1.5, -1.5), 1.0)
    first[0] = -9.0
    gaps = 10 ** random.uniform(-8, -3, N)
    second = first + np.where(gaps < 1e-6, 0.02, 1e-6)
    second[5] += 0.5
    gaps[5] = 1e-3
    lines = [
        f"{identity},{'bonafide' if own else 'spoof'},{a}" for identity, own, a in zip(ids, people, attack, strict=True)
    ]
    (folder / "labels.csv").write_text("utterance_id,label,attack\n" + "\n".join(lines) + "\n")
    for name, scores in (("first", first), ("second", second)):
        rows = [f"{i},{float(s)!r},{float(g)!r}" for i, s, g in zip(ids, scores, gaps, strict=True)]
        (folder / f"{name}.csv").write_text("utterance_id,score,smallest_rank_gap\n" + "\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def html(files: Path) -> str:
    runs = [files / "first.csv", files / "second.csv"]
    labels = read_labels(files / "labels.csv")
    write_report(runs, files / "report.html", labels=labels, resamples=100, command=["spectra-jax", "report", "a b"])
    return (files / "report.html").read_text()


def test_tables_hold_the_evaluations_numbers(files: Path, html: str) -> None:
    rows = {row[0]: row[1:] for row in Page(html).tables[0]}
    labels = read_labels(files / "labels.csv")
    for place, name in enumerate(("first", "second")):
        numbers = evaluate(read_scores(files / f"{name}.csv"), labels, by=["attack"], resamples=100).numbers
        low, high = numbers["eer_percent_interval"]
        assert rows["EER, %"][place] == f"{numbers['eer_percent']:.3f} ({low:.3f} to {high:.3f})"
        assert rows["threshold of the EER"][place] == f"{numbers['threshold']:.6f}"
        assert rows["AUC"][place].startswith(f"{numbers['auc']:.4f} (")
        assert rows["bona fide trials"][place] == str(N // 4)
        for attack, row in numbers["groups"]["attack"].items():
            cells = next(cells for cells in Page(html).rows() if cells[0] == attack and len(cells) == 4)
            assert cells[1 + place].startswith(f"{row['eer_percent']:.3f} (")


def test_what_comes_from_outside_stays_text(html: str) -> None:
    parsed = Page(html)
    assert [attributes.get("type") for tag, attributes in parsed.elements if tag == "script"] == [
        "application/json",
        None,
        None,
    ]
    assert any(row[0] == HOSTILE for row in parsed.rows()), "the most confident error is listed, by its own id"
    assert "alert(1)</script>" not in html
    assert not [tag for tag, _ in parsed.elements if tag == "b"], "nor is an attack's name markup"
    specs = json.loads(parsed.scripts[0])
    assert HOSTILE in json.dumps(specs), "the charts have the id too"


def test_fetches_nothing(html: str) -> None:
    policy = next(a["content"] for tag, a in Page(html).elements if tag == "meta" and "http-equiv" in a)
    assert policy and policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe-eval" not in policy
    addresses = [a[name] for _, a in Page(html).elements for name in ("src", "href") if name in a]
    assert addresses and all(re.match(r"#|data:", address or "") for address in addresses)


def test_charts_have_a_sentence_and_a_table_each(html: str) -> None:
    parsed = Page(html)
    plots = [attributes for tag, attributes in parsed.elements if attributes.get("class") == "plot"]
    assert len(plots) == len(json.loads(parsed.scripts[0])) >= 9
    assert all(plot["role"] == "img" and len(plot["aria-label"] or "") > 40 for plot in plots)
    assert sum(tag == "details" for tag, _ in parsed.elements) == len(plots)


def test_parity_tells_explained_from_unexplained(html: str) -> None:
    rows = {row[0]: row[1] for row in Page(html).rows() if len(row) == 2}
    assert rows["unexplained"] == "1"
    assert int(rows["of these, explained by a near tie"]) == int(rows["explained by a near tie"]) > 10
    assert "Different: 1 of 400 trials" in Page(html).text


def test_provenance(files: Path, html: str) -> None:
    rows = {row[0]: row[1] for row in Page(html).rows() if len(row) == 2}
    assert rows["command"] == "spectra-jax report 'a b'"
    assert rows["sha256 of first.csv"] == read_systems([files / "first.csv"])[0].sha256
    assert "jax " in rows["software"]


def test_without_labels_attacks_or_a_second_system(files: Path, tmp_path: Path) -> None:
    write_report([files / "first.csv"], tmp_path / "report.html")
    parsed = Page((tmp_path / "report.html").read_text())
    assert parsed.headings == ["Scores", "Trials", "Provenance", "Not on this page"]
    assert "No labels were given" in parsed.text and "several score files" in parsed.text


def test_one_class(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("utterance_id,score,label\na,0.5,bonafide\nb,1.5,bonafide\n")
    write_report([tmp_path / "s.csv"], tmp_path / "report.html")
    parsed = Page((tmp_path / "report.html").read_text())
    assert "All labelled trials are bona fide" in parsed.text
    assert "bona fide (2)" in parsed.text


@pytest.mark.parametrize("scores", [[1.0, 1.0, 1.0, 1.0], [2.0, 1.0, -1.0, -2.0], [-2.0, -1.0, 1.0, 2.0]])
def test_scores_that_are_equal_perfect_or_reversed(scores: list[float], tmp_path: Path) -> None:
    rows = zip("abcd", scores, ["bonafide", "bonafide", "spoof", "spoof"], strict=True)
    lines = "\n".join(f"{identity},{score},{label}" for identity, score, label in rows)
    (tmp_path / "s.csv").write_text(f"utterance_id,score,label\n{lines}\n")
    write_report([tmp_path / "s.csv"], tmp_path / "report.html", resamples=20)
    assert "Calibration" in Page((tmp_path / "report.html").read_text()).headings


def test_wrong_words(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    run = files / "first.csv"
    for words, said in (
        ((run, "-o", tmp_path / "report.pdf"), "ends in .html"),
        ((run, run, "-o", tmp_path / "report.html"), "given twice"),
        ((files / "none.csv", "-o", tmp_path / "report.html"), "cannot be read"),
        ((run, "-o", tmp_path / "report.html", "--audio-root", tmp_path / "no"), "no such folder"),
        ((run, "-o", tmp_path / "report.html", "--model", tmp_path), "no .safetensors"),
    ):
        assert spectra(monkeypatch, "report", *words) == 2
        assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_command(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("report", files / "first.csv", "-o", tmp_path / "r.html", "--labels", files / "labels.csv")
    assert spectra(monkeypatch, *words, "--title", "A & B", "--resamples", 20) == 0
    parsed = Page((tmp_path / "r.html").read_text())
    assert any(row[0] == "command" and "--title 'A & B'" in row[1] for row in parsed.rows())


def test_pooled_subsets_inverted_scores_and_one_subset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = Path(__file__).parents[1] / "inputs" / "tables"
    words = [
        "report",
        inputs / "s_inv.txt",
        "--labels",
        inputs / "p21la.txt",
        "--resamples",
        0,
        "-o",
        tmp_path / "r.html",
    ]
    assert spectra(monkeypatch, *words) == 0
    assert "p21la.txt: pools the trials of 3 subsets" in capsys.readouterr().err
    text = Page((tmp_path / "r.html").read_text()).text
    assert "Pooled subsets: eval (12), hidden_track (12), progress (16)." in text and "look inverted" in text
    words[1] = inputs / "s_flac.txt"
    assert spectra(monkeypatch, *words, "--match", "stem", "--subset", "eval") == 0
    assert "pools" not in capsys.readouterr().err
    text = Page((tmp_path / "r.html").read_text()).text
    assert "Pooled subsets" not in text and "look inverted" not in text


def test_bands_are_the_bootstraps(files: Path) -> None:
    """A band drawn from multinomial counts against drawing every trial again."""
    random = np.random.default_rng(1)
    people, machines = random.normal(1, 1, 300), random.normal(-1, 1, 500)
    found = curves.curve(people, machines, resamples=2000)
    middle, low, high = curves.at_false_acceptance(found, [0.05, 0.2])
    drawn = []
    for _ in range(500):
        again = [random.choice(scores, len(scores)) for scores in (people, machines)]
        rates = metrics.roc(*again)
        drawn.append(np.interp([0.05, 0.2], rates.false_acceptance[::-1], rates.false_rejection[::-1]))
    expected = np.quantile(drawn, [0.025, 0.975], axis=0)
    # The ends of an interval of width ~0.1 from 500 resamples have a standard error of some 0.006.
    np.testing.assert_allclose([low, high], expected, atol=0.02)
    assert (low < middle).all() and (middle < high).all()


def test_thinned_curves_keep_the_shape() -> None:
    random = np.random.default_rng(2)
    people, machines = random.normal(1, 1, 20_000), random.normal(-1, 1, 60_000)
    found = curves.curve(people, machines, resamples=10)
    assert len(found.false_acceptance) <= curves.POINTS + 1
    rates = metrics.error_rates(people, machines, [-0.5, 0, 0.7])
    middle, _, _ = curves.at_false_acceptance(found, rates.false_acceptance)
    # 300 points over a curve from 0 to 1 on each axis.
    np.testing.assert_allclose(middle, rates.false_rejection, atol=0.005)


def test_a_report_of_many_trials_stays_small(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    people = np.arange(50_000) < 10_000
    scores = random.normal(np.where(people, 2, -2), 1)
    ids = np.array([f"utterance_{index:06d}" for index in range(len(scores))], object)
    for name in ("a", "b"):
        noise = random.normal(0, 0.1, len(scores))
        lines = (f"{i} {s:.6f}\n" for i, s in zip(ids, scores + noise, strict=True))
        (tmp_path / f"{name}.txt").write_text("".join(lines))
    labels = Labels("labels", ids, people, {"attack": np.where(people, "-", "A01").astype(object)})
    write_report([tmp_path / "a.txt", tmp_path / "b.txt"], tmp_path / "r.html", labels=labels, resamples=10)
    assert (tmp_path / "r.html").stat().st_size < 1_500_000, "of which the chart library is 0.9 MB"


@pytest.fixture
def heard(tmp_path: Path) -> Path:
    """Twenty clips of ten seconds, and their scores."""
    random = np.random.default_rng(4)
    (tmp_path / "audio").mkdir()
    lines = ["utterance_id,score,label,path"]
    for index in range(20):
        soundfile.write(tmp_path / "audio" / f"c{index}.wav", random.normal(0, 0.1, 160_000), 16_000)
        lines.append(f"c{index},{index % 7},{'bonafide' if index % 2 else 'spoof'},audio/c{index}.wav")
    (tmp_path / "s.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_clips_are_capped_in_number_length_and_bytes(heard: Path) -> None:
    systems = read_systems([heard / "s.csv"], resamples=0)
    rows = clips.listed(systems, [])
    clips.add_clips(rows, systems, heard / "audio", clips=5)
    own = [row.clip for row in rows if row.clip]
    assert len(own) == 5
    assert {clip.seconds for clip in own} == {64_600 / 16_000} and not any(clip.whole for clip in own)
    rows = clips.listed(systems, [])
    clips.add_clips(rows, systems, heard / "audio", clip_bytes=500_000)
    own = [row.clip for row in rows if row.clip]
    assert 0 < sum(len(clip.audio) + len(clip.spectrogram) for clip in own) <= 500_000


def test_audio_beside_the_score_file_is_found(heard: Path) -> None:
    write_report([heard / "s.csv"], heard / "r.html", resamples=0)
    parsed = Page((heard / "r.html").read_text())
    sounds = [a for tag, a in parsed.elements if tag == "audio"]
    assert 0 < len(sounds) <= clips.CLIPS and all((a["src"] or "").startswith("data:audio/flac;") for a in sounds)
    images = [a for tag, a in parsed.elements if tag == "img"]
    assert all((a["alt"] or "").startswith("Spectrogram of c") for a in images) and len(images) == len(sounds)
    assert (heard / "r.html").stat().st_size < 1_100_000 + clips.CLIP_BYTES


def test_audio_from_elsewhere_is_not_embedded(heard: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A score file of somebody else's names a recording outside of its folder."""
    other = tmp_path_factory.mktemp("published")
    table = (heard / "s.csv").read_text().replace("audio/", f"{heard}/audio/")
    (other / "s.csv").write_text(table)
    systems = read_systems([other / "s.csv"], resamples=0)
    rows = clips.listed(systems, [])
    clips.add_clips(rows, systems, None)
    assert not any(row.clip for row in rows)
    (other / "s.csv").write_text(table.replace(f"{heard}/audio/", "../../x/"))
    rows[0].utterance_id = f"../{heard.name}/audio/c0"
    clips.add_clips(rows[:1], read_systems([other / "s.csv"], resamples=0), other)
    assert rows[0].clip is None, "nor by an id"


def test_damaged_audio_costs_its_clip_alone(heard: Path) -> None:
    systems = read_systems([heard / "s.csv"], resamples=0)
    rows = clips.listed(systems, [])
    (heard / "audio" / f"{rows[0].utterance_id}.wav").write_bytes(b"no audio")
    clips.add_clips(rows, systems, None)
    assert rows[0].clip is None and rows[1].clip is not None


def test_plots_for_papers(files: Path, tmp_path: Path) -> None:
    labels = read_labels(files / "labels.csv")
    found = [evaluate(read_scores(files / f"{name}.csv"), labels, resamples=0) for name in ("first", "second")]
    for draw in (plot_det, plot_roc):
        for suffix, start in ((".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")):
            path = tmp_path / f"{draw.__name__}{suffix}"
            draw(found, path)
            assert path.read_bytes().startswith(start)
    drawn = (tmp_path / "plot_det.svg").read_text()
    assert f"first.csv: EER {found[0].numbers['eer_percent']:.2f} %" in drawn
    with pytest.raises(InputError, match=r"\.png, \.pdf, \.svg"):
        plot_det(found, tmp_path / "det.gif")


def test_policy_knows_the_pages_own_scripts() -> None:
    # sha256 of nothing, as any shell gives it.
    assert "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" in page._policy([""])
