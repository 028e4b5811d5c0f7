"""Names and shapes of the tensors of published encoders, from transformers' own classes, without weights."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch, transformers)")
pytest.importorskip("transformers", reason="needs the extra `parity` (torch, transformers)")

from spectra_jax.convert.encoder import WEIGHT_NORM  # noqa: E402
from spectra_jax.convert.encoder_file import expected_tensors  # noqa: E402
from spectra_jax.convert.transformers_config import encoder_config  # noqa: E402
from tests.convert.published_encoders import PUBLISHED  # noqa: E402
from tests.docs.pages import DOCS  # noqa: E402
from tests.encoders.saved_models import CLASSES  # noqa: E402

pytestmark = pytest.mark.parity


@cache
def _live_shapes(model_type: str, fields: tuple[tuple[str, Any], ...]) -> dict[str, tuple[int, ...]]:
    """The shapes of a live model. Several published encoders have the same architecture."""
    config_class, model_class = CLASSES[model_type]
    with torch.device("meta"):
        state = model_class(config_class(**dict(fields))).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_table_expects_the_tensors_of_the_published_model(name: str) -> None:
    published = PUBLISHED[name]
    live = _live_shapes(published.model_type, tuple(sorted(published.fields.items())))
    # As in a `config.json`, which states what differs from the defaults.
    config = encoder_config({"model_type": published.model_type, **published.fields})
    expected = {tensor: spec.shape for tensor, spec in expected_tensors(config).items()}
    assert expected == live
    assert set(WEIGHT_NORM) <= set(live)
    parameters = sum(map(math.prod, live.values()))
    assert parameters == published.parameters
    low, high = published.stated
    assert low <= parameters / 1e6 <= high


def test_the_guide_states_each_published_encoder_and_its_parameters() -> None:
    rows = [line for line in (DOCS / "guides" / "encoders.md").read_text().splitlines() if line.startswith("| `")]
    for name, published in PUBLISHED.items():
        (row,) = (row for row in rows if f"`{name}`" in row)
        assert f"{published.parameters:,}" in row
