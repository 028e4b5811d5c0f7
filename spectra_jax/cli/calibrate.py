"""`spectra-jax calibrate`: from scores to log-likelihood ratios."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spectra_jax.cli.options import (
    Common,
    Debug,
    LabelsOption,
    MatchOption,
    Subset,
    read_tables,
    say,
    say_pooled,
    will_write,
)

if TYPE_CHECKING:
    from spectra_jax.evaluation.metrics import Calibration
    from spectra_jax.inference.results import Result

FILE = "calibration.json"


def calibrate(
    scores: Annotated[
        Path, typer.Argument(metavar="SCORES", help="Scores of a development set, never of the set to be evaluated.")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="F", help=f"The calibration, .json; in a directory, {FILE}."),
    ],
    labels: LabelsOption = None,
    subset: Subset = None,
    match: MatchOption = "exact",
    method: Annotated[
        Literal["logistic", "isotonic"],
        typer.Option(help="How scores are mapped: by a line, or by any rising step curve."),
    ] = "logistic",
    common: Common = False,
    debug: Debug = False,
) -> None:
    """Map scores to log-likelihood ratios, for `score --calibration`.

    That option adds to each score its log-likelihood ratio, and P(spoof) at a prior.
    """
    del debug  # acted on as it is read
    from spectra_jax.evaluation.evaluate import evaluate
    from spectra_jax.evaluation.metrics import fit_isotonic, fit_logistic
    from spectra_jax.files.outputs import output_file

    path = output / FILE if output.is_dir() or not (output.suffix or output.exists()) else output
    will_write(path, ending=".json")
    (system,), known = read_tables([scores], labels, match, subset)
    found = evaluate(
        system,
        known,
        exact=True,
        common=common,
        resamples=0,
    )
    say_pooled(str(found.numbers["labels"]), found.numbers["subsets"])
    fit = {"logistic": fit_logistic, "isotonic": fit_isotonic}[method]
    fitted = fit(found.scores[found.bonafide], found.scores[~found.bonafide])
    with output_file(path) as file:
        file.write(fitted.to_json().encode())
    from spectra_jax.evaluation.metrics import cllr

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
      InputError: not there, or not a calibration.
    """
    from spectra_jax.data.tables import require_plain_file
    from spectra_jax.data.text import read_text
    from spectra_jax.errors import InputError
    from spectra_jax.evaluation.metrics import Calibration

    file = path / FILE if path.is_dir() else path
    require_plain_file(file)
    try:
        return Calibration.from_json(read_text(file))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{file}: {error}") from error


def calibrated_result(result: Result, calibration: Calibration, spoof_prior: float) -> Result:
    """A result with its log-likelihood ratio and P(spoof); a skipped trial stays as it is."""
    if result.score is None:
        return result
    return replace(
        result,
        log_likelihood_ratio=float(calibration.log_likelihood_ratio([result.score])[0]),
        spoof_probability=float(calibration.spoof_probability([result.score], spoof_prior)[0]),
    )
