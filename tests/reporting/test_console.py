"""Tables on narrow terminals: nothing is cut, whatever the names are, and no control character gets through."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from spectra_jax.data.labels import Labels
from spectra_jax.data.score_files import Scores
from spectra_jax.data.trial import Trial
from spectra_jax.evaluation import compare as comparison
from spectra_jax.evaluation import evaluate as evaluation
from spectra_jax.inference import results
from spectra_jax.inference.results import Result
from spectra_jax.reporting.console import Column, SafeConsole, print_table
from spectra_jax.verification.run import Divergence, Stage
from tests.conftest import GOLDEN, spectra

N = 120
LONG = "corpus-of-a-long-name/speaker_{:03d}/utterance_{:06d}_with_a_tail"
IDS = np.array([LONG.format(index, index) for index in range(N)], object)
BONAFIDE = np.arange(N) < 40
ATTACKS = ("tts_models--multilingual--multi-dataset--xtts_v2", "A07")
POOL = "branch2.pool_t_of_a_graph_with_a_long_name"


def systems() -> tuple[Scores, Scores, Labels]:
    random = np.random.default_rng(0)
    values = random.normal(size=N) + 2 * BONAFIDE
    columns = {"smallest_rank_gap": np.full(N, 1e-3), "rank_gap_pool": np.full(N, POOL, object)}
    one = Scores("runs/of/last/week/on/the/big/machine/scores_of_jax.csv", IDS, values, columns)
    other = Scores("runs/of/last/week/scores_of_torch.csv", IDS, values + random.normal(scale=0.1, size=N))
    attack = np.where(BONAFIDE, "-", np.array(ATTACKS, object)[np.arange(N) % 2]).astype(object)
    return one, other, Labels("labels", IDS, BONAFIDE, {"attack": attack})


def show_results(console: Console) -> list[str]:
    rows = [
        Result(
            *(Trial(IDS[0], Path("a.wav"), "bonafide"), (0.0, -1234.5678), 123456.25),
            rank_gap=1.5e-6,
            rank_gap_pool=POOL,
            spoof_probability=0.5,
        ),
        Result(Trial(IDS[1], Path("b.wav"), "spoof"), None, error="/corpus/broken.wav: not an audio file"),
    ]
    results.table(rows, console)
    return [IDS[0], IDS[1], "-1234.5678", "bonafide"]


def show_evaluation(console: Console) -> list[str]:
    one, _, labels = systems()
    evaluation.table(evaluation.evaluate(one, labels, by=["attack"], resamples=20), console)
    return [*ATTACKS, "95 % interval"]


def show_comparison(console: Console) -> list[str]:
    one, other, labels = systems()
    found = comparison.compare(one, other, labels, resamples=20)
    comparison.table(found, console)
    return [str(row["utterance_id"]) for row in found.numbers["worst"]] + [one.name, other.name]


def show_stages(console: Console) -> list[str]:
    # The command of that name hides the module.
    module = sys.modules["spectra_jax.cli.verify"]
    stages = [Stage("ssl.layer12.of_an_encoder", 1e-7, False), Stage("branch2.pool_t.of_a_long_name", 1e-2, True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "stdout", lambda: console)
        module._show(Divergence(stages[1].name, stages, [IDS[0]]))
    return [IDS[0], *(stage.name for stage in stages)]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("show", [show_results, show_evaluation, show_comparison, show_stages])
def test_nothing_is_cut_on_a_narrow_terminal(show: Callable[[Console], list[str]], width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    whole = show(console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in printed
    if width >= 60:
        assert max(map(len, printed.splitlines())) <= width
    if show is show_results:
        assert "-1234.5678" in printed and "bonafide" in printed, "in one line"
    lines = printed.splitlines()
    rows = [[cell.strip() for cell in line.strip("│┃").split("│" if "│" in line else "┃")] for line in lines]
    widest = max(map(len, rows))
    columns = ["".join(row[index] for row in rows if index < len(row)) for index in range(widest)]
    for text in whole:
        assert any(text.replace(" ", "") in column.replace(" ", "") for column in columns), text


def test_columns_are_left_out_in_their_order_and_named() -> None:
    columns = [Column("id", "text"), Column("one", "number", optional=1), Column("two", "number", optional=2)]
    rows = [["x" * 30, "123456789", "987654321"]]
    for width, left_out in ((60, None), (43, "one"), (30, "one, two"), (20, "one, two")):
        console = Console(file=io.StringIO(), width=width)
        print_table(console, columns, rows)
        printed = console.file.getvalue()  # type: ignore[attr-defined]
        assert printed.count("x") == 30
        for name, cell in (("one", "123456789"), ("two", "987654321")):
            assert (cell in printed) == (left_out is None or name not in left_out)
        assert (f"{left_out}." in printed) == (left_out is not None)


def test_names_are_neither_markup_nor_commands_to_a_terminal() -> None:
    console = SafeConsole(file=io.StringIO(), width=100, force_terminal=True, color_system=None)
    name = "[red]a[/red]\x1b[2J\x9b31m\u202eb"
    print_table(console, [Column(name, "text")], [[name]], title=name)
    ids = np.array([name, "b"], object)
    one = Scores(name, ids, np.array([0.0, 1.0]))
    comparison.table(comparison.compare(one, Scores("b", ids, np.array([0.5, 1.0]))), console)
    labels = Labels(name, ids, np.array([True, False]), {name: ids})
    evaluation.table(evaluation.evaluate(one, labels, by=[name], cluster=name, resamples=10), console)
    results.table([Result(Trial(name, Path("a.wav")), None, error=name)], console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert r"[red]a[/red]\x1b[2J\x9b31m\u202eb" in printed
    assert not any(mark in printed for mark in ("\x1b[2J", "\x9b", "\u202e"))


def test_info_folds_long_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / ("folder_of_a_long_name_" * 4)
    shutil.copytree(GOLDEN / "tiny", folder)
    module = sys.modules["spectra_jax.cli.info"]
    console = Console(file=io.StringIO(), width=60)
    monkeypatch.setattr(module, "stdout", lambda: console)
    assert spectra(monkeypatch, "info", folder) == 0
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in printed and max(map(len, printed.splitlines())) <= 60
    assert str(folder) in "".join(line[12:].strip() for line in printed.splitlines())
