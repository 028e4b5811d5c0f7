"""The Speech Anti-Spoofing Arena: its model interface, its submissions, and the EERs that the model's authors report.

    speech-spoof-bench run --model-module spectra_jax.arena:SpectraAASIST3 ...

Source: the Arena's tool, speech_spoof_bench 0.4 (github.com/lab260ru), which need not be installed. Its datasets are
inputs of `score`: see `spectra_jax.data.sources.arena`.
"""

from spectra_jax.arena.model import SpectraAASIST3

__all__ = ["SpectraAASIST3"]
