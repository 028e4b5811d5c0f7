"""The page: sections in reading order, each there where the runs have what it needs, and a sentence where not."""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.metadata
import json
import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from spectra_jax.data.conventions import Match
from spectra_jax.data.labels import Labels
from spectra_jax.data.score_files import Scores
from spectra_jax.errors import InputError
from spectra_jax.evaluation.compare import Comparison, compare
from spectra_jax.evaluation.evaluate import hints
from spectra_jax.files.outputs import output_file, require_writable
from spectra_jax.messages import count
from spectra_jax.model.rank_gap import GAP_BOUND
from spectra_jax.reporting import charts, curves
from spectra_jax.reporting.charts import Chart, Key
from spectra_jax.reporting.clips import Listed, add_clips, listed
from spectra_jax.reporting.systems import System, model_digests, read_systems

_VEGA_LITE = "6.4"
_SUFFIXES = (".html", ".htm")
_PACKAGES = ("spectra-jax", "jax", "flax", "numpy", "scipy", "soundfile", "vl-convert-python")
_FIGURES = (
    ("eer_percent", "EER, %", 3),
    ("threshold", "threshold of the EER", 6),
    ("rocch_eer_percent", "EER of the ROC's convex hull, %", 3),
    ("auc", "AUC", 4),
    ("min_dcf", "minDCF", 4),
    ("act_dcf", "actDCF", 4),
    ("cllr", "Cllr, bits", 4),
    ("min_cllr", "minCllr, bits", 4),
)


@dataclass(frozen=True)
class Table:
    """A table of text."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
      anchor: its address on the page.
      title: of the section.
      lead: what it shows, in a sentence; or why it shows nothing.
      verdict: a sentence that matters, and whether it is good news.
    """

    anchor: str
    title: str
    lead: str = ""
    verdict: tuple[str, bool] | None = None
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    trials: Sequence[Listed] = ()

    @property
    def empty(self) -> bool:
        return not (self.tables or self.charts or self.trials)


def write_report(
    runs: Sequence[str | Path],
    output: str | Path,
    *,
    labels: Labels | None = None,
    match: Match = "exact",
    subset: str | None = None,
    audio_root: str | Path | None = None,
    model: str | Path | None = None,
    title: str | None = None,
    command: Sequence[str] = (),
    common: bool = False,
    tolerance: float = 1e-4,
    gap_bound: float = GAP_BOUND,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, int]:
    """Write one page about score files; the first is what the others are compared with.

    Returns how many of the first's trials are of each subset, by the labels' column `subset`.

    Args:
      runs: score files, see `spectra_jax.data.score_files`.
      output: ends in .html; replaced whole or not at all.
      labels: of the trials; else each file's own column `label`.
      match: how ids are compared; labels are read with the same.
      subset: take this subset of the trials alone.
      audio_root: a folder with the trials' audio; otherwise the files' column `path` is followed, if it leads below the
        score file's folder or the current one.
      model: a model's folder or weight file, whose sha256 the page states.
      title: of the page.
      command: words of the command that made the page, which it repeats.
      common: take the trials that files have in common; otherwise a trial that one lacks is an error.
      tolerance, gap_bound: see `spectra_jax.evaluation.compare.compare`.
      resamples: of the bootstrap; 0 for no intervals.
      seed: of the bootstrap.

    Raises:
      InputError: something given that cannot be read, joined or written; or the extra `report` is not installed.
    """
    output = Path(output)
    _check_output(output)
    root = None if audio_root is None else Path(audio_root)
    if root is not None and not root.is_dir():
        raise InputError(f"{root}: no such folder of audio files")
    digests = {} if model is None else model_digests(model)
    script = _bundle()
    systems = read_systems(runs, labels, match=match, subset=subset, common=common, resamples=resamples, seed=seed)
    drawn = {"resamples": resamples, "seed": seed}
    comparisons = _comparisons(systems, {"tolerance": tolerance, "gap_bound": gap_bound, "common": common, **drawn})
    trials = listed(systems, comparisons)
    add_clips(trials, systems, root)
    sections = [
        _metrics(systems, resamples, seed),
        _curves(systems, resamples, seed),
        _scores(systems),
        _attacks(systems),
        _calibration(systems),
        _comparison(systems, comparisons),
        _parity(systems, comparisons),
        _trials(systems, trials),
        _provenance(systems, digests, command),
    ]
    missing = [section for section in sections if section.empty]
    sections = [section for section in sections if not section.empty]
    html = _render(title or _title(systems), systems, sections, _left_out(missing), script)
    with output_file(output) as file:
        file.write(html.encode("utf-8", "backslashreplace"))
    return systems[0].evaluation.numbers["subsets"] if systems[0].evaluation else {}


