"""Write the report: one HTML page about score files that is self-contained and fetches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from spectra_jax.data.conventions import Match
from spectra_jax.data.labels import Labels
from spectra_jax.data.score_files import Scores
from spectra_jax.errors import InputError
from spectra_jax.evaluation.compare import Comparison, compare
from spectra_jax.files.outputs import output_file, require_writable
from spectra_jax.reporting.clips import ClipLength, choose_clip_length, find_clips
from spectra_jax.reporting.extra import require_report_extra
from spectra_jax.reporting.review import trials_to_review
from spectra_jax.reporting.systems import System, model_digests, model_window_seconds, read_systems

if TYPE_CHECKING:
    from spectra_jax.reporting.sections import Section

_SUFFIXES = (".html", ".htm")


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
    gap_bound: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> dict[str, int]:
    """Write one page about score files; the others are compared with the first.

    Returns the number of the first file's trials in each subset, by the labels' column `subset`.

    Args:
      runs: score files, see `spectra_jax.data.score_files`.
      output: ends in .html; written atomically.
      labels: of the trials; None takes each file's own column `label`.
      match: how ids are compared; labels are read with the same.
      subset: take the trials of this subset only.
      audio_root: a folder with the trials' audio; None follows the files' column `path` where it leads below the score
        file's folder or the current one.
      model: a model's folder or weight file, or `demo`. The page states its sha256, and clips are as long as its
        window.
      title: of the page.
      command: the words of the command that writes the page, which states it.
      common: take the trials that all files have; otherwise a trial that one file lacks is an error.
      tolerance, gap_bound: see `spectra_jax.evaluation.compare.compare`.
      resamples: of the bootstrap; 0 for no intervals.
      seed: of the bootstrap.

    Raises:
      InputError: an input that cannot be read or joined, an output that cannot be written, or the extra `report` is not
        installed.
    """
    output, root = Path(output), None if audio_root is None else Path(audio_root)
    _check_paths(output, root)
    digests = {} if model is None else model_digests(model)
    require_report_extra()
    systems = read_systems(runs, labels, match=match, subset=subset, common=common, resamples=resamples, seed=seed)
    comparisons = [_compare(systems[0], other, tolerance, gap_bound, common, resamples, seed) for other in systems[1:]]
    length = choose_clip_length(systems, None if model is None else model_window_seconds(model))
    sections = _sections(systems, comparisons, root, length, digests, command)
    _write(output, title or _title(systems), systems, sections)
    return systems[0].evaluation.subsets if systems[0].evaluation else {}


def _check_paths(output: Path, audio_root: Path | None) -> None:
    if output.suffix.lower() not in _SUFFIXES:
        raise InputError(f"{output}: a report is a page; its name ends in {' or '.join(_SUFFIXES)}")
    require_writable(output)
    if audio_root is not None and not audio_root.is_dir():
        raise InputError(f"{audio_root}: no such folder of audio files")


def _compare(
    first: System, other: System, tolerance: float, gap_bound: float | None, common: bool, resamples: int, seed: int
) -> Comparison:
    labels = None
    if first.evaluation and other.evaluation and first.bonafide is not None:
        labels = Labels(first.name, first.scores.utterance_ids, first.bonafide)
    return compare(
        _without_labels(first.scores),
        _without_labels(other.scores),
        labels,
        tolerance=tolerance,
        gap_bound=gap_bound,
        common=common,
        resamples=resamples,
        seed=seed,
    )


def _without_labels(scores: Scores) -> Scores:
    """Scores without a column `label`: `compare` would read it, and refuse labels of one class."""
    columns = {name: column for name, column in scores.columns.items() if name != "label"}
    return replace(scores, columns=columns)


def _sections(
    systems: Sequence[System],
    comparisons: Sequence[Comparison],
    audio_root: Path | None,
    length: ClipLength,
    digests: dict[str, str],
    command: Sequence[str],
) -> list[Section]:
    # Altair and Vega, which the sections draw with, belong to the extra `report`.
    from spectra_jax.reporting import sections
    from spectra_jax.reporting.charts.chart import system_key

    trials = trials_to_review(systems, comparisons)
    clips = find_clips([trial.utterance_id for trial in trials], systems, audio_root, seconds=length.seconds)
    trials = [replace(trial, clip=clips.get(trial.utterance_id)) for trial in trials]
    keys = [system_key(index, system.name) for index, system in enumerate(systems)]
    return [
        sections.error_rates_section(systems, keys),
        sections.metrics_section(systems, keys),
        sections.scores_section(systems),
        sections.attacks_section(systems, keys),
        sections.calibration_section(systems, keys),
        sections.comparison_section(systems, comparisons),
        sections.near_ties_section(comparisons),
        sections.trials_section(systems, trials, length),
        sections.provenance_section(systems, digests, command),
    ]


def _write(output: Path, title: str, systems: Sequence[System], sections: Sequence[Section]) -> None:
    from spectra_jax.reporting.rendering import render

    html = render(title, systems, sections)
    with output_file(output) as file:
        file.write(html.encode("utf-8", "backslashreplace"))


def _title(systems: Sequence[System]) -> str:
    return " and ".join(system.name for system in systems) if len(systems) < 3 else f"{len(systems)} systems"
