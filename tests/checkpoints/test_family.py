"""The published detectors: which one a checkpoint is, and what every command does with each."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from spectra_jax import Scorer, hub
from spectra_jax.checkpoints.family import FAMILY, find_back_end, find_detector
from spectra_jax.checkpoints.resolve import open_checkpoint
from spectra_jax.convert import convert
from spectra_jax.data.trial import Trial
from spectra_jax.errors import CheckpointError, ConfigError
from spectra_jax.model.config import BACK_ENDS, SpectraConfig
from tests.conftest import spectra
from tests.hub_stand_in import HubStandIn
from tests.published_detectors import random_checkpoint, small, write_small, write_sparse

CLIP = Path(__file__).parents[2] / "examples" / "corpus" / "eval" / "june_00.flac"
SIBLINGS = ["aasist", "ecapa-tdnn"]


@pytest.mark.parametrize("back_end", BACK_ENDS)
def test_the_back_end_is_found_by_the_names_of_the_weights(back_end: str, tmp_path: Path) -> None:
    names = list(random_checkpoint(small(back_end)).read)
    assert find_back_end(names) == back_end
    assert find_back_end(name for name in names if name.startswith(("encoder.", "bridge."))) is None


def test_the_first_of_the_family_is_the_default_model() -> None:
    assert FAMILY["kan-aasist"].config == SpectraConfig()
    assert FAMILY["kan-aasist"].repository == hub.PUBLISHED
    assert {detector.repository for detector in FAMILY.values()} == set(hub.ONNX_EXPORTS)
    assert find_detector(SpectraConfig(back_end="pool+linear")) is None
    assert find_detector(SpectraConfig(back_end="aasist", head="cosine")) is None


# The Hub has an empty configuration or none, and the number of parameters is the published one: PyTorch's weight norm
# has 128 more.
@pytest.mark.parametrize(
    ("back_end", "config", "parameters", "size"),
    [("aasist", "{\n}", 316_012_174, 1_264_151_840), ("ecapa-tdnn", None, 318_332_226, 1_273_453_560)],
)
def test_the_published_files_are_opened_and_described(
    back_end: str,
    config: str | None,
    parameters: int,
    size: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_sparse(FAMILY[back_end].config, tmp_path / "model.safetensors")
    assert path.stat().st_size == size
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    assert open_checkpoint(tmp_path).config == FAMILY[back_end].config
    assert spectra(monkeypatch, "info", tmp_path) == 0
    printed = capsys.readouterr().out
    assert f"{parameters - 128:,}" in printed
    assert f"{FAMILY[back_end].name}, in the published sizes" in " ".join(printed.split())


@pytest.mark.parametrize("back_end", SIBLINGS)
@pytest.mark.parametrize("stated", [*FAMILY, "pool+linear"])
def test_a_checkpoint_given_as_another_is_named(back_end: str, stated: str, tmp_path: Path) -> None:
    source = write_small(back_end, tmp_path / "source", back_end=stated)
    if stated == back_end:
        assert open_checkpoint(source).config == small(back_end)
        return
    if stated == "pool+linear":
        with pytest.raises(CheckpointError, match="keep this network in the native format"):
            open_checkpoint(source)
        return
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(source)
    first = str(caught.value).splitlines()[0]
    assert f"this is a {FAMILY[back_end].name} checkpoint" in first
    assert f"its configuration is that of a {FAMILY[stated].name} checkpoint" in first
    assert f'set "back_end": "{back_end}" in its config.json' in first
    # The names follow, as for any other difference.
    assert any(problem.startswith("missing tensor") for problem in caught.value.problems)
    assert any(problem.startswith("unexpected tensor") for problem in caught.value.problems)


@pytest.mark.parametrize("back_end", SIBLINGS)
def test_a_native_checkpoint_with_another_configuration_is_named(back_end: str, tmp_path: Path) -> None:
    convert(write_small(back_end, tmp_path / "source"), tmp_path / "native")
    path = tmp_path / "native" / "config.json"
    assert json.loads(path.read_text())["back_end"] == back_end
    path.write_text(json.dumps(small("kan-aasist").to_dict()))
    with pytest.raises(CheckpointError, match=f"this is a {FAMILY[back_end].name} checkpoint, and its configuration"):
        open_checkpoint(tmp_path / "native")


@pytest.mark.parametrize("back_end", SIBLINGS)
def test_a_tensor_too_many_or_too_few_is_reported(back_end: str, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    source = write_small(back_end, tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    gone = next(name for name in tensors if name.endswith("num_batches_tracked"))
    del tensors[gone]
    save_file(tensors | {"extra": np.ones(3, np.float32)}, source / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"not the tensors of a {FAMILY[back_end].name} checkpoint") as caught:
        open_checkpoint(source)
    assert sorted(caught.value.problems) == [f"missing tensor {gone} []", "unexpected tensor extra [3]"]


@pytest.mark.parametrize("back_end", SIBLINGS)
def test_converting_there_and_back_keeps_every_bit(back_end: str, tmp_path: Path) -> None:
    source = write_small(back_end, tmp_path / "source")
    wanted = dict(random_checkpoint(small(back_end)))
    found = dict(open_checkpoint(source))
    assert found.keys() == wanted.keys()
    kernel = "encoder.positional_convolution.conv.kernel"
    for path, array in wanted.items():
        if path == kernel:
            # A magnitude and a direction, whose product is equal within one ulp.
            np.testing.assert_allclose(found[path], array, rtol=2e-7)
        else:
            assert found[path].tobytes() == array.tobytes(), path
    convert(source, tmp_path / "native")
    convert(tmp_path / "native", tmp_path / "torch", "torch")
    # The second time, the direction has unit scale already.
    assert (tmp_path / "torch" / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    assert open_checkpoint(tmp_path / "torch").config == small(back_end)


@pytest.mark.parametrize("back_end", SIBLINGS)
def test_a_sibling_is_scored(back_end: str, tmp_path: Path) -> None:
    source = write_small(back_end, tmp_path / "source")
    scored = next(iter(Scorer(str(source), diagnostics=True).score_trials([Trial("june", CLIP)])))
    assert scored.score is not None and math.isfinite(scored.score)
    # ECAPA-TDNN ranks no nodes.
    assert (scored.rank_gap is None) == (back_end == "ecapa-tdnn")
    convert(source, tmp_path / "native")
    shutil.rmtree(source)
    again = next(iter(Scorer(str(tmp_path / "native"), diagnostics=True).score_trials([Trial("june", CLIP)])))
    assert again.score == scored.score


@pytest.mark.usefixtures("hub_cache")
@pytest.mark.parametrize("config", [None, b"{}", b'{"in_another_format": 1}'])
def test_the_published_repository_has_the_published_sizes(
    config: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_small("ecapa-tdnn", tmp_path / "source")
    files = {"model.safetensors": (source / "model.safetensors").read_bytes()}
    stated = {} if config is None else {"config.json": config}
    with HubStandIn({"lab260/spectra_0": {"main": files | stated}}) as stand_in:
        monkeypatch.setenv("HF_ENDPOINT", stand_in.url)
        with pytest.raises(CheckpointError, match="it has 140 of the 718 tensors") as caught:
            open_checkpoint("lab260/spectra_0")
        assert "ecapa_tdnn.fc6.weight has shape [2, 20], expected [2, 3072]" in caught.value.problems
        stand_in.repos["org/small"] = {"main": files | {"config.json": (source / "config.json").read_bytes()}}
        found = open_checkpoint("org/small")
        # Of other repositories, nothing is known.
        stand_in.repos["org/other"] = {"main": files | {"config.json": b'{"in_another_format": 1}'}}
        with pytest.raises(ConfigError, match="unknown field 'in_another_format'"):
            open_checkpoint("org/other")
    assert found.config == small("ecapa-tdnn") and found.provenance["source"] == "org/small"
