"""`spectra-jax calibrate`: from scores to log-likelihood ratios."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spectra_jax.cli.options import Common, Debug, LabelsOption, say

if TYPE_CHECKING:
    from spectra_jax.metrics import Calibration
    from spectra_jax.results import Result

FILE = "calibration.json"


def calibrate(
    scores: Annotated[
        Path, typer.Argument(metavar="SCORES", help="Scores of a development set: never of the set to be judged.")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="F", help=f"Where to write it; a directory gets {FILE}."),
    ],
    labels: LabelsOption = None,
    method: Annotated[
        Literal["logistic", "isotonic"], typer.Option(help="A line through the scores, or any rising step curve.")
    ] = "logistic",
    common: Common = False,
    debug: Debug = False,
) -> None:
    """Learn what a score says: log-likelihood ratios, and P(spoof) at a prior, for `score --calibration`."""
    del debug  # acted on as it is read
    from spectra_jax.atomic import atomic_file
    from spectra_jax.evaluation import evaluate
    from spectra_jax.labels import read_labels
    from spectra_jax.metrics import fit_isotonic, fit_logistic
    from spectra_jax.score_file import read_scores

    found = evaluate(
        read_scores(scores),
        None if labels is None else read_labels(labels),
        exact=True,
        common=common,
        resamples=0,
    )
    fit = {"logistic": fit_logistic, "isotonic": fit_isotonic}[method]
    fitted = fit(found.scores[found.bonafide], found.scores[~found.bonafide])
    path = output / FILE if output.is_dir() else output
    with atomic_file(path) as file:
        file.write(fitted.to_json().encode())
    from spectra_jax.metrics import cllr

    ratios = fitted.log_likelihood_ratio(found.scores)
    after = cllr(ratios[found.bonafide], ratios[~found.bonafide])
    say(
        f"{method} calibration from {found.bonafide.sum():,} bona fide and {(~found.bonafide).sum():,} spoofed trials "
        f"-> {path}\nCllr on them: {found.numbers['cllr']:.4f} bits before, {after:.4f} after, "
        f"{found.numbers['min_cllr']:.4f} at best"
    )


def read_calibration(path: Path) -> Calibration:
    """A calibration file, or that of a directory.

    Raises:
      InputError: not there, or no calibration.
    """
    from spectra_jax.metrics import Calibration
    from spectra_jax.trials import InputError, read_text

    file = path / FILE if path.is_dir() else path
    try:
        return Calibration.from_json(read_text(file))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{file}: {error}") from error


def calibrated_result(result: Result, calibration: Calibration, spoof_prior: float) -> Result:
    """A result with what its score says; a skipped trial stays as it is."""
    if result.score is None:
        return result
    return replace(
        result,
        log_likelihood_ratio=float(calibration.log_likelihood_ratio([result.score])[0]),
        spoof_probability=float(calibration.spoof_probability([result.score], spoof_prior)[0]),
    )
