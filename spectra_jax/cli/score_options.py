"""The options of `spectra-jax score` together, and which of them exclude each other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from spectra_jax.cli.options import number_or_auto
from spectra_jax.cli.output import check_outputs
from spectra_jax.errors import InputError

if TYPE_CHECKING:
    from spectra_jax.data.sources import Trials
    from spectra_jax.inference.windows import Aggregate, WindowPolicy
    from spectra_jax.jobs.scorer_options import ScorerOptions
    from spectra_jax.jobs.scoring import Calibrator


@dataclass(frozen=True)
class NetworkOptions:
    """The options about the network and where it runs, as they were typed."""

    model: str
    precision: str
    batch_size: str
    devices: str
    diagnostics: bool
    certify: bool
    no_compile_cache: bool


@dataclass(frozen=True)
class RunOptions:
    """The options of runs into a folder, as they were typed."""

    part_size: int
    max_errors: int | None
    accept_changed: bool
    process: str | None
    distributed: str | None
    engine: Literal["local", "ray"]
    address: str | None
    actors: int | None

    def given(self) -> list[str]:
        """The options that only runs into a folder have, if they differ from their defaults."""
        values = {
            "--max-errors": self.max_errors is not None,
            "--accept-changed": self.accept_changed,
            "--process": self.process is not None,
            "--distributed": self.distributed is not None,
            "--engine ray": self.engine == "ray",
        }
        return [option for option, is_given in values.items() if is_given]


@dataclass(frozen=True)
class ScoreOptions:
    """All options of `spectra-jax score`, checked against each other.

    Attributes:
      folder: of a run, path or URL; None for a file or a table.
      file: to write; None for a run or a table.
      window_policy: which windows are scored, from `windows` and `aggregate`.
      process: (index from 0, number) of the processes that share a run, as `--process` states them.

    Raises:
      InputError: options that exclude each other.
      BadParameter: `windows` is not `hop=SECONDS`.
    """

    inputs: list[str]
    output: str | None
    network: NetworkOptions
    run: RunOptions
    ids: Literal["stem", "path"]
    max_clip_bytes: int
    escape_ids: bool
    calibration: Path | None
    spoof_prior: float
    windows: str | None
    aggregate: Aggregate | None

    def __post_init__(self) -> None:
        self._check_run_options()
        if self.windows is None and self.aggregate is not None:
            raise InputError(
                f"--aggregate {self.aggregate} needs --windows, such as --windows hop=2: without it only the first "
                "window is scored"
            )
        if self.run.engine == "local" and (self.run.address is not None or self.run.actors is not None):
            raise InputError("--address and --actors are for --engine ray")
        if self.windows is not None and self.aggregate in (None, "speech-mean"):
            from spectra_jax.audio.speech import require_detector

            require_detector("--windows without another --aggregate, such as mean,")
        if self.calibration is not None:
            self._check_calibration_options()
        # Raise where they cannot be read.
        _ = self.process, self._hop

    def _check_run_options(self) -> None:
        run = self.run
        if self.folder is None:
            for option in run.given():
                raise InputError(f"{option} is for runs into a folder: give one as --output, such as scores/")
        elif run.engine == "ray":
            for option in run.given():
                if option in ("--process", "--distributed"):
                    raise InputError(f"{option} does not go with --engine ray, which distributes the run itself")
            if self.network.batch_size == "auto" or self.network.devices != "all":
                raise InputError("--engine ray takes a number as --batch-size, and one device for each actor")
        if run.distributed not in (None, "auto") and run.process is None:
            raise InputError(
                f"--distributed {run.distributed}: with an address, --process I/N has to state which process this is"
            )

    def _check_calibration_options(self) -> None:
        if self.folder is not None:
            raise InputError(
                "--calibration is for score files; `spectra-jax calibrate` takes a folder's scores.txt too"
            )
        if not 0 < self.spoof_prior < 1:
            raise InputError(f"--spoof-prior {self.spoof_prior}: a probability between 0 and 1, both excluded")

    @cached_property
    def folder(self) -> str | None:
        return self.output if self.output is not None and _is_folder(self.output) else None

    @property
    def file(self) -> Path | None:
        return Path(self.output) if self.output is not None and self.folder is None else None

    @property
    def process(self) -> tuple[int, int]:
        if self.run.process is None:
            return 0, 1
        index, _, number = self.run.process.partition("/")
        if not (index.isdigit() and number.isdigit() and int(index) < int(number)):
            raise InputError(
                f"--process {self.run.process}: I/N is expected, the process' number from 0 and how many there are"
            )
        return int(index), int(number)

    @property
    def window_policy(self) -> WindowPolicy:
        from spectra_jax.inference.windows import WindowPolicy

        if self._hop is None:
            return WindowPolicy()
        return WindowPolicy(self._hop, self.aggregate or "speech-mean")

    @property
    def _hop(self) -> float | None:
        """Seconds of `--windows hop=SECONDS`."""
        if self.windows is None:
            return None
        try:
            return float(self.windows.removeprefix("hop="))
        except ValueError:
            raise typer.BadParameter(
                f"{self.windows!r} is not hop=SECONDS, such as hop=2.", param_hint="--windows"
            ) from None

    def collect_trials(self) -> Trials:
        """Collect the trials, after checking that the score file can be written and hold their ids.

        Raises:
          InputError: it cannot, or it is one of the inputs; and see `spectra_jax.data.sources.collect`.
        """
        from spectra_jax.data.sources import collect
        from spectra_jax.inference.results import check_output

        if self.file is not None:
            check_output(self.file)
            check_outputs(self.file)
            # realpath, since `resolve` fails for a link to itself.
            if os.path.realpath(self.file) in map(os.path.realpath, self.inputs):
                raise InputError(f"{self.output}: an input, which the scores would replace")
        trials = collect(self.inputs, ids=self.ids, max_clip_bytes=self.max_clip_bytes)
        is_txt = self.folder is not None or (self.file is not None and self.file.suffix.lower() == ".txt")
        if is_txt and not self.escape_ids:
            trials.require_plain_ids()
        return trials

    def calibrator(self) -> Calibrator | None:
        """Read the calibration, where one is given."""
        if self.calibration is None:
            return None
        from spectra_jax.evaluation.calibration_file import read_calibration
        from spectra_jax.jobs.scoring import Calibrator

        return Calibrator(read_calibration(self.calibration), self.spoof_prior)

    def scorer_options(self, num_clips: int) -> ScorerOptions:
        """The arguments of the scorer of so many clips."""
        from spectra_jax.jobs.scorer_options import ScorerOptions

        network, on_ray = self.network, self.run.engine == "ray"
        batch_size = number_or_auto(network.batch_size)
        num_devices = None if network.devices == "all" else int(network.devices)
        return ScorerOptions(
            str(network.model),
            network.precision,
            min(batch_size, num_clips) if on_ray and batch_size != "auto" else batch_size,
            num_devices=1 if on_ray else num_devices,
            diagnostics=network.diagnostics,
            certify=network.certify,
            use_cache=not network.no_compile_cache,
        )


def _is_folder(output: str) -> bool:
    """Whether results go into a run's folder: `output` is a URL, a directory, ends in `/` or has no extension."""
    from spectra_jax.data.sources.remote import is_url

    path = Path(output)
    return output.endswith("/") or not path.suffix or path.is_dir() or is_url(output)
