"""How far 8-bit products of the transformer move the encoder's output and the scores, product by product.

    python -m benchmarks.quantization                     # the demo checkpoint on the corpus, a minute or two
    python -m benchmarks.quantization --full DIRECTORY    # and the encoder of a full-size network, layer by layer

Run from the root of a checkout. DIRECTORY is a native one, as `python -m benchmarks.speed full` leaves it under
`build/benchmarks/full/native`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import Path

import jax
import numpy as np
from scipy.stats import spearmanr

import spectra_jax
from benchmarks.speed.network import windows
from spectra_jax.data.trial import Trial
from spectra_jax.model.encoder import SpeechEncoder
from spectra_jax.model.encoder.transformer import TransformerLayer
from spectra_jax.model.fold import fold_for_inference
from spectra_jax.model.spectra import SpectraAASIST3

CORPUS = Path("examples/corpus")
PRODUCTS = ("query", "key", "value", "out", "feed_forward_in", "feed_forward_out")

Selects = Callable[[int, str], bool]
"""Whether a product, by the index of its layer and its name, has 8-bit operands. The others are bfloat16's."""


def mixed(network: str | Path, selects: Selects) -> SpectraAASIST3:
    """The network in bfloat16, with 8-bit operands in the selected products."""
    model, quantized = spectra_jax.load(network, "bfloat16"), spectra_jax.load(network, "int8")
    for index, (layer, source) in enumerate(zip(model.encoder.layers, quantized.encoder.layers, strict=True)):
        for name in PRODUCTS:
            if selects(index, name):
                setattr(_owner(layer, name), name, getattr(_owner(source, name), name))
    return model


def _owner(layer: TransformerLayer, name: str) -> object:
    return layer if name.startswith("feed_forward") else layer.attention


def relative_error(encoder: SpeechEncoder, exact: np.ndarray, x: np.ndarray) -> float:
    """Root mean square error of the last hidden state over the root mean square of the exact one."""
    found = _last_hidden_state(encoder, x)
    return float(np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2)))


def _last_hidden_state(encoder: SpeechEncoder, x: np.ndarray) -> np.ndarray:
    forward, params, rest = spectra_jax.split(encoder)
    return np.asarray(jax.jit(forward)(params, rest, x), np.float64)


def scores(model: str | SpectraAASIST3, trials: Sequence[Trial]) -> np.ndarray:
    """The score of each trial."""
    return np.array([result.score for result in spectra_jax.Scorer(model).score_trials(trials)])


def variants() -> Iterable[tuple[str, Selects]]:
    """What is compared: none, all, each alone and all but each of the six products."""
    yield "none (bfloat16)", _select(())
    yield "all six (int8)", _select(PRODUCTS)
    for product in PRODUCTS:
        yield f"{product} alone", _select((product,))
    for product in PRODUCTS:
        yield f"all but {product}", _select([other for other in PRODUCTS if other != product])


def _select(products: Iterable[str], layers: Container[int] = range(1000)) -> Selects:
    chosen = frozenset(products)
    return lambda index, name: index in layers and name in chosen


def print_demo() -> None:
    """The table of the demo checkpoint: error of the encoder, and of the scores of the corpus."""
    trials = [Trial(path.stem, path) for path in sorted(CORPUS.glob("*/*.flac"))]
    x = windows(8, spectra_jax.load("demo").config.num_samples)
    exact = _last_hidden_state(spectra_jax.load("demo").encoder, x)
    reference = scores("demo", trials)
    print(f"| 8-bit products | encoder's error | mean score error, {len(trials)} clips | largest | rank correlation |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, selects in variants():
        model = mixed("demo", selects)
        found = scores(model, trials)
        errors, rank = np.abs(found - reference), spearmanr(found, reference).statistic
        error = relative_error(fold_for_inference(model).encoder, exact, x)
        print(f"| {name} | {error:.2%} | {errors.mean():.4f} | {errors.max():.3f} | {rank:.5f} |", flush=True)


def print_full(network: Path) -> None:
    """The table of a full-size network: error of the encoder by product, and by layer."""
    x = windows(2, spectra_jax.open_checkpoint(network).config.num_samples)
    exact = _last_hidden_state(spectra_jax.load(network).encoder, x)
    num_layers = spectra_jax.open_checkpoint(network).config.encoder.num_hidden_layers
    layers = [
        (f"layers {first} to {first + 5}", _select(PRODUCTS, range(first, first + 6)))
        for first in range(0, num_layers, 6)
    ]
    print("| 8-bit products | encoder's error |")
    print("| --- | ---: |")
    for name, selects in (*variants(), *layers):
        error = relative_error(fold_for_inference(mixed(network, selects)).encoder, exact, x)
        print(f"| {name} | {error:.2%} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", type=Path, help="a native directory of a full-size network")
    full = parser.parse_args().full
    print_demo()
    if full is not None:
        print()
        print_full(full)


if __name__ == "__main__":
    main()
