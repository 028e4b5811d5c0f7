"""The network on the GPU against the stages and logits of the reference, in every precision."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest

from spectra_jax.checkpoints.checkpoint import Checkpoint
from tests.conftest import expected
from tests.golden.checks import (
    NEAR_TIES,
    check_golden_rank_gaps,
    check_near_ties,
    check_network,
    check_sums,
    relative_errors,
    run_stages,
)
from tests.gpu.conftest import Submit
from tests.tolerances import NARROW_STAGE_RMS

pytestmark = pytest.mark.gpu

NETWORKS = ["tiny", "full"]
PRECISIONS = ["float64", "float32", "tf32", "bfloat16", "float16"]

Stages = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def recorded(
    background: Submit, tiny_checkpoint: Checkpoint, full_checkpoint: Checkpoint
) -> Mapping[tuple[str, str], Future[Stages]]:
    """All stages by network and precision; those of the tiny network are followed by the near ties."""
    checkpoints = {"full": full_checkpoint, "tiny": tiny_checkpoint}
    more: dict[str, list[Any]] = {"full": [], "tiny": NEAR_TIES}
    return {
        (network, precision): background(
            run_stages, checkpoint, expected(network)["waveforms"] + more[network], precision
        )
        for network, checkpoint in checkpoints.items()
        for precision in PRECISIONS
    }


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("network", NETWORKS)
def test_stages_and_logits_are_as_near_as_on_cpus(
    recorded: Mapping[tuple[str, str], Future[Stages]], network: str, precision: str
) -> None:
    """A GPU adds in another order, as the CPU does for another batch, which the tolerances allow."""
    stages = recorded[network, precision].result()
    print(network, precision, relative_errors(stages, network))
    check_network(stages, network, precision)


def test_float64_ranks_nodes_as_the_reference(recorded: Mapping[tuple[str, str], Future[Stages]]) -> None:
    tiny = recorded["tiny", "float64"].result()
    check_golden_rank_gaps(tiny)
    check_near_ties(tiny)
    check_sums(recorded["full", "float64"].result())


def test_float32_is_not_tf32(recorded: Mapping[tuple[str, str], Future[Stages]]) -> None:
    """TF32 keeps 10 of float32's 23 bits: float32 that ran as TF32 would have the same error."""
    errors = {
        precision: relative_errors(recorded["full", precision].result(), "full") for precision in ("float32", "tf32")
    }
    name = "ssl.last_hidden_state"
    assert errors["tf32"][name] >= 10 * errors["float32"][name], errors


@pytest.mark.parametrize("precision", ["tf32", "bfloat16", "float16"])
@pytest.mark.parametrize("network", NETWORKS)
def test_stages_with_narrow_operands_are_near_the_reference(
    recorded: Mapping[tuple[str, str], Future[Stages]], network: str, precision: str
) -> None:
    """Up to the first graph pool: see the tolerance."""
    stages = recorded[network, precision].result()
    errors = relative_errors(stages, network)
    print(network, precision, errors)
    before_pools = list(errors)[: list(errors).index("gat_s")]
    assert "ssl.last_hidden_state" in before_pools
    assert max(errors[name] for name in before_pools) <= NARROW_STAGE_RMS[precision], errors
    assert np.isfinite(stages["logits"]).all()
