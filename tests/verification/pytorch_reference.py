"""References for the tests of this folder: a PyTorch module in a directory, and its ONNX export."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.conftest import GOLDEN
from tests.golden import recipe

TINY = GOLDEN / "tiny"


CODE = Path(__file__).parents[1] / "programs" / "torch_reference.py"


# A weight of each part of the network, and the first stage that differs if it is wrong.
FIRST_STAGE_OF_WRONG_WEIGHT = {
    "bridge.mlp.3.weight": "bridge",
    "ssl_encoder.model.encoder.layers.1.feed_forward.output_dense.bias": "ssl.layer1",
    # A small difference: 2e-4 of the rms of the stage.
    "aasist.branch3.HtrgGAT_layer_ST1.att_projM.base_weight": "branch3.st1.2",
}


def write_reference(folder: Path, wrong: str | None = None) -> Path:
    tensors = dict(load_file(TINY / "model.safetensors"))
    if wrong is not None:
        tensors[wrong] = tensors[wrong] * 1.5
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    shutil.copyfile(TINY / "config.json", folder / "config.json")
    shutil.copyfile(CODE, folder / "reference.py")
    return folder


def export(folder: Path, batch: int | None = None) -> Path:
    """The ONNX export of a reference by the older exporter, with layers that it can export."""
    import warnings

    import torch

    from benchmarks.speed import oracle
    from tests.oracle import spectra_torch

    model = oracle.as_written(folder)
    for module in model.modules():
        if isinstance(module, spectra_torch.GraphPool):
            module.__class__ = oracle.TopKPool
        elif isinstance(module, spectra_torch.KANLinear):
            module.__class__ = oracle.ClosedFormKANLinear
            assert isinstance(module, oracle.ClosedFormKANLinear)
            module.rows_at_a_time = None
            module.first_knot, module.spacing = (float(x) for x in (module.grid[0, 0], module.grid[0].diff()[0]))
    windows = torch.from_numpy(
        np.stack([recipe.preprocess(recipe.waveform(seed, 32300)) for seed in range(batch or 2)])
    )
    how: dict[str, Any] = {} if batch else {"dynamic_axes": {"wav": {0: "batch"}}}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (windows,),
            str(folder / "model.onnx"),
            dynamo=False,
            opset_version=18,
            input_names=["wav"],
            output_names=["logits"],
            **how,
        )
    return folder / "model.onnx"
