"""What a clip that cannot be scored raises."""


class AudioError(ValueError):
    """A clip that cannot be scored. Says what was wrong with the file or the values."""
