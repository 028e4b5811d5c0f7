"""What a file is, by its first bytes."""

from __future__ import annotations

# Every suffix whose files `open_stream` decodes. Files are recognised by their content: a suffix only selects them.
# fmt: off
DECODABLE_SUFFIXES = frozenset({
    ".3g2", ".3gp", ".8svx", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".asf", ".au", ".avr", ".bwf",
    ".caf", ".eac3", ".ec3", ".flac", ".gsm", ".iff", ".ircam", ".m4a", ".m4b", ".m4v", ".mka", ".mkv", ".mov",
    ".mp2", ".mp3", ".mp4", ".mpga", ".nist", ".oga", ".ogg", ".opus", ".paf", ".rf64", ".sf", ".snd", ".sph",
    ".svx", ".voc", ".w64", ".wav", ".wave", ".weba", ".webm", ".wma", ".wmv", ".wv",
})
# fmt: on
