"""From the bytes of a file to the recordings in it: their format, whether they are complete, and how to decode them."""

from __future__ import annotations

from collections.abc import Callable

from spectra_jax.audio.containers import simple_headers
from spectra_jax.audio.containers.aiff import parse_aiff, parse_svx
from spectra_jax.audio.containers.asf import parse_asf
from spectra_jax.audio.containers.caf import parse_caf
from spectra_jax.audio.containers.flac import parse_flac
from spectra_jax.audio.containers.frame_codecs import FRAME_PARSERS
from spectra_jax.audio.containers.identify import identify
from spectra_jax.audio.containers.matroska import parse_matroska
from spectra_jax.audio.containers.mp3 import parse_mp3
from spectra_jax.audio.containers.mp4 import parse_mp4
from spectra_jax.audio.containers.ogg import parse_ogg
from spectra_jax.audio.containers.stream import EncodedStream
from spectra_jax.audio.containers.wav import parse_wav, parse_wave64
from spectra_jax.audio.containers.wavpack import parse_wavpack
from spectra_jax.audio.source import Source

# fmt: off
DECODABLE_SUFFIXES = frozenset({
    ".3g2", ".3gp", ".8svx", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".asf", ".au", ".avr", ".bwf",
    ".caf", ".eac3", ".ec3", ".flac", ".gsm", ".iff", ".ircam", ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov",
    ".mp2", ".mp3", ".mp4", ".mpga", ".nist", ".oga", ".ogg", ".opus", ".paf", ".rf64", ".sf", ".snd", ".sph",
    ".svx", ".voc", ".w64", ".wav", ".wave", ".weba", ".webm", ".wma", ".wmv", ".wv",
})
# fmt: on
"""Suffixes of the files that `open_stream` decodes. They only select files: a format is recognised by its content."""

_PARSERS: dict[str, Callable[[Source, int], EncodedStream]] = {
    "wav": parse_wav,
    "w64": parse_wave64,
    "aiff": parse_aiff,
    "svx": parse_svx,
    "caf": parse_caf,
    "au": simple_headers.parse_au,
    "sphere": simple_headers.parse_sphere,
    "voc": simple_headers.parse_voc,
    "avr": simple_headers.parse_avr,
    "paf": simple_headers.parse_paf,
    "pvf": simple_headers.parse_pvf,
    "ircam": simple_headers.parse_ircam,
    "htk": simple_headers.parse_htk,
    "flac": parse_flac,
    "mp3": parse_mp3,
    "mp4": parse_mp4,
    "matroska": parse_matroska,
    "asf": parse_asf,
    "wavpack": parse_wavpack,
    **FRAME_PARSERS,
}


def parse(source: Source) -> list[EncodedStream]:
    """The recordings that are chained in a file: one, except in Ogg.

    Raises:
      AudioError: not a recording, of an unsupported format, cut short, damaged, or several files in one.
    """
    name, start = identify(source)
    return parse_ogg(source, start) if name == "ogg" else [_PARSERS[name](source, start)]
