"""The cold start of PyTorch: load the network, score one 16 kHz WAV file, print the score.

python -m benchmarks.speed.torch_score MODEL_DIRECTORY FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

import soundfile
import torch

from benchmarks.speed.oracle import as_written
from tests.golden import recipe


def main() -> None:
    folder, clip = map(Path, sys.argv[1:])
    samples, _ = soundfile.read(clip, dtype="int16")
    model = as_written(folder)
    with torch.inference_mode():
        logits = model(torch.from_numpy(recipe.preprocess(samples))[None])
    print(f"{logits[0, 1].item():.6f}", flush=True)


if __name__ == "__main__":
    main()
