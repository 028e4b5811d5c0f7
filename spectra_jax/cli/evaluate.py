"""`spectra-jax evaluate`: EER, DCF, Cllr and AUC of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from spectra_jax.cli.evaluate_result import (
    BenchVersionOption,
    CheckpointOption,
    CodeOption,
    ContactOption,
    DatasetOption,
    DescriptionOption,
    MetaOption,
    ResultOption,
    RevisionOption,
    ScoresUrlOption,
    SlugOption,
    SubmissionOptions,
    SystemOption,
    ThresholdDatasetOption,
    UserOption,
    fetch_labels,
)
from spectra_jax.cli.options import (
    AsJson,
    Common,
    Debug,
    LabelsOption,
    MatchName,
    MatchOption,
    Resamples,
    Seed,
    Subset,
    read_tables,
)
from spectra_jax.cli.output import check_outputs, print_json, print_message, print_pooled_subsets, stdout
from spectra_jax.messages import printable

if TYPE_CHECKING:
    from spectra_jax.data.labels import Labels
    from spectra_jax.data.score_files import Scores
    from spectra_jax.evaluation.evaluate import Convention, Evaluation
    from spectra_jax.evaluation.tandem import TandemEvaluation

ConventionName = Literal["arena", "asvspoof"]


def evaluate(
    scores: Annotated[
        Path, typer.Argument(metavar="SCORES", help="A score file: .txt (the Arena's), .csv, .tsv, .jsonl or .parquet.")
    ],
    labels: LabelsOption = None,
    subset: Subset = None,
    match: MatchOption = "exact",
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Also give figures for each value of a column, such as attack, or a table of two, such as "
            "attack,codec. May be repeated.",
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="For the intervals, resample whole groups of a column, such as speaker."),
    ] = None,
    threshold: Annotated[
        list[float] | None,
        typer.Option(
            metavar="T",
            help="Also give error rates at the threshold T: scores of T and above count as bona fide. May be repeated.",
        ),
    ] = None,
    costs: Annotated[
        tuple[float, float, float],
        typer.Option(metavar="P M F", help="Of the DCF: prior of a spoof, cost of a miss, cost of a false alarm."),
    ] = (0.05, 1.0, 10.0),
    exact: Annotated[
        bool, typer.Option("--exact", help="Take scores as they are, not rounded to six decimals as the Arena does.")
    ] = False,
    common: Common = False,
    resamples: Resamples = 1000,
    seed: Seed = 0,
    plot: Annotated[
        Path | None, typer.Option(metavar="F", help="Draw the DET curve: .png, .svg or .pdf (extra `report`).")
    ] = None,
    convention: Annotated[
        ConventionName,
        typer.Option(
            help="Whose EER: the Arena's, or that of the ASVspoof challenges, for which scores are not rounded, and a "
            "key of 2021 is reduced to its subset eval."
        ),
    ] = "arena",
    asv: Annotated[
        Path | None,
        typer.Option(
            metavar="F",
            help="The challenge's scores of speaker verification: adds min t-DCF, t-EER and a-DCF.",
        ),
    ] = None,
    asv_key: Annotated[
        Path | None,
        typer.Option(metavar="F", help="The key of --asv, where the scores have none (2021 and 5)."),
    ] = None,
    threshold_from: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="S L",
            help="Also give error rates at the threshold of the EER of other scores S with labels L. Labels without "
            "bona fide trials need this or --threshold.",
        ),
    ] = None,
    result: ResultOption = None,
    dataset: DatasetOption = None,
    revision: RevisionOption = None,
    system: SystemOption = None,
    slug: SlugOption = None,
    description: DescriptionOption = None,
    code: CodeOption = None,
    checkpoint: CheckpointOption = None,
    scores_url: ScoresUrlOption = None,
    bench_version: BenchVersionOption = None,
    hf_username: UserOption = None,
    contact: ContactOption = None,
    submission_meta: MetaOption = None,
    threshold_dataset: ThresholdDatasetOption = None,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Evaluate scores: EER, DCF, Cllr and AUC, with intervals.

    Labels come from a table with a column `label`, the Arena's labels.parquet (0 = bona fide, 1 = spoof), a list as
    ASVspoof (2015 to 5) and ADD publish them, or the score file's own column `label`.
    """
    if result is not None and (subset is not None or match != "exact"):
        raise typer.BadParameter("--result describes the complete score file: leave out --subset and --match.")
    if result is not None and convention != "arena":
        raise typer.BadParameter("--result states the Arena's EER: leave out --convention.")
    if result is not None and exact:
        raise typer.BadParameter("--result states the EER of scores rounded to six decimals: leave out --exact.")
    if asv_key is not None and asv is None:
        raise typer.BadParameter("--asv-key is the key of the scores that --asv names.")
    if plot is not None:
        from spectra_jax.reporting.papers import require_figure

        require_figure(plot)
    check_outputs(plot, result)
    # The challenges do not round scores.
    exact = exact or convention == "asvspoof"
    trials = _read(scores, labels, match, subset, convention, dataset, revision)
    thresholds = [*(threshold or ())]
    if threshold_from is not None:
        thresholds.append(_equal_error_threshold(*threshold_from, match=match, exact=exact, convention=convention))
    spoof_only = not trials.labels.bonafide.any()
    if spoof_only and (cluster is not None or plot is not None or asv is not None):
        raise typer.BadParameter(
            f"{trials.labels.name} has no bona fide trials: leave out --cluster, --plot and --asv."
        )
    if spoof_only and len(thresholds) != 1:
        raise typer.BadParameter(
            f"{trials.labels.name} has no bona fide trials, and so no EER: give one threshold by --threshold-from or "
            "--threshold."
        )
    submission = None
    if result is not None:
        submission = SubmissionOptions(
            dataset=dataset,
            revision=revision,
            system={
                "name": system,
                "slug": slug,
                "description": description,
                "code": code,
                "checkpoint": checkpoint,
            },
            scores_url=scores_url,
            bench_version=bench_version,
            hf_username=hf_username,
            contact=contact,
            meta=submission_meta,
            threshold_dataset=threshold_dataset,
        ).make_result(scores, trials.labels, thresholds[0] if spoof_only else None)
    if spoof_only:
        _evaluate_spoof_only(
            trials, thresholds[0], exact=exact, common=common, by=by or (), resamples=resamples, seed=seed, json=as_json
        )
    else:
        from spectra_jax.evaluation.evaluate import evaluate
        from spectra_jax.evaluation.metrics import Costs

        found = evaluate(
            trials.scores,
            trials.labels,
            exact=exact,
            common=common,
            by=by or (),
            cluster=cluster,
            resamples=resamples,
            seed=seed,
            costs=Costs(*costs),
            thresholds=thresholds,
            convention=convention,
        )
        _print(found, None if asv is None else _evaluate_tandem(found, asv, asv_key, trials.subset), plot, json=as_json)
    if submission is not None and result is not None:
        from spectra_jax.arena.result import write_result

        write_result(submission, result)
        print_message(f"the Arena's result -> {result}")


