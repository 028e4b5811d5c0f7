"""Print the README's parity table: how far each stage of the golden networks is from the reference.

    python -m benchmarks.parity          # the tiny network, seconds
    python -m benchmarks.parity --full   # the full-size one too, with seeded weights: 4 GiB and a minute or two

Run from the root of a checkout, since the golden data are in `tests/golden`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file

import spectra_jax
from spectra_jax.model.spectra import stages
from tests.golden import recipe

# Row of the table -> its stages.
ROWS = {
    "feature extractor": ("ssl.feature_extractor",),
    "feature projection": ("ssl.feature_projection",),
    "positional convolution": ("ssl.pos_conv_embed",),
    "last hidden state": ("ssl.last_hidden_state",),
    "bridge": ("bridge",),
    "residual encoder": ("residual_encoder",),
    "attention map": ("attention",),
    "graph attention and pools": ("gat_s", "gat_t", "pool_s", "pool_t"),
    "four branches": tuple(
        f"branch{k}.{part}"
        for k in range(1, 5)
        for part in ("st1.0", "st1.1", "st1.2", "pool_s", "pool_t", "0", "1", "2")
    ),
    "head's input": ("pooled",),
}


def errors(network: str, model_path: Path) -> dict[str, tuple[float, float, float]]:
    """Per row: largest |error| over the stage's rms in float64, in float32, and of the reference's own float32."""
    golden = recipe.GOLDEN / network
    expected = json.loads((golden / "expected.json").read_text())
    reference = load_file(golden / "stages.safetensors")
    windows = np.stack([recipe.preprocess(recipe.waveform(w["seed"], w["samples"])) for w in expected["waveforms"]])
    checkpoint = spectra_jax.open_checkpoint(model_path)
    found = {}
    for precision in ("float64", "float32"):
        with jax.enable_x64(precision == "float64"):
            found_stages = stages(spectra_jax.load_model(checkpoint, precision), jnp.asarray(windows))
            found[precision] = {name: np.asarray(value, np.float64) for name, value in found_stages.items()}

    def error(name: str, precision: str) -> float:
        value, stage = found[precision][name], expected["stages"][name]
        if "flat_stride" in stage:
            value = value.reshape(len(value), -1)[:, :: stage["flat_stride"]][:, : reference[name].shape[1]]
        return float(np.max(np.abs(value - reference[name])) / stage["rms"])

    def of_reference(name: str) -> float:
        return expected["stages"][name]["reference_float32_max_abs_error"] / expected["stages"][name]["rms"]

    table = {
        row: (
            max(error(name, "float64") for name in names),
            max(error(name, "float32") for name in names),
            max(of_reference(name) for name in names),
        )
        for row, names in ROWS.items()
    }
    logits = np.array([w["logits_float64"] for w in expected["waveforms"]])
    reference_float32 = np.array([w["logits_float32"] for w in expected["waveforms"]])
    table["**logits**, absolute"] = (
        float(np.max(np.abs(found["float64"]["logits"] - logits))),
        float(np.max(np.abs(found["float32"]["logits"] - logits))),
        float(np.max(np.abs(reference_float32 - logits))),
    )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="the full-size network too")
    full = parser.parse_args().full
    tables = {"tiny": errors("tiny", recipe.GOLDEN / "tiny")}
    if full:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            recipe.write_full_checkpoint(path)
            tables["full"] = errors("full", path)
    heads = [f"{network} {column}" for network in tables for column in ("float64", "float32", "(reference's float32)")]
    print("| stage |", " | ".join(heads), "|")
    print("| --- |" + " ---: |" * len(heads))
    for row in tables["tiny"]:
        cells = [f"{value:.1e}" for table in tables.values() for value in table[row]]
        print(f"| {row} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
