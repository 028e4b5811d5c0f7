"""The Arena's datasets by name.

    dataset_id("InTheWild")            # SpeechAntiSpoofingBenchmarks/InTheWild

Revisions are pinned only of the datasets for which the model's authors publish scores. Of any other, whoever scores it
states the revision.
"""

from __future__ import annotations

from spectra_jax import hub
from spectra_jax.arena.reported import REPORTED
from spectra_jax.data.sources.arena import ORGANISATION
from spectra_jax.errors import InputError
from spectra_jax.messages import printable

NEWER = (
    "ADD2023",
    "ArAD",
    "ASVspoof5",
    "DECRO",
    "DeepVoice",
    "DFADD",
    "EmoSpoofTTS",
    "FoR_Original",
    "J-SPAW_LA",
    "ODSS",
    "PyAra",
    "XMAD",
)
"""Datasets of the Arena for which nothing is reported here."""
ELSEWHERE = {"LRLspoof": "lab260/LRLspoof"}
"""Datasets of the Arena that another organisation keeps. LRLspoof has labels only, and no bona fide trials."""


def dataset_id(name: str) -> str:
    """The id on the Hub of a dataset by its name; an id, `org/name`, is returned unchanged.

    Raises:
      InputError: no dataset of the Arena has this name, or the Hub allows no such id.
    """
    if "/" in name:
        if hub.parse(name) is None or "@" in name:
            raise InputError(f"{printable(name)!r} is not a dataset's id on the Hub, org/name without a revision")
        return name
    if name in ELSEWHERE:
        return ELSEWHERE[name]
    names = [*REPORTED, *NEWER, *ELSEWHERE]
    if name not in names:
        raise InputError(
            f"the Arena has no dataset {printable(name)!r} that is known here. Give its id on the Hub, org/name, or "
            f"one of {', '.join(sorted(names, key=str.lower))}"
        )
    return f"{ORGANISATION}/{name}"
