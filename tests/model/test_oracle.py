"""The PyTorch oracle and the seeded recipe against the golden data, so that both may be trusted elsewhere."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra `parity` (torch, transformers)")
pytest.importorskip("transformers", reason="needs the extra `parity` (torch, transformers)")

from safetensors.numpy import load_file  # noqa: E402 (torch may be absent, which skips this file above)

from tests.golden import recipe  # noqa: E402
from tests.oracle.spectra_torch import (  # noqa: E402
    SpectraAASIST3,
    checkpoint_shapes,
    cox_de_boor,
    load_oracle,
)

pytestmark = pytest.mark.parity

TINY, FULL = recipe.GOLDEN / "tiny", recipe.GOLDEN / "full"

# Float64 differs by rounding only. The measured differences are 3e-14 (tiny) and 2e-14 (full); the bound leaves
# room for another BLAS.
FLOAT64_ERROR = 1e-11
# Stages are stored in float32: a value on a rounding boundary may land one unit in the last place away.
FLOAT32_UNIT = 2.0**-23
# In float32 the logits are comparable only above this rank gap, and then to this error.
COMPARABLE_GAP, FLOAT32_ERROR = 2e-5, 1e-4


@dataclass(frozen=True)
class Run:
    """One float64 run of a golden network over its golden waveforms."""

    expected: dict[str, Any]
    stored: dict[str, np.ndarray]
    windows: np.ndarray  # (b, 64600) float32
    stages: dict[str, np.ndarray]
    gaps: np.ndarray  # (b,)


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def windows_of(waveforms: list[dict[str, Any]]) -> np.ndarray:
    return np.stack([recipe.preprocess(recipe.waveform(w["seed"], w["samples"])) for w in waveforms])


def run(folder: Path, model: SpectraAASIST3) -> Run:
    expected = read(folder / "expected.json")
    windows = windows_of(expected["waveforms"])
    inputs = torch.from_numpy(windows).double()
    with torch.no_grad():
        stages = {name: stage.numpy() for name, stage in model.stages(inputs).items()}
    gaps, _ = model.rank_gaps(inputs)
    return Run(expected, load_file(folder / "stages.safetensors"), windows, stages, gaps.numpy())


@pytest.fixture(scope="module")
def tiny_model() -> SpectraAASIST3:
    return load_oracle(TINY / "config.json", load_file(TINY / "model.safetensors"), torch.float64)


@pytest.fixture(scope="module")
def tiny(tiny_model: SpectraAASIST3) -> Run:
    return run(TINY, tiny_model)


@pytest.fixture(scope="module")
def full() -> Run:
    seed = read(FULL / "expected.json")["weights_seed"]
    tensors = recipe.seeded_checkpoint(recipe.published_shapes(), seed, hidden_size=1024)
    return run(FULL, load_oracle(FULL / "config.json", tensors, torch.float64))


def check_logits(run: Run) -> None:
    trials = run.expected["waveforms"]
    np.testing.assert_allclose(run.stages["logits"], [t["logits_float64"] for t in trials], rtol=0, atol=FLOAT64_ERROR)
    np.testing.assert_allclose(run.gaps, [t["smallest_pool_rank_gap"] for t in trials], rtol=0, atol=FLOAT64_ERROR)


# The recipe


def test_recipe_gives_the_tiny_checkpoint_bit_for_bit() -> None:
    stored = load_file(TINY / "model.safetensors")
    seeded = recipe.seeded_checkpoint(recipe.tiny_shapes(), seed=11, hidden_size=64)
    assert seeded.keys() == stored.keys()
    for name, tensor in seeded.items():
        assert tensor.dtype == stored[name].dtype, name
        np.testing.assert_array_equal(tensor, stored[name], err_msg=name)


def test_recipe_gives_the_golden_windows_bit_for_bit() -> None:
    np.testing.assert_array_equal(
        windows_of(read(TINY / "expected.json")["waveforms"]), load_file(TINY / "stages.safetensors")["input"]
    )
    np.testing.assert_array_equal(
        windows_of(read(FULL / "expected.json")["waveforms"])[:, ::64], load_file(FULL / "stages.safetensors")["input"]
    )


def test_recipe_rejects_a_name_no_checkpoint_has() -> None:
    with pytest.raises(KeyError, match=r"aasist\.nonsense"):
        recipe.seeded_tensor("aasist.nonsense", (2, 2), seed=0, hidden_size=64)


# Names and shapes


def test_published_names_shapes_and_dtypes() -> None:
    assert checkpoint_shapes({}) == recipe.published_shapes()
    rows = [line.split("\t") for line in (recipe.GOLDEN / "checkpoint_tensors.tsv").read_text().splitlines()[1:]]
    with torch.device("meta"):
        state = SpectraAASIST3({}).state_dict()
    dtypes = {"F32": torch.float32, "I64": torch.int64}
    assert {name: tensor.dtype for name, tensor in state.items()} == {name: dtypes[dtype] for name, dtype, _ in rows}


def test_published_parameter_count() -> None:
    with torch.device("meta"):
        model = SpectraAASIST3({})
    assert sum(parameter.numel() for parameter in model.parameters()) == read(FULL / "expected.json")["parameters"]


def test_tiny_names_and_shapes() -> None:
    assert checkpoint_shapes(read(TINY / "config.json")) == recipe.tiny_shapes()


def test_fresh_model_has_the_published_knots() -> None:
    model = SpectraAASIST3(read(TINY / "config.json"))
    grids = {name: buffer.numpy() for name, buffer in model.named_buffers() if name.endswith(".grid")}
    assert grids
    for name, grid in grids.items():
        np.testing.assert_array_equal(grid, np.tile(recipe.KNOTS, (grid.shape[0], 1)), err_msg=name)


# Loading


def test_loading_is_strict() -> None:
    tensors = load_file(TINY / "model.safetensors")
    block = "aasist.enc.enc.0.0.conv1.weight"
    renamed = {name.replace("enc.enc.0.0.", "enc.enc.0."): tensor for name, tensor in tensors.items()}
    with pytest.raises(RuntimeError, match=block):
        load_oracle(TINY / "config.json", renamed)
    with pytest.raises(RuntimeError, match=block):
        load_oracle(TINY / "config.json", {**tensors, block: tensors[block][..., :2]})


def test_older_weight_norm_names_load_the_same(tiny_model: SpectraAASIST3) -> None:
    conv = "ssl_encoder.model.encoder.pos_conv_embed.conv."
    older = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    tensors = load_file(TINY / "model.safetensors")
    for new, old in older.items():
        tensors[conv + old] = tensors.pop(conv + new)
    state = load_oracle(read(TINY / "config.json"), tensors, torch.float64).state_dict()
    assert state.keys() == tiny_model.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in tiny_model.state_dict().items())


# The tiny network


def test_tiny_logits(tiny: Run) -> None:
    check_logits(tiny)


def test_tiny_stages(tiny: Run) -> None:
    assert tiny.stages.keys() == tiny.stored.keys() - {"input"}
    for name, stage in tiny.stages.items():
        np.testing.assert_allclose(
            stage.astype(np.float32), tiny.stored[name], rtol=FLOAT32_UNIT, atol=FLOAT64_ERROR, err_msg=name
        )


def test_tiny_forward_is_the_last_stage(tiny: Run, tiny_model: SpectraAASIST3) -> None:
    with torch.no_grad():
        logits = tiny_model(torch.from_numpy(tiny.windows[:1]).double())
    np.testing.assert_allclose(logits.numpy(), tiny.stages["logits"][:1], rtol=0, atol=FLOAT64_ERROR)


def test_near_ties(tiny_model: SpectraAASIST3) -> None:
    trials = read(recipe.GOLDEN / "near_ties.json")["trials"]
    windows = torch.from_numpy(windows_of(trials)).double()
    with torch.no_grad():
        logits = tiny_model(windows)
    gaps, pools = tiny_model.rank_gaps(windows)
    np.testing.assert_allclose(logits.numpy(), [t["logits_float64"] for t in trials], rtol=0, atol=FLOAT64_ERROR)
    np.testing.assert_allclose(gaps.numpy(), [t["smallest_pool_rank_gap"] for t in trials], rtol=0, atol=FLOAT64_ERROR)
    assert pools == [trial["pool"] for trial in trials]


def test_tiny_float32(tiny: Run) -> None:
    model = load_oracle(TINY / "config.json", load_file(TINY / "model.safetensors"), torch.float32)
    with torch.no_grad():
        logits = model(torch.from_numpy(tiny.windows)).numpy()
    comparable = tiny.gaps > COMPARABLE_GAP
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits[comparable], tiny.stages["logits"][comparable], rtol=0, atol=FLOAT32_ERROR)


# Sizes and modes that the golden data do not have

SMALL = {
    "encoder": {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 40,
        "conv_dim": [16, 8, 8],
        "conv_kernel": [10, 8, 4],
        "conv_stride": [5, 8, 4],
        "num_conv_pos_embeddings": 9,
        "num_conv_pos_embedding_groups": 4,
    },
    "bridge_dim": 20,
    "residual_channels": [[1, 4], [4, 12]],
    "gat_dims": [10, 6],
    "pool_ratios": [0.5, 1.0, 0.4, 0.5],
    "max_frames": 30,
    "num_classes": 3,
    "kan": {"grid_size": 5, "spline_order": 3, "grid_range": [-2.0, 2.0]},
}


@pytest.mark.parametrize("samples", [1800, 4800])
def test_other_sizes(samples: int) -> None:
    torch.manual_seed(0)
    model = SpectraAASIST3(SMALL).eval()
    stages = model.stages(torch.randn(2, samples))
    assert stages["bridge"].shape == (2, (((samples - 10) // 5 + 1 - 8) // 8 + 1 - 4) // 4 + 1, 20)
    assert stages["residual_encoder"].shape[1:3] == (12, 6)
    assert stages["pooled"].shape == (2, 30)
    assert stages["logits"].shape == (2, 3)
    gaps, pools = model.rank_gaps(torch.randn(2, samples))
    assert gaps.shape == (2,) and len(pools) == 2 and bool((gaps >= 0).all())


def test_too_many_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="31 frames, but the temporal positions end at 30"):
        SpectraAASIST3(SMALL)(torch.zeros(1, 5100))


def test_training_mode_drops_out_and_moves_the_statistics() -> None:
    torch.manual_seed(0)
    model = SpectraAASIST3(SMALL).train()
    windows = torch.randn(4, 4800)
    assert not torch.equal(model(windows), model(windows))
    batches = model.aasist.enc.first_bn.num_batches_tracked
    assert batches is not None and int(batches) == 2
    model(windows).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_spline_bases_sum_to_one_inside_the_grid_and_to_zero_outside() -> None:
    knots = torch.from_numpy(recipe.KNOTS).double().expand(1, -1)
    inside = torch.linspace(-1, 1, 101, dtype=torch.float64)[:-1, None]
    torch.testing.assert_close(cox_de_boor(inside, knots, 4).sum(-1), torch.ones_like(inside))
    outside = torch.tensor([[-1.6], [1.5], [7.0]], dtype=torch.float64)
    assert not cox_de_boor(outside, knots, 4).any()


# The full network


@pytest.mark.long
@pytest.mark.full
def test_full_logits(full: Run) -> None:
    check_logits(full)


@pytest.mark.long
@pytest.mark.full
def test_full_stages(full: Run) -> None:
    assert full.stages.keys() == full.stored.keys() - {"input"}
    for name, stage in full.stages.items():
        facts, flat = full.expected["stages"][name], stage.reshape(len(stage), -1)
        assert list(stage.shape) == facts["shape"], name
        np.testing.assert_allclose(
            flat[:, :: facts["flat_stride"]][:, :257].astype(np.float32),
            full.stored[name],
            rtol=FLOAT32_UNIT,
            atol=FLOAT64_ERROR,
            err_msg=name,
        )
        # The sums cover the values between the strides.
        magnitude = np.array(facts["per_trial_abs_sum"])
        np.testing.assert_allclose(np.abs(flat).sum(1), magnitude, rtol=FLOAT64_ERROR, err_msg=name)
        assert np.all(np.abs(flat.sum(1) - facts["per_trial_sum"]) <= FLOAT64_ERROR * magnitude), name