def _check_output(output: Path) -> None:
    if output.suffix.lower() not in _SUFFIXES:
        raise InputError(f"{output}: a report is a page; its name ends in {' or '.join(_SUFFIXES)}")
    require_writable(output)


def _left_out(missing: Sequence[Section]) -> list[tuple[str, str]]:
    """What the page lacks, by the reason: ("Metrics, attacks", "No labels ...")."""
    reasons: dict[str, list[str]] = {}
    for section in missing:
        reasons.setdefault(section.lead, []).append(section.title)
    return [(", ".join(titles), reason) for reason, titles in reasons.items()]


def _title(systems: Sequence[System]) -> str:
    return " and ".join(system.name for system in systems) if len(systems) < 3 else f"{len(systems)} systems"


def _evaluated(systems: Sequence[System]) -> list[System]:
    return [system for system in systems if system.evaluation]


def _why_not(systems: Sequence[System]) -> str:
    """Why no error rate can be given."""
    known = [system.bonafide for system in systems if system.bonafide is not None]
    if not known:
        return "No labels were given, so there are no error rates: give them with --labels."
    only = "bona fide" if known[0].all() else "spoofed"
    return f"All labelled trials are {only}: error rates need both classes."


def _comparisons(systems: Sequence[System], options: Mapping[str, Any]) -> list[Comparison]:
    if len(systems) < 2:
        return []
    first, found = systems[0], []
    for other in systems[1:]:
        labels = None
        if first.evaluation and other.evaluation and first.bonafide is not None:
            labels = Labels(first.name, first.scores.utterance_ids, first.bonafide)
        # Labels that `compare` would read from a file's own column are those of one class at times.
        found.append(compare(_without_labels(first), _without_labels(other), labels, **options))
    return found


def _without_labels(system: System) -> Scores:
    scores = system.scores
    columns = {name: column for name, column in scores.columns.items() if name != "label"}
    return Scores(scores.name, scores.utterance_ids, scores.scores, columns, scores.skipped)


def _metrics(systems: Sequence[System], resamples: int, seed: int) -> Section:
    there = _evaluated(systems)
    section = ("metrics", "Metrics")
    if not there:
        return Section(*section, lead=_why_not(systems))
    rows = []
    for name, shown, digits in _FIGURES:
        cells = [shown]
        for system in there:
            numbers = system.evaluation.numbers if system.evaluation else {}
            interval = numbers.get(f"{name}_interval")
            cells.append(
                f"{numbers[name]:.{digits}f}"
                + (f" ({interval[0]:.{digits}f} to {interval[1]:.{digits}f})" if interval else "")
            )
        rows.append(cells)
    for name, shown in (("n_bonafide", "bona fide trials"), ("n_spoof", "spoofed trials"), ("n_skipped", "skipped")):
        rows.append([shown, *(f"{system.evaluation.numbers[name]:,}" for system in there if system.evaluation)])
    costs = there[0].evaluation.numbers["costs"] if there[0].evaluation else {}
    lead = (
        "The EER is the Speech Anti-Spoofing Arena's, of scores rounded to six decimals. DCF: prior of a spoof "
        f"{costs['spoof_prior']:g}, cost of a miss {costs['miss']:g}, of a false alarm {costs['false_alarm']:g}; "
        "actDCF and Cllr take scores as log-likelihood ratios."
    )
    if resamples:
        lead += f" In brackets: 95 % intervals, {resamples:,} resamples of trials, seed {seed}."
    subsets = there[0].evaluation.numbers["subsets"] if there[0].evaluation else {}
    if len(subsets) > 1:
        lead += " Pooled subsets: " + ", ".join(f"{name} ({number:,})" for name, number in subsets.items()) + "."
    for system in there:
        if system.evaluation:
            lead += "".join(f" {hint}" for hint in hints(system.evaluation))
    table = Table("Metrics of each system", ["", *(system.name for system in there)], rows)
    return Section(*section, lead=lead, tables=[table])


