"""The README: every command is run, what it shows is what is printed, and every link leads somewhere."""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import typer

from spectra_jax import cli
from spectra_jax.inference.results import Result, write

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]

NOT_RUN = {
    "pip install -e .": "installs the package; this environment has it",
    "make test": "runs the tests",
}
INSTEAD = {
    "--output runs/tuned": ("--output runs/tuned --config short.json", "2,000 steps take a quarter of an hour"),
    "make demo": ("examples.demo", "this environment is installed already"),
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands() -> Iterator[tuple[str, str]]:
    """Each command of the console blocks, without its comment, and the output shown below it."""
    for block in blocks("console"):
        for command, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            yield shlex.join(shlex.split(command, comments=True)), shown


def assert_same(found: str, shown: str) -> None:
    """The same text, with numbers that agree to half a unit of the last digit shown, and one unit for rounding."""
    number = r"[-+]?\d+(?:\.\d+)?"
    assert re.sub(number, "#", found).split() == re.sub(number, "#", shown).split()
    for one, other in zip(re.findall(number, found), re.findall(number, shown), strict=True):
        assert float(one) == pytest.approx(float(other), abs=1.5 * 10.0 ** -len(other.partition(".")[2]))


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with what a clone has beside the package, where commands may write."""
    for name in ("examples", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "short.json").write_text('{"training": {"steps": 2, "batch_size": 4, "evaluate_every": 2}}')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_commands_run_and_print_what_is_shown(clone: Path) -> None:
    ran = 0
    for command, shown in commands():
        if command in NOT_RUN:
            continue
        for word, (instead, _) in INSTEAD.items():
            command = command.replace(word, instead)
        run = subprocess.run(
            [sys.executable, "-m", *shlex.split(command.replace("spectra-jax", "spectra_jax", 1))],
            capture_output=True,
            text=True,
            # Most of the time is compiling.
            env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        )
        assert run.returncode == 0, f"{command}\n{run.stderr}"
        if shown:
            assert_same(run.stdout, shown)
        ran += 1
    assert ran >= 4 and (clone / "tuned.jsonl").is_file()


def test_what_is_not_run_is_in_the_readme_and_can_be() -> None:
    listed = [command for command, _ in commands()]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for command in NOT_RUN:
        assert command in listed
        assert not command.startswith("make ") or command.removeprefix("make ") in targets


@pytest.mark.parametrize("word", re.findall(r"`(spectra-jax \w+[^`]*|score --[^`]*)`", README))
def test_commands_in_sentences_have_options_that_exist(word: str) -> None:
    name, *words = shlex.split(word.removeprefix("spectra-jax "))
    known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert {option for option in words if option.startswith("-")} <= known


def test_the_table_of_commands_is_complete() -> None:
    assert re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE) == list(COMMANDS)


@pytest.mark.slow
@pytest.mark.usefixtures("unoptimized")
def test_python_prints_what_is_shown(clone: Path) -> None:
    for block in blocks("python"):
        output = io.StringIO()
        with redirect_stdout(output):
            exec(compile(block, "README.md", "exec"), {})
        assert_same(output.getvalue(), "\n".join(re.findall(r"^print\(.*\)  # (.*)$", block, re.MULTILINE)))


def test_the_columns_of_a_csv(tmp_path: Path) -> None:
    results: list[Result] = []
    write(results, tmp_path / "empty.csv")
    (columns,) = re.findall(r"columns `(utterance_id[^`]*)`", README)
    assert (tmp_path / "empty.csv").read_text().strip().split(",") == re.split(r",\s+", columns)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)", README))))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_the_first_screen_and_the_length() -> None:
    assert len(README.splitlines()) <= 130
    first = "\n".join(README.splitlines()[:45])
    assert all(text in first for text in ("pip install", "spectra-jax score", "score_batch", ".svg"))
    for picture in re.findall(r"!\[[^]]+\]\(([^)]+\.svg)\)", README):
        assert "<svg" in (ROOT / picture).read_text(encoding="utf-8")
