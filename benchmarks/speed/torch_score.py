"""The cold start of PyTorch: load the network, score one WAV file, print the score. On the GPU where there is one.

The file has 16 bits and 16 kHz.

python -m benchmarks.speed.torch_score MODEL_DIRECTORY FILE
"""

from __future__ import annotations

import sys
import wave
from pathlib import Path

import numpy as np
import torch

from benchmarks.speed.oracle import as_written
from tests.golden import recipe


def main() -> None:
    folder, clip = map(Path, sys.argv[1:])
    with wave.open(str(clip)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = as_written(folder).to(device)
    with torch.inference_mode():
        logits = model(torch.from_numpy(recipe.preprocess(samples))[None].to(device))
    print(f"{logits[0, 1].item():.6f}", flush=True)


if __name__ == "__main__":
    main()
