"""Back-ends other than the default one, and the cosine head."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from spectra_jax import Scorer, open_checkpoint
from spectra_jax.checkpoints.checkpoint import Checkpoint
from spectra_jax.checkpoints.family import find_detector
from spectra_jax.checkpoints.load import load_model
from spectra_jax.checkpoints.native import write_native
from spectra_jax.convert import convert
from spectra_jax.data.trial import Trial
from spectra_jax.errors import CheckpointError, ConfigError
from spectra_jax.model.back_ends import CosineHead, PoolLinear
from spectra_jax.model.config import BACK_ENDS, SpectraConfig
from spectra_jax.model.fold import fold_for_inference
from spectra_jax.model.functional import split
from spectra_jax.model.kan import KANLinear
from spectra_jax.model.linear import Linear
from spectra_jax.model.precision import Precision
from spectra_jax.model.spectra import POOLS, SpectraAASIST3, count_parameters, split_with_rank_gaps, stages
from tests.conftest import spectra
from tests.published_detectors import SMALL

pytestmark = pytest.mark.usefixtures("unoptimized")

FULL = Precision.of("float32")
WINDOWS = np.random.default_rng(3).standard_normal((2, 4000)).astype(np.float32) * 0.1
CLIP = Path(__file__).parents[2] / "examples" / "corpus" / "eval" / "june_00.flac"


def small(**fields: Any) -> SpectraConfig:
    return SpectraConfig.from_dict(SMALL | fields)


def built(config: SpectraConfig) -> SpectraAASIST3:
    return SpectraAASIST3(config, rngs=nnx.Rngs(params=0))


def write(config: SpectraConfig, directory: Path) -> dict[str, np.ndarray]:
    """Write a network with random weights in the native format; the weights."""
    state = nnx.to_flat_state(nnx.state(built(config)))
    weights = {".".join(map(str, path)): np.asarray(variable[...]) for path, variable in state}
    read = {path: (lambda array=array: array) for path, array in weights.items()}
    write_native(Checkpoint(config, read, "random", directory), directory)
    return weights


NETWORKS = [
    *(("kan-aasist", "cosine"), ("aasist", "logits"), ("ecapa-tdnn", "cosine")),
    *(("pool+linear", "logits"), ("pool+linear", "cosine")),
]
UNPUBLISHED = [network for network in NETWORKS if network != ("aasist", "logits")]
WITHOUT_POOLS = ("ecapa-tdnn", "pool+linear")


@pytest.fixture(params=NETWORKS, ids="-".join)
def network(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A checkpoint of each of `NETWORKS`."""
    back_end, head = request.param
    write(small(back_end=back_end, head=head), tmp_path / "model")
    return tmp_path / "model"


def test_wrong_names_are_refused_with_the_right_ones() -> None:
    with pytest.raises(
        ConfigError, match='back_end = "asist", but it must be one of kan-aasist, aasist, ecapa-tdnn, pool'
    ):
        small(back_end="asist")
    with pytest.raises(ConfigError, match='head = "arcface", but it must be one of logits, cosine'):
        small(head="arcface")


def test_the_published_configuration_does_not_name_them() -> None:
    assert not {"back_end", "ecapa", "head"} & set(SpectraConfig().to_dict())
    assert SpectraConfig.from_dict(small(back_end="aasist", head="cosine").to_dict()).back_end == "aasist"


