"""The Arena's datasets by name."""

from __future__ import annotations

import pytest

from spectra_jax.arena.datasets import dataset_id
from spectra_jax.errors import InputError


def test_ids() -> None:
    assert dataset_id("InTheWild") == "SpeechAntiSpoofingBenchmarks/InTheWild"
    assert dataset_id("J-SPAW_LA") == "SpeechAntiSpoofingBenchmarks/J-SPAW_LA"
    assert dataset_id("LRLspoof") == "lab260/LRLspoof"
    assert dataset_id("me/mine") == "me/mine"
    with pytest.raises(InputError, match=r"no dataset 'DeepVoices' that is known here.* DeepVoice,"):
        dataset_id("DeepVoices")


@pytest.mark.parametrize("name", ["../x", "org/name/more", "org/", "org/name@main", "/x"])
def test_ids_that_the_hub_does_not_allow(name: str) -> None:
    with pytest.raises(InputError, match="is not a dataset's id on the Hub"):
        dataset_id(name)