@dataclass(frozen=True)
class _Trials:
    """A score file and its labels, and the subset that they are of, if one was taken."""

    scores: Scores
    labels: Labels
    subset: str | None


def _read(
    path: Path,
    labels: Path | None,
    match: MatchName,
    subset: str | None,
    convention: Convention,
    dataset: str | None,
    revision: str | None,
) -> _Trials:
    from spectra_jax.data.labels import labels_of, subset_counts, take_subset

    (scores,), known = read_tables([path], labels, match, subset)
    if known is None and dataset is not None:
        known = fetch_labels(dataset, revision)
    known = known or labels_of(scores)
    counts = subset_counts(known.columns)
    if subset is None and convention == "asvspoof" and len(counts) > 1 and "eval" in counts:
        subset = "eval"
        (scores,), known = take_subset([scores], known, subset)
        print_message(f"{printable(known.name)}: takes the subset eval ({counts['eval']:,} trials), as ASVspoof does")
    return _Trials(scores, known, subset)


def _equal_error_threshold(path: Path, labels: Path, *, match: MatchName, exact: bool, convention: Convention) -> float:
    """The threshold of the EER of another dataset's scores."""
    from spectra_jax.evaluation.evaluate import evaluate

    (scores,), known = read_tables([path], labels, match, None)
    found = evaluate(scores, known, exact=exact, convention=convention, resamples=0)
    print_message(
        f"{printable(found.name)}: an EER of {found.eer_percent:.3f} % at the threshold {found.threshold:.6f}"
    )
    return found.decision_threshold


def _evaluate_spoof_only(
    trials: _Trials,
    threshold: float,
    *,
    exact: bool,
    common: bool,
    by: Sequence[str],
    resamples: int,
    seed: int,
    json: bool,
) -> None:
    from spectra_jax.evaluation.spoof_only import evaluate_spoof_only
    from spectra_jax.reporting.evaluation_table import print_spoof_only

    found = evaluate_spoof_only(
        trials.scores, trials.labels, threshold, exact=exact, common=common, by=by, resamples=resamples, seed=seed
    )
    if json:
        print_json(found.to_dict())
    else:
        print_spoof_only(found, stdout())


def _evaluate_tandem(found: Evaluation, asv: Path, key: Path | None, subset: str | None) -> TandemEvaluation:
    from spectra_jax.data.asv_scores import read_asv_scores
    from spectra_jax.evaluation.tandem import evaluate_tandem

    return evaluate_tandem(found, read_asv_scores(asv, key, subset=subset))


def _print(found: Evaluation, tandem: TandemEvaluation | None, plot: Path | None, *, json: bool) -> None:
    from spectra_jax.reporting.evaluation_table import print_evaluation, print_tandem
    from spectra_jax.reporting.hints import evaluation_hints

    print_pooled_subsets(found.labels_name, found.subsets)
    for hint in evaluation_hints(found):
        print_message(hint)
    if plot is not None:
        from spectra_jax.reporting.papers import plot_det

        plot_det([found], plot)
        print_message(f"DET curve -> {plot}")
    if json:
        print_json(found.to_dict() | ({} if tandem is None else {"tandem": tandem.to_dict()}))
        return
    print_evaluation(found, stdout())
    if tandem is not None:
        print_tandem(tandem, stdout())