def test_a_checkpoint_is_read_scored_and_described(
    network: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scored = next(iter(Scorer(str(network), diagnostics=True).score_trials([Trial("june", CLIP)])))
    assert scored.score is not None and math.isfinite(scored.score)
    config = open_checkpoint(network).config
    assert (scored.rank_gap is None) == (config.back_end in WITHOUT_POOLS)
    if config.head == "cosine":
        assert scored.logits is not None and scored.logits[0] == -scored.logits[1] and -1 <= scored.score <= 1
    assert spectra(monkeypatch, "info", network) == 0
    printed = capsys.readouterr().out
    assert f"{count_parameters(config):,}" in printed
    assert ("scores are cosines" in printed) == (config.head == "cosine")
    known = {
        "kan-aasist": "KAN-AASIST",
        "aasist": "AASIST:",
        "ecapa-tdnn": "ECAPA-TDNN",
        "pool+linear": "mean and standard deviation",
    }
    assert known[config.back_end] in printed


@pytest.mark.slow
@pytest.mark.parametrize("pure", [pytest.param(split, marks=pytest.mark.long), split_with_rank_gaps])
def test_folding_keeps_the_logits(network: Path, pure: Callable[..., Any]) -> None:
    with jax.enable_x64(True):
        model = load_model(open_checkpoint(network), "float64")
        outputs = []
        for each in (model, fold_for_inference(model)):
            forward, *arguments = pure(each)
            outputs.append(np.asarray(jax.jit(forward)(*arguments, WINDOWS)))
    np.testing.assert_allclose(outputs[1], outputs[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("network", UNPUBLISHED, ids="-".join, indirect=True)
def test_the_pytorch_format_of_an_unpublished_network_is_refused(network: Path, tmp_path: Path) -> None:
    config = open_checkpoint(network).config
    assert find_detector(config) is None
    for name in ("torch", "torch.safetensors"):
        with pytest.raises(CheckpointError, match="keep this network in the native format") as caught:
            convert(network, tmp_path / name, "torch")
        assert config.back_end in str(caught.value) and not (tmp_path / name).exists()


def test_weights_of_another_back_end_are_refused(tmp_path: Path) -> None:
    write(small(back_end="aasist"), tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text(json.dumps(SMALL | {"back_end": "pool+linear"}))
    with pytest.raises(CheckpointError, match=r"unexpected tensor aasist\.attention_map"):
        open_checkpoint(tmp_path / "model")


def test_aasist_has_the_graph_of_kan_aasist_with_linear_layers() -> None:
    ours, theirs = built(small()), built(small(back_end="aasist"))
    kinds = [
        {".".join(map(str, path)): type(module) for path, module in nnx.iter_modules(model.aasist)}
        for model in (ours, theirs)
    ]
    assert set(kinds[0]) == set(kinds[1])
    changed = {path for path in kinds[0] if kinds[0][path] is not kinds[1][path]}
    assert changed == {path for path, kind in kinds[0].items() if kind is KANLinear}
    assert {kinds[1][path] for path in changed} == {Linear}
    # PyTorch's: U(-1 / sqrt(n), 1 / sqrt(n)) for n inputs.
    layer = theirs.aasist.gat_s.attended_projection
    assert isinstance(layer, Linear)
    for array in (layer.kernel[...], layer.bias[...]):
        assert 0.8 / math.sqrt(8) < float(jnp.max(jnp.abs(array))) <= 1 / math.sqrt(8)


def test_networks_have_as_many_parameters_as_counted() -> None:
    counts = {name: count_parameters(small(back_end=name)) for name in BACK_ENDS}
    before = sum(
        math.prod(leaf.shape)
        for part in (built(small()).encoder, built(small()).bridge)
        for leaf in jax.tree.leaves(nnx.state(part, nnx.Param))
    )
    # Mean and deviation of 12 features: a kernel (24, 2) and a bias; as a cosine, a direction.
    assert counts["pool+linear"] == before + 50
    assert count_parameters(small(back_end="pool+linear", head="cosine")) == before + 24
    assert counts["pool+linear"] < counts["aasist"] < counts["kan-aasist"]


def test_pool_linear_is_its_formula() -> None:
    layer = PoolLinear(small(back_end="pool+linear"), precision=FULL, rngs=nnx.Rngs(params=1))
    x = np.random.default_rng(0).standard_normal((3, 20, 12)).astype(np.float32)
    assert isinstance(layer.head, Linear)
    kernel, bias = np.asarray(layer.head.kernel[...], np.float64), np.asarray(layer.head.bias[...])
    features = np.concatenate([x.mean(1, np.float64), np.sqrt(x.var(1, np.float64) + 1e-5)], axis=1)
    np.testing.assert_allclose(layer(jnp.asarray(x)), features @ kernel + bias, atol=1e-6)
    # Features that do not change over the frames have a finite gradient.
    constant = jax.grad(lambda x: layer(x).sum())(jnp.ones((1, 5, 12), jnp.float32))
    assert np.isfinite(constant).all()


@pytest.mark.parametrize("back_end", WITHOUT_POOLS)
def test_a_network_without_pools_is_never_near_a_tie(back_end: str) -> None:
    forward, *arguments = split_with_rank_gaps(built(small(back_end=back_end)))
    outputs = np.asarray(jax.jit(forward)(*arguments, WINDOWS))
    assert outputs.shape == (2, 2 + len(POOLS)) and np.isposinf(outputs[:, 2:]).all()
    names = stages(built(small(back_end=back_end)), WINDOWS)
    assert "logits" in names and not any(name.endswith(".scores") for name in names)


@pytest.mark.parametrize("back_end", ["aasist", "pool+linear"])
def test_certifying_computes_only_near_ties_again(back_end: str, tmp_path: Path) -> None:
    write(small(back_end=back_end), tmp_path / "model")
    trials = [Trial("june", CLIP)]
    certified = next(iter(Scorer(str(tmp_path / "model"), certify=True).score_trials(trials)))
    plain = next(iter(Scorer(str(tmp_path / "model"), diagnostics=True).score_trials(trials)))
    if back_end == "pool+linear":
        assert certified == plain and "certified" not in certified.flags
    else:
        assert certified.score == pytest.approx(plain.score, abs=1e-3)


def test_the_cosine_head_is_its_formula() -> None:
    head = CosineHead(6, precision=FULL, rngs=nnx.Rngs(params=0))
    x = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
    direction = np.asarray(head.direction[...], np.float64)
    wanted = x @ direction / (np.linalg.norm(x, axis=1) * np.linalg.norm(direction))
    np.testing.assert_allclose(head(jnp.asarray(x)), np.stack([-wanted, wanted], 1), atol=1e-6)
    # Its length does not matter, and its gradient is finite, for vectors of any length.
    for factor in (1e-30, 1e30):
        np.testing.assert_allclose(head(jnp.asarray(x * np.float32(factor)))[:, 1], wanted, atol=1e-6)
    for value in (0.0, 1e-30, 1e30):
        gradient = jax.grad(lambda x: head(x)[0, 1])(jnp.full((1, 6), value, jnp.float32))
        assert np.isfinite(gradient).all(), value
