"""The packages of the extra `report`."""

from __future__ import annotations

from importlib.util import find_spec

from spectra_jax.errors import InputError

# Modules of the extra, each of a package that a plain installation lacks.
_MODULES = ("altair", "jinja2", "PIL", "vl_convert")


def require_report_extra() -> None:
    """Check that the extra `report` is installed.

    Raises:
      InputError: a package of it is missing.
    """
    if missing := [name for name in _MODULES if find_spec(name) is None]:
        raise InputError(f"reports and figures need {', '.join(missing)}: pip install 'spectra-jax[report]'")
