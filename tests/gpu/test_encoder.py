"""Speech encoders on the GPU give what they give on the CPU: padded batches, and the families."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from flax import nnx

from spectra_jax.model.encoder import SpeechEncoder
from tests.model.encoder.small import noise, small_config

pytestmark = pytest.mark.gpu

SAMPLES, LENGTHS = 800, np.array([800, 401, 97], np.int32)


# In bfloat16 both round, at different steps: up to 5e-2 from float64 with such random weights.
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("bfloat16", 8e-2), ("float16", 1e-2)])
@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "wavlm"])
@pytest.mark.parametrize("padded", [False, True])
def test_hidden_states_are_those_of_the_cpu(
    family: str, padded: bool, precision: str, tolerance: float, gpu: jax.Device, cpu: jax.Device
) -> None:
    # Heads that cuDNN's attention takes.
    config = small_config(
        model_type=family,
        hidden_size=32,
        feat_extract_norm="group" if family == "hubert" else "layer",
        do_stable_layer_norm=family != "hubert",
    )
    graph, state = nnx.split(SpeechEncoder(config, precision=precision, rngs=nnx.Rngs(0)))
    run = jax.jit(lambda state, x, lengths: nnx.merge(graph, state).hidden_states(x, lengths))
    arguments = (state, noise(3, SAMPLES), LENGTHS if padded else None)
    on_gpu, on_cpu = (run(*jax.device_put(arguments, device)) for device in (gpu, cpu))
    assert len(on_gpu) == config.num_hidden_layers + 1
    frames = [config.num_frames(int(length)) if padded else on_cpu[0].shape[1] for length in LENGTHS]
    for found, wanted in zip(on_gpu, on_cpu, strict=True):
        # Padded frames have no meaning.
        for row, valid in enumerate(frames):
            difference = np.abs(np.asarray(found[row, :valid]) - np.asarray(wanted[row, :valid]))
            assert np.max(difference) <= tolerance * np.max(np.abs(wanted[row, :valid]))
