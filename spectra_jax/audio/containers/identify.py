"""The format of a file, recognised by its content: its name does not matter."""

from __future__ import annotations

import re

from spectra_jax.audio.containers.chunks import RIFF_MAGICS
from spectra_jax.audio.containers.frame_codecs import ac3_frame_length, adts_frame_length, gsm_frame_length
from spectra_jax.audio.containers.frames import MAX_PARTIAL_BYTES, find_frames
from spectra_jax.audio.containers.mp3 import is_free_format, mp3_frame_length
from spectra_jax.audio.containers.tags import tag_length
from spectra_jax.audio.source import Source
from spectra_jax.errors import AudioError

# The first bytes of a recording -> its format.
_MAGIC = (
    (b"fLaC", "flac"),
    (b"OggS", "ogg"),
    (b"riff\x2e\x91\xcf\x11", "w64"),
    (b".snd", "au"),
    (b"dns.", "au"),
    (b"caff", "caf"),
    (b"Creative Voice File\x1a", "voc"),
    (b"NIST_1A", "sphere"),
    (b"2BIT", "avr"),
    (b"\x1a\x45\xdf\xa3", "matroska"),
    (bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"), "asf"),
    (b"wvpk", "wavpack"),
    (b"#!AMR\n", "amr"),
    (b"#!AMR-WB\n", "amr-wb"),
    # Older formats of uncompressed samples, which do not state their length.
    (b" paf", "paf"),
    (b"fap ", "paf"),
    (b"PVF1\n", "pvf"),
    *((bytes((0x64, 0xA3, machine, 0)), "ircam") for machine in (1, 2, 3, 4)),
    *((bytes((0, machine, 0xA3, 0x64)), "ircam") for machine in (1, 2, 3, 4)),
)
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp")

# Files that are not recordings, or not of a supported format: (offset, bytes, message).
_UNSUPPORTED = (
    (0, b"version https://git-lfs.github.com/spec/", "a Git LFS pointer, not the recording: run `git lfs pull`"),
    (0, b"PK\x03\x04", "a zip archive, not an audio file: unpack it"),
    (0, b"\x1f\x8b", "a gzip archive, not an audio file: unpack it"),
    (0, b"BZh", "a bzip2 archive, not an audio file: unpack it"),
    (0, b"\xfd7zXZ\0", "an xz archive, not an audio file: unpack it"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive, not an audio file: unpack it"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive, not an audio file: unpack it"),
    (0, b"Rar!\x1a", "a RAR archive, not an audio file: unpack it"),
    (257, b"ustar", "a tar archive, not an audio file: score it under a name that ends in .tar"),
    (0, b"%PDF-", "a PDF document, not an audio file"),
    (0, b"\x89PNG\r\n", "an image (PNG), not an audio file"),
    (0, b"\xff\xd8\xff", "an image (JPEG), not an audio file"),
    (0, b"GIF8", "an image (GIF), not an audio file"),
    (8, b"WEBP", "an image (WebP), not an audio file"),
    (0, b"II*\0", "an image (TIFF), not an audio file"),
    (0, b"MM\0*", "an image (TIFF), not an audio file"),
    (0, b"PAR1", "a Parquet file, not an audio file: score it under a name that ends in .parquet"),
    (0, b"\x93NUMPY", "a NumPy array, not an audio file: `Scorer` takes arrays"),
    (0, b"\x89HDF\r\n", "an HDF5 file, not an audio file"),
    (0, b"SQLite format 3\0", "an SQLite database, not an audio file"),
    (0, b"\x7fELF", "a program, not an audio file"),
    (0, b"MThd", "MIDI: notes, not a recording"),
    (8, b"AVI ", "an AVI video, which is not supported: extract its audio (ffmpeg -i FILE -vn OUT.wav)"),
    (0, b"FLV\x01", "a Flash video, which is not supported: extract its audio (ffmpeg -i FILE -vn OUT.wav)"),
    (0, b"\0\0\x01\xba", "an MPEG video, which is not supported: extract its audio (ffmpeg -i FILE -vn OUT.wav)"),
    (0, b".RMF", "RealMedia, which is not supported: convert it to WAV (ffmpeg -i FILE OUT.wav)"),
    (0, b"MAC ", "Monkey's Audio, which is not supported: convert it to WAV (ffmpeg -i FILE OUT.wav)"),
    (0, b"TTA1", "True Audio, which is not supported: convert it to WAV (ffmpeg -i FILE OUT.wav)"),
    (0, b"tBaK", "TAK, which is not supported: convert it to WAV (ffmpeg -i FILE OUT.wav)"),
    (0, b"MPCK", "Musepack, which is not supported: convert it to WAV (ffmpeg -i FILE OUT.wav)"),
    (0, b"DSD ", "DSD, which is not supported: convert it to WAV (ffmpeg -i FILE OUT.wav)"),
    (0, b"FRM8", "DSD, which is not supported: convert it to WAV (ffmpeg -i FILE OUT.wav)"),
    (0, b"\x7f\xfe\x80\x01", "DTS, which is not supported: convert it to WAV (ffmpeg -i FILE OUT.wav)"),
    (0, b"ADIF", "AAC in ADIF, which is not supported: convert it to WAV (ffmpeg -i FILE OUT.wav)"),
    (0, b"#!AMR_MC1.0\n", "AMR of several channels, which is not supported: convert it to WAV"),
    (0, b"#!AMR-WB_MC1.0\n", "AMR of several channels, which is not supported: convert it to WAV"),
)
_TEXT_BYTES = 4096


def identify(source: Source) -> tuple[str, int]:
    """The format of a recording, and the position at which it begins: behind any tags (ID3).

    Raises:
      AudioError: it is not a recording, or of a format that is not supported. The message states what it is instead.
    """
    start = 0
    while length := tag_length(source.read(start, 16)):
        start += length
    if start >= source.size:
        raise AudioError("cut short: a tag (ID3) with nothing after it")
    head = source.read(start, _TEXT_BYTES)
    if name := _format_by_magic(head):
        return name, start
    for offset, magic, message in _UNSUPPORTED:
        if head[offset : offset + len(magic)] == magic:
            raise AudioError(message)
    if text := _describe_text(head):
        raise AudioError(text)
    return _format_by_frames(source, start)


def _format_by_magic(head: bytes) -> str | None:
    if head[:4] in RIFF_MAGICS and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if head[:4] == b"FORM" and head[8:12] in (b"8SVX", b"16SV"):
        return "svx"
    if head[4:8] in _MP4_BOXES:
        return "mp4"
    return next((name for magic, name in _MAGIC if head.startswith(magic)), None)


def _format_by_frames(source: Source, start: int) -> tuple[str, int]:
    """The format of a file without a magic number, by frames that follow one another."""
    for name, frame_length, search_bytes in (
        ("ac3", ac3_frame_length, 0),
        ("aac", adts_frame_length, MAX_PARTIAL_BYTES),
        ("mp3", mp3_frame_length, MAX_PARTIAL_BYTES),
    ):
        first_frame = find_frames(source, start, frame_length, search_bytes)
        if first_frame is not None:
            return name, first_frame
    # HTK has no magic number, but states its length: of waveforms, in samples of two bytes.
    num_samples, _, rest = (source.integer(start + k, 4) for k in (0, 4, 8))
    if num_samples and rest == 0x0002_0000 and start + 12 + 2 * num_samples == source.size:
        return "htk", start
    if (source.size - start) % 33 == 0 and find_frames(source, start, gsm_frame_length) is not None:
        return "gsm", start
    if is_free_format(source, start):
        raise AudioError(
            "an MP3 of a free bit rate (free format), which is not supported: convert it to WAV "
            "(lame --decode FILE OUT.wav)"
        )
    if not source.read(start, _TEXT_BYTES).strip(b"\0"):
        raise AudioError("not an audio file: it begins with zeros only, as after a download or a copy that failed")
    if all(source.read(start + packet, 1) == b"\x47" for packet in (0, 188, 376)):
        raise AudioError("an MPEG transport stream, which is not supported: extract its audio (ffmpeg -i FILE OUT.wav)")
    raise AudioError("not an audio file, or damaged, or of a format that neither libsndfile nor FFmpeg decodes here")


def _describe_text(head: bytes) -> str | None:
    """What kind of text a file holds; None if it is not text."""
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The end of `head` may cut a character in two.
        if error.start < len(head) - 3:
            return None
        text = head[: error.start].decode()
    if re.search(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]", text):
        return None
    begin = text.lstrip()[:200].lower()
    if begin.startswith(("<!doctype html", "<html", "<head", "<body")):
        return "an HTML page, not an audio file: the download returned an error page or requires a login"
    if begin.startswith("<"):
        return "XML, not an audio file: often the error message of a download"
    if begin.startswith(("{", "[{", "[]", '["')):
        return "JSON, not an audio file: often the error message of a download"
    if begin.startswith(("#extm3u", "[playlist]", "ffconcat", "v=0")):
        return "a playlist, not an audio file: score the recordings that it lists"
    return "a text file, not an audio file"
