"""The benchmark as one run: the nine datasets with a reported EER are fetched, scored and compared with the report.

    scorer = ScorerOptions("org/model", diagnostics=True)
    reproduction = reproduce(Settings(Path("reproduction"), scorer), ["SONAR"])
    reproduction.passed, reproduction.results[0].ours.eer_percent

    reproduction/SONAR.json          the commit, the shards with their sizes, and the sample that is scored
    reproduction/SONAR/              a run of `spectra_jax.jobs`, with scores.txt once it is complete
    reproduction/reproduction.json   all figures

| module | holds |
| --- | --- |
| `run` | `reproduce`: prepares, scores and evaluates one dataset after another |
| `settings` | what is reproduced and how |
| `record` | `NAME.json`: what was decided when a dataset was started, and which shards were fetched |
| `prepare` | from a name to a commit, shards, labels and published scores |
| `shards` | shards in the Hub client's cache, of bounded size |
| `source` | the trials of a dataset whose scored shards may be deleted |
| `sampling` | a sample of each label, from a few shards |
| `plan` | what is left to score, and for how long |
| `results` | EERs, intervals and differences |
"""

from spectra_jax.reproduction.plan import Plan, PlannedDataset
from spectra_jax.reproduction.results import DatasetResult, Reproduction, SystemFigures
from spectra_jax.reproduction.run import Observer, reproduce
from spectra_jax.reproduction.settings import Settings

__all__ = [
    "DatasetResult",
    "Observer",
    "Plan",
    "PlannedDataset",
    "Reproduction",
    "Settings",
    "SystemFigures",
    "reproduce",
]
