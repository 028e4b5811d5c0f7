"""`spectra-jax inspect`: where in a recording, how sure, and on which evidence."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from spectra_jax import __version__
from spectra_jax.cli.options import (
    AsJson,
    Debug,
    EncoderPrecision,
    Model,
    NoCompileCache,
    PrecisionOption,
    SpoofPrior,
    count_or,
    number_or_auto,
)
from spectra_jax.cli.output import check_outputs, print_json, print_message, print_notes, stdout
from spectra_jax.cli.progress import progress_bar
from spectra_jax.data.trial import MAX_CLIP_BYTES
from spectra_jax.errors import InputError
from spectra_jax.hub import PUBLISHED
from spectra_jax.messages import count

if TYPE_CHECKING:
    from spectra_jax.data.sources import Trials
    from spectra_jax.inference.detection import Detection
    from spectra_jax.inference.scorer import Scorer, ScoringProgress


def inspect(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="FILE", help="Recordings: all that `score` takes, URLs included.", show_default=False),
    ],
    model: Model = PUBLISHED,
    threshold: Annotated[
        str | None,
        typer.Option(
            metavar="T|NAME",
            help="Label a recording, and find the segments, that score below T. Two thresholds in circulation have "
            "names, published-code (-1.0625009) and published-readme (-1.460938); nobody calibrated either. Without "
            "this option nothing is decided.",
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            metavar="C",
            help="The file that `spectra-jax calibrate` wrote, or the directory with its calibration.json: adds the "
            "log-likelihood ratio and P(spoof).",
        ),
    ] = None,
    spoof_prior: SpoofPrior = 0.5,
    windows: Annotated[
        str, typer.Option(metavar="hop=S|first", help="Score a window every S seconds, or the first one alone.")
    ] = "hop=0.5",
    aggregate: Annotated[
        Literal["speech-mean", "mean", "median", "min", "first"] | None,
        typer.Option(
            help="How the score follows from the windows' scores. Default: speech-mean, the mean over the windows that "
            "hold speech, or over all of them without the extra `inspect`.",
            show_default=False,
        ),
    ] = None,
    min_speech: Annotated[
        float, typer.Option(metavar="P", min=0, max=1, help="The share of speech from which a window counts.")
    ] = 0.25,
    speech_only: Annotated[
        bool, typer.Option("--speech-only", help="Let the first window start where the first speech does.")
    ] = False,
    as_json: AsJson = False,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="F.html",
            help="Write a page with waveforms, spectrograms, scores over time and the recordings to listen to. It is "
            "one file that fetches nothing. Needs the extra `report`.",
        ),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="F", help="Write a table of all windows that Excel opens.")
    ] = None,
    csv_separator: Annotated[
        Literal["comma", "semicolon", "tab"],
        typer.Option(help="Between the columns of --csv. With semicolon, numbers have decimal commas."),
    ] = "comma",
    audacity: Annotated[
        Path | None,
        typer.Option(metavar="F.txt|DIR", help="Write Audacity's label track: a file, or one for each recording."),
    ] = None,
    srt: Annotated[
        Path | None,
        typer.Option(metavar="F.srt|DIR", help="Write subtitles with the score: a file, or one for each recording."),
    ] = None,
    precision: EncoderPrecision = PrecisionOption.float32,
    batch_size: Annotated[
        str,
        typer.Option(metavar="N|auto", callback=count_or("auto"), help="Windows per call of the network."),
    ] = "8",
    max_clip_bytes: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="Largest recording of a URL, in bytes. Default: 1 GiB.", show_default=False
        ),
    ] = MAX_CLIP_BYTES,
    no_compile_cache: NoCompileCache = False,
    debug: Debug = False,
) -> None:
    """Show where in a recording the score falls, with its evidence.

    Exit status: 0 all scored; 1 some recordings not scored or inputs not read, each with its reason; 2 wrong usage.
    """
    from spectra_jax.data.sources import collect
    from spectra_jax.inference.detect import DetectionSettings
    from spectra_jax.inference.windows import parse_window_policy
    from spectra_jax.jobs.scorer_options import ScorerOptions
    from spectra_jax.reporting.extra import require_report_extra

    policy = parse_window_policy(windows, aggregate, min_speech=min_speech, speech_only=speech_only)
    trials = collect(inputs, max_clip_bytes=max_clip_bytes)
    check_outputs(csv, extension=".csv")
    if html is not None:
        require_report_extra()
        check_outputs(html, extension=".html")
    label_files = [_LabelFiles(path, suffix, trials) for path, suffix in ((audacity, ".txt"), (srt, ".srt"))]
    options = ScorerOptions(model, precision.value, number_or_auto(batch_size), use_cache=not no_compile_cache)
    settings = DetectionSettings.of(policy, threshold, calibration, spoof_prior, model)
    print_notes(trials)
    scorer = options.load(None, print_message)
    with progress_bar("scoring", len(trials)) as update_bar:

        def show(progress: ScoringProgress) -> None:
            update_bar(progress.trials, count(progress.windows, "window"))

        found = list(scorer.detect(trials, settings, on_progress=show))
    _print(found, scorer, model, has_threshold=settings.threshold is not None, as_json=as_json)
    _write(found, csv, csv_separator, label_files)
    if html is not None:
        _write_page(html, found, trials, scorer, model)
    if any(detection.error is not None for detection in found) or trials.skipped_inputs.unreadable:
        raise typer.Exit(1)


class _LabelFiles:
    """The files of an option that writes one for each recording, checked before the work.

    Args:
      path: a folder, or, for one recording, a file; None where the option was not given.
      suffix: of the files.
      trials: the recordings.

    Raises:
      InputError: a file cannot be written, or there is one file for several recordings.
    """

    def __init__(self, path: Path | None, suffix: str, trials: Trials):
        self.paths: list[Path] = []
        if path is None:
            return
        if path.suffix.lower() == suffix and not path.is_dir():
            if len(trials) != 1:
                raise InputError(f"{path}: one file for {len(trials):,} recordings; give a folder")
            self.paths = [path]
        else:
            names = [trial.utterance_id.replace("/", "_") for trial in trials]
            # A folder of an id becomes part of the name, in which another id may have it already.
            if len(set(names)) < len(names):
                names = [f"{number:04}_{name}" for number, name in enumerate(names, start=1)]
            self.paths = [path / f"{name}{suffix}" for name in names]
        check_outputs(*self.paths)

    def write(self, found: Sequence[Detection], write: Callable[[Detection, Path], None]) -> None:
        """Write a file for each recording that was scored."""
        for detection, path in zip(found, self.paths, strict=False):
            if detection.error is None:
                write(detection, path)


def _print(found: Sequence[Detection], scorer: Scorer, model: str, *, has_threshold: bool, as_json: bool) -> None:
    if as_json:
        identity = scorer.identity()
        system: dict[str, Any] = {"spectra_jax": __version__, "model": model}
        system |= {key: identity[key] for key in ("weights_sha256", "precision", "batch_size")}
        print_json(system | {"recordings": [detection.to_dict() for detection in found]})
        return
    from spectra_jax.reporting.detection_block import print_detection

    console = stdout()
    for number, detection in enumerate(found):
        if number:
            console.print()
        print_detection(detection, console)
    if not has_threshold:
        console.print("No threshold is applied: --threshold states one.", highlight=False)


def _write(
    found: Sequence[Detection],
    csv: Path | None,
    csv_separator: Literal["comma", "semicolon", "tab"],
    label_files: Sequence[_LabelFiles],
) -> None:
    from spectra_jax.inference.detection_files import write_audacity_labels, write_csv, write_srt

    if csv is not None:
        write_csv(found, csv, csv_separator)
    audacity, srt = label_files
    audacity.write(found, write_audacity_labels)
    srt.write(found, write_srt)


def _write_page(html: Path, found: Sequence[Detection], trials: Trials, scorer: Scorer, model: str) -> None:
    from spectra_jax.reporting.inspection_page import InspectionContext, write_inspection

    context = InspectionContext.of(scorer, ["spectra-jax", *sys.argv[1:]])
    write_inspection(html, found, trials, replace(context, model=model))
    print_message(f"{html}: {html.stat().st_size / 1e6:.1f} MB; open it in a browser")
