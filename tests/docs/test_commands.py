"""Every command and every Python example of the site is run, and prints what the page shows.

`SPECTRA_JAX_UPDATE_DOCS=1 pytest tests/docs/test_commands.py` writes today's output into the pages instead; lines with
`...` are left as they are.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import os
import shlex
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from spectra_jax import cli
from tests.docs.pages import DOCS, PAGES, ROOT, Block, Step, blocks, matches, steps

pytestmark = pytest.mark.usefixtures("unoptimized")

UPDATE = bool(os.environ.get("SPECTRA_JAX_UPDATE_DOCS"))
COMMANDS: dict[str, Any] = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
RUN = [page for page in PAGES if any(block.reason is None and list(steps(block)) for block in blocks(page))]
NOT_RUN = [page for page in PAGES if any(block.reason is not None for block in blocks(page))]


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like a fresh clone to the examples of a page, and is the current one."""
    for name in ("examples", "tests/golden/tiny"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


# They train, or compare with PyTorch, for a minute.
_LONG = ("guides/train.md", "guides/verify.md")


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.long] if page in _LONG else []) for page in RUN]
)
def test_examples_print_what_the_page_shows(page: str, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    wrong: list[str] = []
    changed: list[tuple[Step, tuple[str, ...]]] = []
    for block in blocks(page):
        if block.reason is not None:
            continue
        for step in steps(block):
            status, output = run(step, names, monkeypatch)
            found = tuple(line.rstrip() for line in output.splitlines())
            # A command whose output the page leaves out only has to succeed.
            shown = not step.expected or matches(step.expected, found)
            if step.language == "pycon":
                shown = matches(step.expected, found)
            if status or not shown:
                wrong.append(f"docs/{page}, line {step.start}: {step.source}\nexit status {status}, printed:\n{output}")
            if not status and not shown and "..." not in "".join(step.expected):
                changed.append((step, found))
    if UPDATE and changed:
        rewrite(page, changed)
        pytest.skip(f"{len(changed)} outputs of docs/{page} were rewritten")
    assert not wrong, "\n\n".join(wrong)


def run(step: Step, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Run a step; its exit status, and what it printed."""
    if step.language == "pycon":
        shows_error = bool(step.expected) and step.expected[0].startswith("Traceback")
        return captured(lambda: exec(compile(step.source, "<page>", "single"), names), brief=shows_error)
    if step.language == "python":
        return captured(lambda: exec(compile(step.source, "<page>", "exec"), names))
    words = words_of(step.source)
    if words[0] == "spectra-jax" and not any(set(word) & set("|<>;&$\n") for word in words):
        monkeypatch.setattr(sys, "argv", words)
        return captured(cli.main)
    command = ["bash", "-o", "pipefail", "-c", step.source]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def words_of(command: str) -> list[str]:
    """The words of a shell command, which a backslash may continue on another line."""
    return shlex.split(command.replace("\\\n", " "), comments=True)


def captured(call: Callable[[], object], *, brief: bool = False) -> tuple[int, str]:
    """Call a function in place of a process; its exit status, and what it printed to either stream.

    With `brief`, an exception is output as well, the first and the last line of its traceback.
    """
    output, status = io.StringIO(), 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            call()
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except Exception as error:
            if brief:
                output.write(f"Traceback (most recent call last):\n{type(error).__name__}: {error}\n")
            else:
                status = 1
                traceback.print_exc()
    return status, output.getvalue()


def rewrite(page: str, changed: list[tuple[Step, tuple[str, ...]]]) -> None:
    """Write the outputs that were found into a page, from its end to its start so that line numbers stay right."""
    path = DOCS / page
    lines = path.read_text(encoding="utf-8").splitlines()
    for step, found in reversed(changed):
        lines[step.start : step.start + len(step.expected)] = found
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("page", NOT_RUN)
def test_commands_that_are_not_run_have_valid_options(page: str) -> None:
    for block in blocks(page):
        if block.reason is not None:
            check_block(page, block)


def check_block(page: str, block: Block) -> None:
    for step in steps(block):
        where = f"docs/{page}, line {step.start}"
        if step.language != "console":
            compile(step.source, where, "exec")
            continue
        words = words_of(step.source)
        while words and "=" in words[0]:  # variables of the environment
            words.pop(0)
        if words[:1] == ["spectra-jax"]:
            check_options(where, words[1:])
        elif words[:2] == ["python", "-m"]:
            check_module(where, words[2], [word for word in words[3:] if word.startswith("--")])


def check_options(where: str, words: list[str]) -> None:
    assert words[0] in COMMANDS, f"{where}: no command {words[0]!r}"
    ends = [index for index, word in enumerate(words) if word in ("|", ">", "2>", "&", "&&", ";")]
    try:
        COMMANDS[words[0]].make_context(words[0], words[1 : min(ends, default=None)])
    except Exception as error:
        raise AssertionError(f"{where}: {words}: {error!r}") from error


def check_module(where: str, name: str, options: list[str]) -> None:
    if name in ("pip", "venv"):
        return
    found = importlib.util.find_spec(f"{name}.__main__") if is_package(name) else importlib.util.find_spec(name)
    assert found is not None and found.origin is not None, f"{where}: no module {name}"
    source = Path(found.origin).read_text(encoding="utf-8")
    for option in options:
        assert option in source, f"{where}: {name} has no option {option}"


def is_package(name: str) -> bool:
    found = importlib.util.find_spec(name)
    return found is not None and found.submodule_search_locations is not None


def test_there_are_examples() -> None:
    assert len(RUN) >= 5, "the pages were not found, or their blocks were not recognised"
