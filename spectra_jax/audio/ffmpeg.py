"""Decoding by FFmpeg, through PyAV: MP3, AAC, MP4, Matroska, WMA, AMR and every codec that libsndfile lacks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spectra_jax.audio.containers.stream import FFmpegOptions
from spectra_jax.audio.samples import to_mono
from spectra_jax.audio.source import SplicedFile
from spectra_jax.errors import AudioError, UnsupportedCodecError

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream

# Decoders raise an error at damaged data instead of concealing it.
_CODEC_OPTIONS = {"err_detect": "crccheck+bitstream+buffer+explode"}
# With the checks `bitstream` and `buffer` the MP3 decoder returns silence for frames with stuffing bits, or with a
# length that is off by some bits. Some encoders write such frames only.
_MPEG_AUDIO_OPTIONS = {"err_detect": "crccheck+explode"}
_MPEG_AUDIO = frozenset({"mp1", "mp2", "mp3"})
# The duration in a header includes the encoder's delay, and some writers round it to packets.
_SECONDS_TOLERANCE = 0.15


def _refuse_to_open(url: str, *_: Any) -> Any:
    """FFmpeg calls this for every file or address that a container refers to."""
    raise PermissionError(f"a reference to another file ({url})")


class FFmpegReader:
    """A recording that FFmpeg decodes: the audio stream marked as the default one, or else the first.

    Args:
      file: open at its start.
      options: see `FFmpegOptions`.

    Attributes:
      rate: in Hz.
      expected_samples: per channel, by the duration that the container states; None if it states none.

    Raises:
      UnsupportedCodecError: FFmpeg does not support its codec.
      AudioError: FFmpeg cannot open it, or it has no audio stream.
    """

    def __init__(self, file: SplicedFile, options: FFmpegOptions) -> None:
        # Imported here, since the libraries take a while to load, and most recordings need none of them.
        import av

        self._errors = (av.FFmpegError, PermissionError)
        self._options = options
        # By default, PyAV before version 19 raises an error for a title that is not UTF-8.
        tolerant: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
        try:
            self._container = av.open(file, "r", format=options.demuxer, io_open=_refuse_to_open, **tolerant)
        except self._errors as error:
            raise AudioError(_describe_error(error)) from error
        try:
            self._stream = _choose_stream(self._container.streams.audio, options.codec)
            mpeg_audio = self._stream.codec_context.codec.canonical_name in _MPEG_AUDIO
            self._stream.codec_context.options = _MPEG_AUDIO_OPTIONS if mpeg_audio else _CODEC_OPTIONS
            is_opus = options.demuxer == "matroska" and self._stream.codec_context.name == "opus"
            self._trim_opus = _OpusTrimmer(self._stream) if is_opus else None
            self._frames = self._decode()
            # The rate in a container's header is not always the decoder's.
            self._first_frame = next(self._frames, None)
            if self._first_frame is None:
                raise AudioError("holds no samples")
        except BaseException:
            self._container.close()
            raise
        self.rate = int(self._first_frame.sample_rate)
        # In microseconds; None or negative where the container states none.
        duration = self._container.duration or 0
        self.expected_samples = duration * self.rate // 1_000_000 if duration > 0 else None

    def close(self) -> None:
        self._container.close()

    def blocks(self, block_samples: int) -> Iterator[NDArray[np.float32]]:
        """Mono samples, at most `block_samples` over all channels at a time."""
        pending: list[NDArray[np.float32]] = []
        num_pending = total = 0
        for mono, channels in self._mono():
            total += len(mono)
            limit = max(block_samples // channels, 1)
            if pending and num_pending + len(mono) > limit:
                yield np.concatenate(pending)
                pending, num_pending = [], 0
            while len(mono) > limit:
                yield mono[:limit]
                mono = mono[limit:]
            pending.append(mono)
            num_pending += len(mono)
        if num_pending:
            yield np.concatenate(pending)
        self._check_length(total)

    def _check_length(self, num_samples: int) -> None:
        """Raise AudioError unless at least as many samples per channel were decoded as the container states."""
        seconds, stated = num_samples / self.rate, self._stated_seconds()
        if seconds < stated - _SECONDS_TOLERANCE:
            raise AudioError(f"damaged or cut short: {seconds:.2f} of the {stated:.2f} s that its header states")
        if num_samples < self._options.min_samples:
            raise AudioError(
                f"damaged: only {num_samples:,} of its {self._options.min_samples:,} samples could be decoded"
            )

    def _stated_seconds(self) -> float:
        """The stated duration of an ASF file, because FFmpeg skips its damaged packets; 0 for other containers, whose
        parsers check the length."""
        duration, time_base = self._stream.duration, self._stream.time_base
        if self._options.demuxer != "asf" or not self._options.states_duration or not duration or not time_base:
            return 0.0
        return float(duration * time_base)

    def _mono(self) -> Iterator[tuple[NDArray[np.float32], int]]:
        """The mono samples of each decoded frame, and the number of its channels."""
        assert self._first_frame is not None
        for frame in chain([self._first_frame], self._frames):
            if frame.sample_rate != self.rate:
                raise AudioError(
                    f"its sample rate changes from {self.rate} to {frame.sample_rate} Hz: cut it there into two files"
                )
            channels = frame.layout.nb_channels
            values = frame.to_ndarray()
            mono = to_mono(values.T if frame.format.is_planar else values.reshape(-1, channels))
            yield self._trim_opus(mono, frame) if self._trim_opus else mono, channels

    def _decode(self) -> Iterator[AudioFrame]:
        packets = samples = 0
        try:
            for packet in self._container.demux(self._stream):
                if packet.is_corrupt:
                    raise AudioError("damaged or cut short (a packet of its audio is incomplete)")
                packets += packet.size > 0
                for frame in packet.decode():
                    samples += frame.samples
                    yield frame
        except self._errors as error:
            raise AudioError(_describe_error(error)) from error
        # With several streams, a missing packet may belong to another one.
        min_packets = self._options.min_packets
        if packets < min_packets and len(self._container.streams) == 1:
            raise AudioError(f"damaged: only {packets:,} of its {min_packets:,} packets can be read")
        # MP4 counts packets as frames; of uncompressed samples it counts each sample, and a packet holds many.
        if self._options.demuxer == "mov" and max(packets, samples) < self._stream.frames:
            raise AudioError(f"cut short: {packets:,} of the {self._stream.frames:,} packets that its header states")


class _OpusTrimmer:
    """Removes the encoder delay and padding of Opus in Matroska or WebM.

    FFmpeg 8 would read the delay at the original's sample rate; it is stated in samples at 48 kHz.
    """

    def __init__(self, stream: AudioStream) -> None:
        from av.codec.context import Flags2

        stream.codec_context.flags2 |= Flags2.skip_manual
        self._delay: int | None = None
        self._header_delay = int.from_bytes(bytes(stream.codec_context.extradata or b"")[10:12], "little")

    def __call__(self, samples: NDArray[np.float32], frame: AudioFrame) -> NDArray[np.float32]:
        from av.sidedata.sidedata import Type

        # PyAV's type hints do not declare that it is a mapping by type.
        side_data: Any = frame.side_data
        trim = bytes(side_data.get(Type.SKIP_SAMPLES) or bytes(10))
        start, end = (int.from_bytes(trim[k : k + 4], "little") for k in (0, 4))
        if self._delay is None:
            self._delay = self._header_delay if start else 0
        begin = min(self._delay, len(samples))
        self._delay -= begin
        return samples[begin : max(len(samples) - end, begin)]


def _choose_stream(streams: tuple[AudioStream, ...], codec: str) -> AudioStream:
    from av.stream import Disposition

    if not streams:
        raise AudioError("has no audio stream")
    stream = next((stream for stream in streams if stream.disposition & Disposition.default), streams[0])
    # PyAV's type hints declare a decoder for every stream; a stream of a codec that FFmpeg does not know has none.
    context: Any = stream.codec_context
    if context is None:
        raise UnsupportedCodecError(f"neither libsndfile nor FFmpeg decodes its codec ({codec or 'without a name'})")
    return stream


def _describe_error(error: Exception) -> str:
    from av.error import PermissionError as AVPermissionError

    if isinstance(error, AVPermissionError | PermissionError):
        return "refers to another file, which is not opened"
    reason = (getattr(error, "strerror", None) or str(error)).rstrip(".")
    return f"damaged, cut short or of an unsupported kind ({reason})"