def _curves(systems: Sequence[System], resamples: int, seed: int) -> Section:
    there = _evaluated(systems)
    section = ("curves", "Error rates")
    if not there:
        return Section(*section, lead=_why_not(systems))
    found = []
    for system in there:
        assert system.evaluation is not None
        scores, bonafide = system.evaluation.scores, system.evaluation.bonafide
        found.append(curves.curve(scores[bonafide], scores[~bonafide], resamples=resamples, seed=seed))
    return Section(*section, charts=[charts.det(there, found), charts.roc(there, found)])


def _scores(systems: Sequence[System]) -> Section:
    return Section("scores", "Scores", "Higher means more bona fide.", charts=[charts.histogram(s) for s in systems])


def _attacks(systems: Sequence[System]) -> Section:
    section = ("attacks", "Attacks")
    if not _evaluated(systems):
        return Section(*section, lead=_why_not(systems))
    there = [system for system in _evaluated(systems) if system.attacks is not None]
    if not there:
        return Section(*section, lead="No trial names its attack: labels or score files with a column `attack` would.")
    strips = [charts.attack_strips(system) for system in there]
    return Section(*section, charts=[charts.attack_bars(there), *strips])


def _calibration(systems: Sequence[System]) -> Section:
    there = _evaluated(systems)
    lead = "Whether scores mean what they say, with both classes weighing alike." if there else _why_not(systems)
    return Section("calibration", "Calibration", lead, charts=charts.reliability(there) if there else ())


def _comparison(systems: Sequence[System], comparisons: Sequence[Comparison]) -> Section:
    section = ("comparison", "Comparison")
    if not comparisons:
        return Section(*section, lead="One system alone: give several score files to compare them.")
    bonafide = (
        dict(zip(systems[0].scores.utterance_ids, systems[0].bonafide, strict=True))
        if systems[0].bonafide is not None
        else None
    )
    drawn = []
    for comparison in comparisons:
        own = None if bonafide is None else np.array([bonafide[i] for i in comparison.utterance_ids], bool)
        drawn += [charts.scatter(comparison, own), charts.differences(comparison)]
    verdict = (comparisons[0].verdict, comparisons[0].agrees) if len(comparisons) == 1 else None
    lead = f"Trial by trial against {systems[0].name}."
    return Section(*section, lead=lead, verdict=verdict, tables=[_compared(comparisons)], charts=drawn)


def _compared(comparisons: Sequence[Comparison]) -> Table:
    rows: list[list[str]] = []

    def row(name: str, cells: Sequence[str]) -> None:
        if any(cells):
            rows.append([name, *cells])

    numbers = [comparison.numbers for comparison in comparisons]
    row("trials", [f"{n['n']:,}" for n in numbers])
    row("largest |difference|", [f"{n['max_difference']:.3g}" for n in numbers])
    row("mean |difference|", [f"{n['mean_difference']:.3g}" for n in numbers])
    for quantile in numbers[0]["quantiles"]:
        row(f"{100 * float(quantile):g} % are at most", [f"{n['quantiles'][quantile]:.3g}" for n in numbers])
    row("mean difference", [f"{n['bias']:+.3g}" for n in numbers])
    for name in ("pearson", "spearman"):
        row(name.capitalize(), ["" if n[name] is None else f"{n[name]:.6f}" for n in numbers])
    for name, shown in (
        ("n_beyond_tolerance", f"beyond the tolerance of {numbers[0]['tolerance']:g}"),
        ("n_explained", "of these, explained by a near tie"),
        ("n_unexplained", "unexplained"),
        ("n_flips", "decisions that flip"),
    ):
        row(shown, [f"{n[name]:,}" if name in n else "" for n in numbers])
    row("EER difference, points", [_with_interval(n, "eer_difference_percent") for n in numbers])
    if len(numbers) > 1:
        row("verdict", [str(n["verdict"]) for n in numbers])
    return Table("Differences, paired by trial", ["", *(f"{n['a']} minus {n['b']}" for n in numbers)], rows)


def _with_interval(numbers: Mapping[str, Any], name: str) -> str:
    if name not in numbers:
        return ""
    interval = numbers.get(f"{name}_interval")
    return f"{numbers[name]:+.3f}" + (f" ({interval[0]:+.3f} to {interval[1]:+.3f})" if interval else "")


