"""What a clip that cannot be scored raises."""


class AudioError(ValueError):
    """A clip that cannot be scored. Says what was wrong with the file or the values."""


class UnsupportedCodecError(AudioError):
    """A file that is sound as far as a decoder can tell, and of a codec that this decoder lacks."""
