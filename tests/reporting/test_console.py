"""Tables on narrow terminals: nothing is truncated, whatever the names are, and control characters are escaped."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from spectra_jax.data.trial import Trial
from spectra_jax.inference.results import Result
from spectra_jax.reporting.console import Column, SafeConsole, number, print_table
from spectra_jax.reporting.results_table import print_results
from spectra_jax.verification.run import Divergence, Stage
from tests.conftest import GOLDEN, spectra
from tests.reporting.conftest import LONG_IDS, LONG_POOL, check_escaped, check_nothing_truncated


def show_results(console: Console) -> list[str]:
    rows = [
        Result(
            *(Trial(LONG_IDS[0], Path("a.wav"), "bonafide"), (0.0, -1234.5678), 123456.25),
            rank_gap=1.5e-6,
            rank_gap_pool=LONG_POOL,
            spoof_probability=0.5,
        ),
        Result(Trial(LONG_IDS[1], Path("b.wav"), "spoof"), None, error="/corpus/broken.wav: not an audio file"),
    ]
    print_results(rows, console)
    return [LONG_IDS[0], LONG_IDS[1], "-1234.5678", "bonafide"]


def show_stages(console: Console) -> list[str]:
    # The command of that name hides the module.
    module = sys.modules["spectra_jax.cli.verify"]
    stages = [Stage("ssl.layer12.of_an_encoder", 1e-7, False), Stage("branch2.pool_t.of_a_long_name", 1e-2, True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "stdout", lambda: console)
        module._show(Divergence(stages[1].name, stages, [LONG_IDS[0]]))
    return [LONG_IDS[0], *(stage.name for stage in stages)]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("show", [show_results, show_stages])
def test_nothing_is_truncated_on_a_narrow_terminal(show: Callable[[Console], list[str]], width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    texts = show(console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    check_nothing_truncated(printed, width, texts)
    assert show is show_stages or ("-1234.5678" in printed and "bonafide" in printed), "in one line"


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


def test_names_are_neither_markup_nor_commands_to_a_terminal(hostile: tuple[SafeConsole, str]) -> None:
    console, name = hostile
    print_table(console, [Column(name, "text")], [[name]], title=name)
    print_results([Result(Trial(name, Path("a.wav")), None, error=name)], console)
    check_escaped(console)


@pytest.mark.parametrize(
    ("value", "digits", "shown"), [(1.23456, 3, "1.235"), (-1e11, 1, "-100000000000.0"), (1e12, 2, "1.00e+12")]
)
def test_large_numbers_are_in_scientific_notation(value: float, digits: int, shown: str) -> None:
    assert number(value, digits) == shown


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