def _parity(systems: Sequence[System], comparisons: Sequence[Comparison]) -> Section:
    section = ("parity", "Near ties")
    there = [comparison for comparison in comparisons if np.isfinite(comparison.gaps).any()]
    if not there:
        what = (
            "Two systems are needed" if len(systems) < 2 else "No score file has rank gaps (score with --diagnostics)"
        )
        return Section(*section, lead=f"{what} to tell differences that near ties explain from others.")
    lead = (
        "The network ranks graph nodes. Where two nearly tie, rounding can swap them and the score jumps, in a right "
        "implementation as in a wrong one: such differences are explained, any others are the systems' own."
    )
    drawn = [charts.parity(comparison) for comparison in there]
    if len(there) > 1:
        drawn = [_titled(chart, f"{chart.title}: {c.numbers['b']}") for chart, c in zip(drawn, there, strict=True)]
    return Section(*section, lead=lead, charts=drawn)


def _titled(chart: Chart, title: str) -> Chart:
    return Chart(title, chart.caption, chart.spec, chart.head, chart.rows, chart.keys, chart.wide)


def _trials(systems: Sequence[System], trials: Sequence[Listed]) -> Section:
    if not trials:
        return Section("trials", "Trials", "No errors at the threshold of the EER, and no differences.")
    lead = f"{count(len(trials), 'trial')}: "
    if _evaluated(systems):
        lead += "the most confident errors at the threshold of the EER"
    else:
        lead += "the highest and lowest scores"
    lead += ", and the largest differences." if len(systems) > 1 else "."
    clips = sum(trial.clip is not None for trial in trials)
    if clips:
        lead += f" {count(clips, 'clip')} can be played, as decoded for the network: the first four seconds at 16 kHz."
    else:
        lead += " No audio of them was found: --audio-root says where it is."
    return Section("trials", "Trials", lead, trials=trials)


def _provenance(systems: Sequence[System], digests: Mapping[str, str], command: Sequence[str]) -> Section:
    rows = [["made", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"]]
    if command:
        rows.append(["command", shlex.join(command)])
    rows += [[f"sha256 of {system.path.name}", system.sha256] for system in systems]
    rows += [[f"sha256 of {name} (model)", digest] for name, digest in digests.items()]
    if not digests:
        rows.append(["sha256 of the model", "not given (--model)"])
    versions = [f"{name} {_version(name)}" for name in _PACKAGES]
    rows.append(["software", f"Python {platform.python_version()}, " + ", ".join(versions)])
    return Section("provenance", "Provenance", tables=[Table("Where this page comes from", ["what", "value"], rows)])


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


@functools.cache
def _bundle() -> str:
    """Vega, Vega-Lite and what embeds them, as one script."""
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
        import vl_convert
    except ImportError as error:
        raise InputError(f"a report needs {error.name}: pip install 'spectra-jax[report]'") from error
    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=_VEGA_LITE)
    return script.replace("</script", "<\\/script")


def _render(
    title: str,
    systems: Sequence[System],
    sections: Sequence[Section],
    left_out: Sequence[tuple[str, str]],
    bundle: str,
) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("spectra_jax.reporting", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    assert environment.loader is not None

    def part(name: str) -> str:
        source, _, _ = environment.loader.get_source(environment, name)
        return source

    scripts = [bundle, part("page.js")]
    drawn = [chart for section in sections for chart in section.charts]
    keys: list[Key] = [charts.system_key(place, system.name) for place, system in enumerate(systems)]
    return environment.get_template("page.html").render(
        title=title,
        systems=systems,
        keys=keys,
        sections=sections,
        left_out=left_out,
        specs=_for_script({f"chart-{place}": chart.spec for place, chart in enumerate(drawn)}),
        places={id(chart): place for place, chart in enumerate(drawn)},
        address=id,
        policy=_policy(scripts),
        style=Markup(part("style.css")),
        scripts=[Markup(script) for script in scripts],
    )


def _for_script(value: Any) -> Any:
    from markupsafe import Markup

    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    # Ids come from outside: nothing in them may end the script element.
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _policy(scripts: Sequence[str]) -> str:
    """A content security policy under which the page fetches nothing and runs its own scripts alone."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; media-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
