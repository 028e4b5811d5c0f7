"""What the pages share."""

from __future__ import annotations

import pytest

pytest.importorskip("jinja2", reason="needs the extra `report`")


def test_the_policy_allows_the_given_scripts() -> None:
    from spectra_jax.reporting.templates import security_policy

    # The sha256 of an empty script, as any shell computes it.
    assert "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=" in security_policy([""])
