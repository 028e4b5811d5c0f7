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
    from spectra_jax.evaluation.calibrate import calibrate
    from spectra_jax.evaluation.calibration_file import NAME, write_calibration

    path = output / NAME if output.is_dir() or not (output.suffix or output.exists()) else output
    check_outputs(path, extension=".json")
    (system,), known = read_tables([scores], labels, match, subset)
    found = calibrate(system, known, method=method, common=common)
    print_pooled_subsets(found.labels_name, found.subsets)
    write_calibration(found.calibration, path)
    print_message(
        f"{method} calibration from {found.calibration.n_bonafide:,} bona fide and {found.calibration.n_spoof:,} "
        f"spoofed trials -> {path}\nCllr on them: {found.cllr_before:.4f} bits before, {found.cllr_after:.4f} after, "
        f"{found.min_cllr:.4f} at best"
    )
