"""The conventions of published corpora: label words, column names, and the fields of protocols without a header.

Every reader of labels, scores and manifests uses these tables. A word or name that is not here is refused with a
message; nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from spectra_jax.data.trial import Label
from spectra_jax.errors import InputError

Role = Literal["utterance_id", "path", "label", "score"]
Match = Literal["exact", "stem", "path"]
"""How the ids of two files are compared: exactly, without folder and extension, or as complete paths."""

# Compared in lower case and without spaces, hyphens and underscores.
LABEL_WORDS: dict[str, bool] = {
    "bonafide": True,  # ASVspoof 2019 to 5, MLAAD, SpoofCeleb; In-the-Wild writes bona-fide
    "genuine": True,  # ASVspoof 2017, ADD
    "human": True,  # ASVspoof 2015
    "real": True,  # Fake-or-Real, FakeAVCeleb, CFAD
    "spoof": False,
    "spoofed": False,
    "fake": False,  # ADD, Fake-or-Real, FakeAVCeleb, CFAD
    "deepfake": False,
}
BONAFIDE_WORDS = ", ".join(word for word, bonafide in LABEL_WORDS.items() if bonafide)
SPOOF_WORDS = ", ".join(word for word, bonafide in LABEL_WORDS.items() if not bonafide)

# Compared in lower case, with hyphens and spaces as underscores. The first name of each is the documented one: a table
# that has it may use the others for something else.
COLUMN_NAMES: dict[Role, tuple[str, ...]] = {
    "utterance_id": ("utterance_id", "utt_id", "uttid", "utt", "utterance", "trial_id", "id"),
    "path": ("path", "file", "filename", "file_name", "filepath", "file_path", "audio_path"),
    "label": ("label", "class", "key", "cm_label"),
    "score": ("score", "scores", "cm_score"),
}

NOTHING = frozenset({"", "-"})
"""What protocols write for an empty field, such as the attack of a bona fide trial."""


@dataclass(frozen=True)
class Protocol:
    """The format of a corpus's list of labelled trials: no header, a trial a line.

    Attributes:
      name: of the corpus.
      fields: names in order; `-` for a field that is not kept.
      shortest: how many fields the shortest published copies have.
    """

    name: str
    fields: tuple[str, ...]
    shortest: int

    def fits(self, width: int) -> bool:
        return self.shortest <= width <= len(self.fields)


def _protocol(name: str, fields: str, shortest: int | None = None) -> Protocol:
    names = tuple(fields.split())
    return Protocol(name, names, shortest or len(names))


# Sources: the README files and evaluation packages that are published with the data.
PROTOCOLS = (
    _protocol("ADD 2022 and 2023", "path label"),
    _protocol("ASVspoof 2015", "speaker utterance_id attack label"),
    _protocol("ASVspoof 2015, label before attack", "speaker utterance_id label attack"),
    _protocol("ASVspoof 2019", "speaker utterance_id environment attack label"),
    _protocol("ASVspoof 5, phase 1", "speaker utterance_id gender - attack label"),
    _protocol("ASVspoof 2017", "path label speaker phrase environment playback recorder"),
    _protocol("ASVspoof 2021 LA", "speaker utterance_id codec transmission attack label trim subset"),
    # Some copies lack the last fields.
    _protocol(
        "ASVspoof 2021 DF",
        "speaker utterance_id codec source attack label trim subset vocoder task team gender_pair language",
        shortest=9,
    ),
    _protocol("ASVspoof 5", "speaker utterance_id gender codec codec_quality codec_seed attack_tag attack label -"),
    _protocol(
        "ASVspoof 2021 PA",
        "speaker utterance_id room microphone distance attack_room attack_microphone attack_device attack_distance "
        "label trim subset",
    ),
)

# The columns that identify tables without labels, all of whose trials are spoofed.
ALL_SPOOFED: dict[str, frozenset[str]] = {"MLAAD": frozenset({"path", "original_file", "model_name", "architecture"})}

# Of score files without a header: those of the ASVspoof 2019 baselines, and others in their format. Plain ones have
# `utterance_id score`.
SCORE_FIELDS = ("utterance_id", "attack", "label", "score")


def is_bonafide(text: str) -> bool | None:
    """Whether a label means bona fide; None where it is not one of the known words."""
    return LABEL_WORDS.get(re.sub(r"[ _-]", "", text.lower()))


def parse_label(location: str, text: str) -> Label | None:
    """`bonafide` or `spoof`, for any known word for them; None for an empty label.

    Raises:
      InputError: any other text; `location` is where it was read.
    """
    if not re.sub(r"[ _-]", "", text):
        return None
    if (bonafide := is_bonafide(text)) is not None:
        return "bonafide" if bonafide else "spoof"
    # 0 and 1 are not guessed: corpora disagree on which is which.
    raise InputError(f"{location}: label {text!r} is neither `bonafide` nor `spoof`")


def column_name(text: str) -> str:
    """A column's name in the form in which names are compared: `CM-Score` -> `cm_score`."""
    return re.sub(r"[ -]", "_", text.strip(' "').lower())


def known_names(cells: Collection[str]) -> int:
    """How many of a line's cells are known names of columns: some in a header, none in a line of a list."""
    known = {name for names in COLUMN_NAMES.values() for name in names}
    return sum(column_name(cell) in known for cell in cells)
