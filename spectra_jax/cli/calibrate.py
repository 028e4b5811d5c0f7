"""`spectra-jax calibrate`: from scores to log-likelihood ratios."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from spectra_jax.cli.options import Common, Debug, LabelsOption, MatchOption, Subset, read_tables
from spectra_jax.cli.output import check_outputs, print_message, print_pooled_subsets


def calibrate(
    scores: Annotated[
        Path, typer.Argument(metavar="SCORES", help="Scores of a development set, never of the set to be evaluated.")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="F", help="The calibration, .json; in a directory, calibration.json."),
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
    from spectra_jax.evaluation.calibration_file import NAME, write_calibration
    from spectra_jax.evaluation.evaluate import evaluate
    from spectra_jax.evaluation.metrics import cllr, fit_isotonic, fit_logistic

    path = output / NAME if output.is_dir() or not (output.suffix or output.exists()) else output
    check_outputs(path, extension=".json")
    (system,), known = read_tables([scores], labels, match, subset)
    found = evaluate(system, known, exact=True, common=common, resamples=0)
    print_pooled_subsets(str(found.numbers["labels"]), found.numbers["subsets"])
    fit = {"logistic": fit_logistic, "isotonic": fit_isotonic}[method]
    fitted = fit(found.scores[found.bonafide], found.scores[~found.bonafide])
    write_calibration(fitted, path)
    ratios = fitted.log_likelihood_ratio(found.scores)
    after = cllr(ratios[found.bonafide], ratios[~found.bonafide])
    print_message(
        f"{method} calibration from {found.bonafide.sum():,} bona fide and {(~found.bonafide).sum():,} spoofed trials "
        f"-> {path}\nCllr on them: {found.numbers['cllr']:.4f} bits before, {after:.4f} after, "
        f"{found.numbers['min_cllr']:.4f} at best"
    )
