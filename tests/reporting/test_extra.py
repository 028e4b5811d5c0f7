"""Without the extra `report`, pages and figures are refused before any work, and evaluation needs none of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spectra_jax.errors import InputError
from spectra_jax.reporting.page import write_report
from spectra_jax.reporting.papers import require_figure


@pytest.mark.parametrize("package", ["altair", "vl_convert"])
def test_the_missing_package_and_the_extra_are_named(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Python takes a module that is None for one that is not installed.
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"need {package}: pip install 'spectra-jax\[report\]'"
    with pytest.raises(InputError, match=message):
        write_report([tmp_path / "not read.csv"], tmp_path / "r.html")
    with pytest.raises(InputError, match=message):
        require_figure(tmp_path / "det.png")
    assert list(tmp_path.iterdir()) == []


def test_tables_on_a_terminal_need_no_extra() -> None:
    modules = "evaluation_table, comparison_table, hints, page, papers, systems, curves"
    program = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(('altair', 'vl_convert', 'jinja2', 'PIL', 'matplotlib'))\n"
        f"from spectra_jax.reporting import {modules}\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
