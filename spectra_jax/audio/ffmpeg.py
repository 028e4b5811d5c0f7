"""Decoding by FFmpeg, through PyAV: MP3, AAC, MP4, Matroska, WMA, AMR and every codec that libsndfile lacks."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from spectra_jax.audio.samples import to_mono
from spectra_jax.audio.source import View
from spectra_jax.errors import AudioError, UnsupportedCodecError

if TYPE_CHECKING:
    from av import AudioFrame, AudioStream

# Decoders that find an error stop there: they never conceal it, nor go on behind it.
_CODEC_OPTIONS = {"err_detect": "crccheck+bitstream+buffer+explode"}
# That of MP3 makes silence of frames with stuffing bits, or with a length that is off by some bits, if it is told to
# look at either. Some encoders write nothing else.
_MPEG_AUDIO_OPTIONS = {"err_detect": "crccheck+explode"}
_MPEG_AUDIO = frozenset({"mp1", "mp2", "mp3"})
# A header counts the samples that the encoder added before the recording, and some round to packets.
_SECONDS_TOLERANCE = 0.15


def _open_nothing(url: str, *_: Any) -> Any:
    """No other file and no address is opened, whatever a container refers to."""
    raise PermissionError(f"a reference to another file ({url})")


class FFmpegReader:
    """A recording that FFmpeg decodes: of the audio stream marked as the default one, or of the first.

    Args:
      file: open at any position.
      container: FFmpeg's name of it. It is never guessed: some of FFmpeg's formats are lists of other files.
      packets: how many there are at least, of all streams together.
      codec: what messages call its codec, if the container names it.
      states_seconds: whether the length that FFmpeg has is the container's, and not an estimate by the bit rate.
      at_least: samples per channel; a decoder that returns fewer has left something out.

    Raises:
      AudioError: FFmpeg cannot open it, or it has no audio stream that can be decoded.
    """

    def __init__(
        self,
        file: View,
        container: str,
        at_least: int = 0,
        *,
        codec: str = "",
        packets: int = 0,
        states_seconds: bool = True,
    ) -> None:
        # Here, since the libraries take a while to load, and most recordings need none of them.
        import av

        self._errors = (av.FFmpegError, PermissionError)
        self._at_least = at_least
        self._counts_packets = container == "mov"
        self._packets = packets
        self._states_seconds = states_seconds
        # Titles that are not UTF-8 are no reason to refuse a recording. From PyAV 19 on they are none anyway.
        tolerant: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
        try:
            self._container = av.open(file, "r", format=container, io_open=_open_nothing, **tolerant)
        except self._errors as error:
            raise AudioError(_explain(error)) from error
        try:
            self._stream = _choose(self._container.streams.audio, codec)
            mpeg_audio = self._stream.codec_context.codec.canonical_name in _MPEG_AUDIO
            self._stream.codec_context.options = _MPEG_AUDIO_OPTIONS if mpeg_audio else _CODEC_OPTIONS
            opus = container == "matroska" and self._stream.codec_context.name == "opus"
            self._trim = _OpusTrim(self._stream) if opus else None
            self._frames = self._decode()
            # The rate in a container's header is not always the one that the decoder gives.
            self._first = next(self._frames, None)
            if self._first is None:
                raise AudioError("holds no samples")
        except BaseException:
            self._container.close()
            raise
        self.rate = int(self._first.sample_rate)
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
            most = max(block_samples // channels, 1)
            if pending and num_pending + len(mono) > most:
                yield np.concatenate(pending)
                pending, num_pending = [], 0
            while len(mono) > most:
                yield mono[:most]
                mono = mono[most:]
            pending.append(mono)
            num_pending += len(mono)
        if num_pending:
            yield np.concatenate(pending)
        stated = self._stated_seconds()
        if total / self.rate < stated - _SECONDS_TOLERANCE:
            raise AudioError(
                f"damaged or cut short: {total / self.rate:.2f} of the {stated:.2f} s that its header states"
            )
        if total < self._at_least:
            raise AudioError(f"damaged: only {total:,} of its {self._at_least:,} samples could be decoded")

    def _stated_seconds(self) -> float:
        """Of ASF, whose damaged packets FFmpeg passes over. Other containers are checked before they are decoded."""
        stream = self._stream
        if (
            "asf" not in self._container.format.name
            or not self._states_seconds
            or not stream.duration
            or not stream.time_base
        ):
            return 0.0
        return float(stream.duration * stream.time_base)

    def _mono(self) -> Iterator[tuple[NDArray[np.float32], int]]:
        assert self._first is not None
        for frame in chain([self._first], self._frames):
            if frame.sample_rate != self.rate:
                raise AudioError(
                    f"its sample rate changes from {self.rate} to {frame.sample_rate} Hz: cut it there into two files"
                )
            channels = frame.layout.nb_channels
            values = frame.to_ndarray()
            mono = to_mono(values.T if frame.format.is_planar else values.reshape(-1, channels))
            yield self._trim(mono, frame) if self._trim else mono, channels

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
            raise AudioError(_explain(error)) from error
        # Where there is more than audio, a packet that is missing may be of the other streams.
        if packets < self._packets and len(self._container.streams) == 1:
            raise AudioError(f"damaged: only {packets:,} of its {self._packets:,} packets can be read")
        # Of uncompressed samples each is a frame to a header, and many are in a packet.
        if self._counts_packets and max(packets, samples) < self._stream.frames:
            raise AudioError(f"cut short: {packets:,} of the {self._stream.frames:,} packets that its header states")


class _OpusTrim:
    """Removes the samples that an Opus encoder added to a Matroska or WebM file before and after the recording.

    FFmpeg 8 takes the delay for samples at the rate of the original, where it is one of samples at 48 kHz.
    """

    def __init__(self, stream: AudioStream) -> None:
        from av.codec.context import Flags2

        stream.codec_context.flags2 |= Flags2.skip_manual
        self._delay: int | None = None
        self._header_delay = int.from_bytes(bytes(stream.codec_context.extradata or b"")[10:12], "little")

    def __call__(self, samples: NDArray[np.float32], frame: AudioFrame) -> NDArray[np.float32]:
        from av.sidedata.sidedata import Type

        # Its types do not say so, but it is a mapping by type.
        side_data: Any = frame.side_data
        trim = bytes(side_data.get(Type.SKIP_SAMPLES) or bytes(10))
        start, end = (int.from_bytes(trim[k : k + 4], "little") for k in (0, 4))
        if self._delay is None:
            self._delay = self._header_delay if start else 0
        begin = min(self._delay, len(samples))
        self._delay -= begin
        return samples[begin : max(len(samples) - end, begin)]


def _choose(streams: tuple[AudioStream, ...], codec: str) -> AudioStream:
    from av.stream import Disposition

    if not streams:
        raise AudioError("has no audio stream")
    stream = next((stream for stream in streams if stream.disposition & Disposition.default), streams[0])
    # The types say that a stream has a decoder; one of a codec that FFmpeg does not know has none.
    context: Any = stream.codec_context
    if context is None:
        raise UnsupportedCodecError(
            f"its codec ({codec or 'which has no name here'}) is one that FFmpeg does not decode"
        )
    return stream


def _explain(error: Exception) -> str:
    from av.error import PermissionError as AVPermissionError

    if isinstance(error, AVPermissionError | PermissionError):
        return "refers to another file, which is not opened"
    reason = (getattr(error, "strerror", None) or str(error)).rstrip(".")
    return f"damaged, cut short or of an unsupported kind ({reason})"
