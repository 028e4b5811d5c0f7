"""Streams of AAC and AC-3 frames."""

from __future__ import annotations

import pytest

from tests.audio.recordings import decoded_length, encoded, tones


@pytest.mark.parametrize(("container", "codec", "each"), [("adts", "aac", 1024), ("ac3", "ac3", 1536)])
def test_joined_streams_of_frames_are_one_recording(container: str, codec: str, each: int) -> None:
    content = encoded(container, codec, tones(48000, 48000, 1), 48000)
    assert decoded_length(content + content) == 2 * decoded_length(content)
    assert decoded_length(content) % each == 0
