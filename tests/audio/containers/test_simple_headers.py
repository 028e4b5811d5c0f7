"""Formats with a simple header: blocks of a VOC."""

from __future__ import annotations

from tests.audio.recordings import decoded_length, error_of, sound


def test_a_voc_of_several_blocks_is_decoded_completely() -> None:
    content = sound("VOC", "PCM_16")
    block = content[26:-1]
    assert decoded_length(content[:26] + block + block + b"\0") == 16_000
    assert "silence" in error_of(content[:26] + block + b"\3\3\0\0" + bytes(3) + block + b"\0")
