"""The scorer: one compiled shape for any number of clips, scores that depend on nothing but the clip."""

from __future__ import annotations

import gc
import itertools
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile

import spectra_jax
from spectra_jax import audio
from spectra_jax.checkpoints.native import Checkpoint, filled, held_model, load_model
from spectra_jax.data.trial import Trial
from spectra_jax.errors import AudioError, CheckpointError
from spectra_jax.inference.scorer import Listening, Scorer, ScoringProgress, Waited
from spectra_jax.model.spectra import SpectraAASIST3, split
from tests.conftest import GOLDEN
from tests.golden import recipe
from tests.tolerances import LOGITS

RATE = 16000
TINY = GOLDEN / "tiny"


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Checkpoint) -> SpectraAASIST3:
    with jax.enable_x64(True):
        return load_model(tiny_checkpoint, "float64")


@pytest.fixture(scope="module")
def scorer(model: SpectraAASIST3) -> Scorer:
    """In float64, where a score is a property of the clip; three clips at a time."""
    return Scorer(model, batch_size=3)


def clip(seed: int, samples: int = 20000) -> np.ndarray:
    return recipe.waveform(seed, samples)


def as_decoded(samples: np.ndarray) -> audio.Decoded:
    return audio.Decoded(samples, RATE, len(samples), "0" * 64, None)


def windows(seeds: range) -> np.ndarray:
    return np.stack([recipe.preprocess(clip(seed)) for seed in seeds])


def test_any_number_of_clips_in_one_compiled_shape(scorer: Scorer) -> None:
    compiles: list[str] = []

    def count(event: str, seconds: float, **_: object) -> None:
        if event.endswith("backend_compile_duration"):
            compiles.append(event)

    scorer.load()
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        seven = scorer.logits(windows(range(7)))
        assert seven.shape == (7, 2)
        assert seven.dtype == np.float64
        assert scorer.logits(np.empty((0, 64600), np.float32)).shape == (0, 2)
        for clips in (1, 2, 3):
            # Neighbours, padding and place in the batch change nothing but the order of a sum.
            found = scorer.logits(windows(range(clips)))
            np.testing.assert_allclose(found, seven[:clips], rtol=0, atol=1e-12)
        backwards = scorer.logits(windows(range(7))[::-1])
        np.testing.assert_allclose(backwards[::-1], seven, rtol=0, atol=1e-12)
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    assert compiles == []
    with pytest.raises(ValueError, match=r"expected windows of shape \(n, 64600\), found \(2, 100\)"):
        scorer.logits(np.zeros((2, 100), np.float32))


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16", "float64"])
def test_what_is_compiled_for_is_what_is_loaded(precision: str, tiny_checkpoint: Checkpoint) -> None:
    """Shape, dtype and structure, since the network is compiled before its weights are there."""
    with jax.enable_x64(precision == "float64"):
        _, loaded = split(load_model(tiny_checkpoint, precision))
    _, shapes = split(held_model(tiny_checkpoint.config, precision))
    assert jax.tree.structure(shapes) == jax.tree.structure(loaded)
    for held, leaf in zip(jax.tree.leaves(shapes), jax.tree.leaves(loaded), strict=True):
        assert (held.shape, held.dtype) == (leaf.shape, leaf.dtype)


@pytest.mark.parametrize(
    ("flags", "level"), [("", "2"), ("--xla_dump_to=/x", "2"), ("--xla_backend_optimization_level=3", None)]
)
def test_a_chosen_level_of_optimisation_is_kept(flags: str, level: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []

    def compiled(self: jax.stages.Lowered, options: dict[str, object]) -> jax.stages.Compiled:
        asked.append(options)
        raise RuntimeError("far enough")

    monkeypatch.setattr(jax.stages.Lowered, "compile", compiled)
    monkeypatch.setenv("XLA_FLAGS", flags)
    with pytest.raises(RuntimeError, match="far enough"):
        Scorer("demo").load()
    assert asked == [{} if level is None else {"xla_backend_optimization_level": level}]


def test_score_batch(scorer: Scorer) -> None:
    clips = [clip(1), clip(2).astype(np.float32) / 32768, np.stack([clip(3), clip(3)], axis=1), clip(4, 70000)]
    scores = scorer.score_batch(clips, [RATE] * 4)
    assert [type(score) for score in scores] == [float] * 4
    prepared = np.stack([recipe.preprocess(clip(seed)) for seed in (1, 2, 3)] + [recipe.preprocess(clip(4, 70000))])
    np.testing.assert_allclose(scores, scorer.logits(prepared)[:, 1], rtol=0, atol=1e-12)
    assert scorer.score_batch([], []) == []


def test_bad_clips_of_a_batch_are_named(scorer: Scorer) -> None:
    broken = np.array([0.1, np.nan], np.float32)
    with pytest.raises(AudioError, match=r"clip 1 of the batch: 1 of 2 samples are NaN"):
        scorer.score_batch([clip(1), broken], [RATE, RATE])
    with pytest.raises(AudioError, match="clip 0 of the batch: no samples"):
        scorer.score_batch([np.empty(0, np.float32)], [RATE])
    with pytest.raises(ValueError, match="2 clips, but 1 sample rates"):
        scorer.score_batch([clip(1), clip(2)], [RATE])


def test_trials_in_order_with_reasons_for_what_was_skipped(scorer: Scorer, tmp_path: Path) -> None:
    for seed in range(5):
        soundfile.write(tmp_path / f"good{seed}.wav", clip(seed), RATE, subtype="PCM_16")
    soundfile.write(tmp_path / "silent.wav", np.zeros(5000), RATE)
    soundfile.write(tmp_path / "nan.wav", np.array([0.1, np.nan] * 500), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "stereo44.flac", np.stack([clip(6)] * 2, axis=1), 44100)
    (tmp_path / "empty.wav").touch()
    names = ["good0", "missing", "good1", "nan", "empty", "good2", "silent", "good3", "good4", "stereo44"]
    trials = [Trial(name, tmp_path / f"{name}.{'flac' if name == 'stereo44' else 'wav'}") for name in names]
    results = list(scorer.score_trials(trials))
    assert [result.trial.utterance_id for result in results] == names
    by_name = {result.trial.utterance_id: result for result in results}
    said = {"missing": "no such file", "nan": "NaN or infinite", "empty": "empty (0 bytes)"}
    for name, result in by_name.items():
        if name in said:
            assert said[name] in (result.error or "")
        else:
            assert result.error is None
    assert by_name["silent"].flags == ("silent",)
    assert by_name["good1"].flags == ()
    assert by_name["stereo44"].seconds == pytest.approx(20000 / 44100)
    found = [by_name[f"good{seed}"].logits for seed in range(5)]
    np.testing.assert_allclose(found, scorer.logits(windows(range(5))), rtol=0, atol=1e-12)


def test_an_answer_that_is_no_number_is_a_skip(scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", clip(1), RATE)
    monkeypatch.setattr(scorer, "_begin", lambda windows: np.full((len(windows), 2), np.nan))
    (result,) = scorer.score_trials([Trial("a", tmp_path / "a.wav")])
    assert result.logits is None
    assert "nan" in (result.error or "")
    with pytest.raises(AudioError, match="clip 0 of the batch: the network's answer is not finite"):
        scorer.score_batch([clip(1)], [RATE])


@pytest.fixture
def few_threads(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("spectra_jax.inference.scorer._DECODERS", 2)
    return 2


def endless(taken: list[int]) -> Iterator[Trial]:
    for place in itertools.count():
        taken.append(place)
        yield Trial(str(place), Path(f"{place}.wav"))


def decoders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("spectra-jax-decode")]


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.01)


def test_no_more_than_three_batches_of_trials_are_taken(
    scorer: Scorer, few_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two batches with the device, and one decoded: here four clips, for the threads, rather than three."""
    taken: list[int] = []
    monkeypatch.setattr("spectra_jax.audio.decode", lambda *_, **__: as_decoded(clip(1)))
    monkeypatch.setattr(scorer, "_begin", lambda windows: np.zeros((len(windows), 2)))
    results = scorer.score_trials(endless(taken))
    for place in range(20):
        assert next(results).trial.utterance_id == str(place)
        handed_on = place // scorer.batch_size * scorer.batch_size
        assert len(taken) <= handed_on + 2 * scorer.batch_size + 2 * few_threads
    results.close()
    wait_until(lambda: decoders() == [])


def test_clips_are_decoded_while_the_device_computes(
    scorer: Scorer, few_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next batch is decoded and sent before an answer is waited for, and meanwhile the one after it is decoded."""
    size = scorer.batch_size
    lock = threading.Lock()
    decoded = 0
    begun: list[int] = []

    def read(path: Path, *_: object, **__: object) -> audio.Decoded:
        nonlocal decoded
        with lock:
            decoded += 1
        return as_decoded(clip(1))

    class Answer:
        """Of a device that is not done until the clips of two batches more are decoded."""

        def __init__(self, batch: int):
            self.batch = batch

        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            if self.batch < 3:
                assert len(begun) == self.batch + 2, "waited for an answer with nothing else to do for the device"
                wait_until(lambda: decoded >= size * (self.batch + 3))
            return np.zeros((size, 2))

    def begin(windows: np.ndarray) -> Answer:
        begun.append(len(windows))
        return Answer(len(begun) - 1)

    monkeypatch.setattr("spectra_jax.audio.decode", read)
    monkeypatch.setattr(scorer, "_begin", begin)
    trials = list(itertools.islice(endless([]), 5 * size))
    results = list(scorer.score_trials(trials))
    assert [result.trial for result in results] == trials
    assert begun == [size] * 5


def test_results_keep_the_order_of_the_trials(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever clip is decoded first: here each even one waits for the odd one after it."""
    done = [threading.Event() for _ in range(12)]

    def read(path: Path, *_: object, **__: object) -> audio.Decoded:
        place = int(path.stem)
        if place % 2 == 0:
            assert done[place + 1].wait(60)
        done[place].set()
        if place == 5:
            raise AudioError("no good")
        return as_decoded(np.full(70000, (place + 1) / 32768, np.float32))

    monkeypatch.setattr("spectra_jax.inference.scorer._DECODERS", 4)
    monkeypatch.setattr("spectra_jax.audio.decode", read)
    monkeypatch.setattr(scorer, "_begin", lambda windows: windows[:, :2].astype(np.float64))
    results = list(scorer.score_trials(itertools.islice(endless([]), 12)))
    assert [result.error for result in results] == [None] * 5 + ["no good"] + [None] * 6
    found = [round(result.logits[0] * 32768) for result in results if result.logits is not None]
    assert found == [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12]


def test_leaving_early_stops_the_threads(scorer: Scorer, few_threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    hold = threading.Event()
    reads: list[Path] = []

    def read(path: Path, *_: object, **__: object) -> audio.Decoded:
        reads.append(path)
        if int(path.stem) >= 8:
            hold.wait(60)
        return as_decoded(clip(1))

    monkeypatch.setattr("spectra_jax.audio.decode", read)
    monkeypatch.setattr(scorer, "_begin", lambda windows: np.zeros((len(windows), 2)))
    try:
        results = scorer.score_trials(endless([]))
        next(results)
        results.close()  # does not wait for the clips on hold
        assert len(reads) <= 8 + few_threads
    finally:
        hold.set()
    wait_until(lambda: decoders() == [])
    assert len(reads) <= 8 + few_threads, "a clip was decoded that nobody waits for"

    def fails(windows: np.ndarray) -> np.ndarray:
        raise MemoryError("no room")

    monkeypatch.setattr(scorer, "_begin", fails)
    with pytest.raises(MemoryError, match="no room"):
        list(scorer.score_trials(endless([])))
    wait_until(lambda: decoders() == [])


@pytest.mark.slow
def test_unload_and_load_again() -> None:
    scorer = Scorer("demo", batch_size=1)
    scorer.load()
    before = scorer.model
    scorer.load()
    assert scorer.model is before
    scores = scorer.score_batch([clip(1)], [RATE])
    let_go = weakref.ref(before)
    del before
    scorer.unload()
    gc.collect()
    assert let_go() is None, "the weights are still in memory"
    assert scorer.score_batch([clip(1)], [RATE]) == scores


def test_threads_that_score_at_once_load_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []

    def load(*given: object) -> SpectraAASIST3:
        loads.append(given)
        return filled(*given)  # type: ignore[arg-type]

    monkeypatch.setattr("spectra_jax.inference.scorer.filled", load)
    shared = Scorer("demo", batch_size=1)
    with ThreadPoolExecutor(4) as pool:
        scores = list(pool.map(lambda seed: shared.score_batch([clip(seed)], [RATE]), [1, 2, 1, 2]))
    assert len(loads) == 1
    assert scores[:2] == scores[2:]
    assert scores[0] != scores[1]


def test_what_a_scorer_cannot_be_made_with() -> None:
    with pytest.raises(ValueError, match="batch_size = 0"):
        Scorer("demo", batch_size=0)
    with pytest.raises(ValueError, match="batch_size = 'most'"):
        Scorer("demo", batch_size="most")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="devices is empty"):
        Scorer("demo", devices=[])
    with pytest.raises(ValueError, match="'float16' is not one of float32, tf32, bfloat16, float64"):
        Scorer("demo", precision="float16")


@pytest.mark.parametrize("mode", [False, True], ids=["x32 process", "x64 process"])
def test_float64_leaves_the_process_s_mode_alone(mode: bool, scorer: Scorer) -> None:
    with jax.enable_x64(mode):
        scorer.logits(windows(range(1)))
        assert jax.config.jax_enable_x64 == mode
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(scorer.logits, [windows(range(2)), windows(range(2, 4))])
    np.testing.assert_allclose(np.concatenate([first, second]), scorer.logits(windows(range(4))), rtol=0, atol=1e-12)


# Root mean square error over root mean square of the encoder's output, above and below which the precision would not be
# what it says. Measured: float32 and tf32 (which is float32 on a CPU) 6e-7, bfloat16 6e-3.
@pytest.mark.parametrize(
    ("precision", "least", "most"), [("float32", 1e-8, 1e-5), ("tf32", 1e-8, 1e-5), ("bfloat16", 5e-4, 3e-2)]
)
def test_every_precision_runs_and_is_what_it_says(
    precision: str, least: float, most: float, model: SpectraAASIST3
) -> None:
    x = windows(range(7, 9))
    reduced = spectra_jax.load(TINY, precision)
    found = np.asarray(jax.jit(lambda x: reduced.encoder(x))(x), np.float64)
    with jax.enable_x64(True):
        exact = np.asarray(jax.jit(lambda x: model.encoder(x))(x))
    error = np.sqrt(np.mean((found - exact) ** 2) / np.mean(exact**2))
    assert least < error < most
    kernel = reduced.encoder.layers[0].attention.query.kernel[...]
    assert kernel.dtype == ("bfloat16" if precision == "bfloat16" else "float32")
    assert reduced.aasist.head.spline_weight[...].dtype == np.float32


def test_lengths_the_network_does_not_take() -> None:
    forward, params = split(spectra_jax.load(TINY))
    for samples, said in [
        (1039, "1039 samples give 2 frames, but the network takes 3 to max_frames = 400, that is 1040 to 128399"),
        (128400, "128400 samples give 401 frames"),
    ]:
        with pytest.raises(ValueError, match=said):
            jax.eval_shape(forward, params, jax.ShapeDtypeStruct((1, samples), np.float32))
    for samples in (1040, 30000, 128399):
        assert jax.eval_shape(forward, params, jax.ShapeDtypeStruct((3, samples), np.float32)).shape == (3, 2)
    with pytest.raises(ValueError, match=r"expected windows of shape \(batch, samples\), found \(64600,\)"):
        jax.eval_shape(forward, params, jax.ShapeDtypeStruct((64600,), np.float32))


@pytest.mark.slow
def test_float32_is_float32_in_an_x64_process() -> None:
    scorer = Scorer(TINY, batch_size=1)
    scores = scorer.score_batch([clip(1)], [RATE])
    before = dict(jax.config.values)
    with jax.enable_x64(True):
        wide = Scorer(TINY, batch_size=1)
        assert wide.logits(windows(range(1))).dtype == np.float32
        np.testing.assert_allclose(wide.score_batch([clip(1)], [RATE]), scores, rtol=0, atol=LOGITS["float32"])
    assert dict(jax.config.values) == before


def test_the_forward_pass_is_pure() -> None:
    """No effects, nothing of the device in it, and nothing left behind: the same numbers the second time."""
    forward, params = split(spectra_jax.load(TINY))
    shape = jax.ShapeDtypeStruct((1, 64600), np.float32)
    jaxpr = jax.make_jaxpr(forward)(params, shape)
    assert jaxpr.effects == set()
    before = [np.asarray(leaf) for leaf in jax.tree.leaves(params)]
    compiled = jax.jit(forward)
    first, second = (np.asarray(compiled(params, windows(range(1)))) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    for leaf, then in zip(jax.tree.leaves(params), before, strict=True):
        np.testing.assert_array_equal(leaf, then)


def test_float64_without_x64_is_refused() -> None:
    with pytest.raises(ValueError, match="x64 mode"):
        spectra_jax.load("demo", precision="float64")


def test_damaged_weights_are_told_of_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for the compile that runs beside the reading."""
    done = threading.Event()

    class Forward:
        def lower(self) -> Forward:
            return self

        def compile(self, options: dict[str, object]) -> None:
            done.wait(60)

    def damaged(*_: object) -> SpectraAASIST3:
        raise CheckpointError("damaged")

    monkeypatch.setattr(Scorer, "_forward", lambda *_: (Forward(), ()))
    monkeypatch.setattr("spectra_jax.inference.scorer.filled", damaged)
    try:
        with pytest.raises(CheckpointError, match="damaged"):
            Scorer("demo").load()
        assert not done.is_set()
    finally:
        done.set()


# Windows of long clips, and groups


def test_every_window_is_scored_as_if_it_were_the_first(scorer: Scorer, tmp_path: Path) -> None:
    long, rate = clip(9, 64_600 + 2 * 16_000 + 500), 16_000
    soundfile.write(tmp_path / "long.wav", long, rate, subtype="FLOAT")
    soundfile.write(tmp_path / "short.wav", clip(1), rate, subtype="FLOAT")
    trials = [Trial("long", tmp_path / "long.wav"), Trial("short", tmp_path / "short.wav")]
    emphasised = audio.pre_emphasis(long)
    wanted = scorer.logits(np.stack([emphasised[start : start + 64_600] for start in (0, 16_000, 32_000)]))
    found = {how: list(scorer.score_trials(trials, listening=Listening(1.0, how))) for how in AGGREGATES}
    for results in found.values():
        assert results[0].window_scores == pytest.approx(wanted[:, 1], abs=1e-12)
        assert len(results[1].window_scores or ()) == 1
    plain = list(scorer.score_trials(trials))
    assert [result.window_scores for result in plain] == [None, None]
    assert found["first"][0].logits == pytest.approx(plain[0].logits, abs=1e-12)
    assert found["mean"][0].logits == pytest.approx(wanted.mean(axis=0), abs=1e-12)
    assert found["median"][0].logits == pytest.approx(np.median(wanted, axis=0), abs=1e-12)
    assert found["min"][0].logits == pytest.approx(wanted[wanted[:, 1].argmin()], abs=1e-12)


AGGREGATES = ("first", "mean", "median", "min")


def test_windows_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="hop = 0"):
        Listening(0.0)
    with pytest.raises(ValueError, match="'max' is none of first, mean"):
        Listening(1.0, "max")  # type: ignore[arg-type]


Blocks = Callable[[], Iterator[np.ndarray]]


def stream(
    monkeypatch: pytest.MonkeyPatch,
    recordings: dict[str, Blocks],
    rate: int = RATE,
    expected_samples: int | None = None,
) -> list[str]:
    """Have `open_stream` give these recordings' blocks. Returns the names of those that were closed, as they are."""
    closed: list[str] = []

    @contextmanager
    def open_stream(path: Path, content: bytes | None = None) -> Iterator[audio.AudioStream]:
        try:
            yield audio.AudioStream(rate, recordings[path.stem](), expected_samples)
        finally:
            closed.append(path.stem)

    monkeypatch.setattr("spectra_jax.audio.open_stream", open_stream)
    return closed


def in_blocks(samples: np.ndarray, then: Exception | None = None) -> Blocks:
    def blocks() -> Iterator[np.ndarray]:
        yield from np.split(samples.astype(np.float32), range(10_000, len(samples), 10_000))
        if then is not None:
            raise then

    return blocks


def trials_of(names: Iterable[str]) -> list[Trial]:
    return [Trial(name, Path(f"{name}.wav")) for name in names]


def levels(windows: np.ndarray) -> np.ndarray:
    """Stands in for the network: answers a window of constant samples with their level, before pre-emphasis."""
    assert np.isfinite(windows).all()
    return np.stack([windows[:, -1], windows[:, -1]], axis=1).astype(np.float64) / np.float32(0.03)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_memory_does_not_grow_with_a_recording(scorer: Scorer, monkeypatch: pytest.MonkeyPatch, rate: int) -> None:
    """Half an hour is 115 MB of samples at 16 kHz, and its windows, which overlap, are 230 MB."""
    seconds, block = 1800, np.random.default_rng(0).standard_normal(32_768, np.float32)
    audio.resample(block, rate)  # imports scipy, which is no part of what is measured
    stream(monkeypatch, {"long": lambda: itertools.repeat(block, seconds * rate // len(block))}, rate)
    monkeypatch.setattr(scorer, "_begin", lambda windows: np.zeros((len(windows), 2)))
    tracemalloc.start()
    try:
        (result,) = scorer.score_trials(trials_of(["long"]), listening=Listening(2.0, "min"))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result.error is None
    assert result.seconds == pytest.approx(seconds, abs=3)
    assert len(result.window_scores or ()) in (897, 898)
    assert peak < 40e6


@pytest.mark.parametrize(
    ("recording", "error", "seconds"),
    [
        (in_blocks(np.append(np.ones(300_000), np.nan)), "1 of 300,001 samples are NaN or infinite", 300_001 / RATE),
        (in_blocks(np.ones(300_000), AudioError("cut short")), "cut short", None),
        (in_blocks(np.append(np.ones(300_000), [3e38, -3e38] * 900)), "values too large for float32", 301_800 / RATE),
        (in_blocks(np.append(np.nan, np.ones(300_000))), "the first is sample 0 (nan)", 300_001 / RATE),
        (in_blocks(np.ones(100), AudioError("cut short")), "cut short", None),
        (in_blocks(np.ones(0)), "long.wav: holds no samples", None),
    ],
)
def test_what_is_wrong_at_the_end_refuses_the_whole_recording(
    recording: Blocks, error: str, seconds: float | None, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although its first windows were scored by then. No window with NaN in it goes to the network."""
    closed = stream(monkeypatch, {"a": in_blocks(np.ones(200_000)), "long": recording, "b": in_blocks(np.ones(9))})
    monkeypatch.setattr(scorer, "_begin", levels)
    before, refused, after = scorer.score_trials(trials_of(["a", "long", "b"]), listening=Listening(0.1))
    assert error in (refused.error or "")
    assert refused.logits is refused.window_scores is None
    assert refused.seconds == (seconds if seconds is None else pytest.approx(seconds))
    assert (refused.sha256 is None) == (seconds is None)
    assert before.window_scores == pytest.approx([1] * 85)
    assert after.window_scores == pytest.approx([1])
    assert sorted(closed) == ["a", "b", "long"]


def test_an_impossible_rate_refuses_a_recording(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    stream(monkeypatch, {"long": in_blocks(np.ones(300_000))}, rate=999)
    (result,) = scorer.score_trials(trials_of(["long"]), listening=Listening(1.0))
    assert "sample rate 999 is not a whole number" in (result.error or "")
    assert result.seconds == pytest.approx(300_000 / 999)


@pytest.mark.parametrize("flush_every", [None, 1, 2, 3])
def test_batches_fill_across_recordings(
    flush_every: int | None, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The composition of batches depends on the trials alone: by rounding, scores depend on it."""
    counts = [1, 40, 2, 3, 16, 17, 1, 1, 33, 15]
    length = {count: 64_600 + (count - 1) * 8000 for count in counts}
    recordings = {str(index): in_blocks(np.full(length[count], index + 1)) for index, count in enumerate(counts)}
    refused = {"4": in_blocks(np.full(100, np.nan)), "6": in_blocks(np.ones(64_600), AudioError("cut short"))}
    stream(monkeypatch, recordings | refused)
    begun: list[list[int]] = []

    def begin(windows: np.ndarray) -> np.ndarray:
        answers = levels(windows)
        begun.append([round(level) - 1 for level in answers[:, 0]])
        return answers

    monkeypatch.setattr(scorer, "_begin", begin)
    progress: list[int] = []
    results = list(
        scorer.score_trials(
            trials_of(recordings),
            listening=Listening(0.5),
            flush_every=flush_every,
            on_progress=lambda done: progress.append(done.windows),
        )
    )
    assert [len(result.window_scores or ()) for result in results] == [
        0 if name in refused else count for name, count in zip(recordings, counts, strict=True)
    ]
    groups: list[list[int | None]] = [[]]
    for index, count in enumerate(counts):
        # One that is refused takes a row that stays empty.
        for row in [None] if str(index) in refused else [index] * count:
            groups[-1].append(row)
            if len(groups[-1]) == scorer.batch_size:
                groups.append([])
        if flush_every and (index + 1) % flush_every == 0 and groups[-1]:
            groups.append([])
    wanted = [[row for row in group if row is not None] for group in groups]
    assert begun == [group for group in wanted if group]
    assert sorted(set(progress)) == list(np.cumsum([len(group) for group in begun]))


@pytest.mark.parametrize(
    ("stated", "shares"),
    [
        (64_600 + 8 * RATE, [3 / 9, 6 / 9, 1, 2]),
        (None, [0, 0, 1, 2]),
        (0, [1, 1, 1, 2]),  # wrong
        (64_600 + 89 * RATE, [3 / 90, 6 / 90, 1, 2]),  # wrong
    ],
)
def test_progress_moves_while_a_long_recording_is_scored(
    stated: int | None, shares: list[float], scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings = {"long": in_blocks(np.ones(64_600 + 8 * RATE)), "missing": in_blocks(np.ones(0))}
    stream(monkeypatch, recordings, expected_samples=stated)
    monkeypatch.setattr(scorer, "_begin", levels)
    found: list[ScoringProgress] = []
    list(scorer.score_trials(trials_of(recordings), listening=Listening(1.0), on_progress=found.append))
    assert [done.windows for done in found] == [3, 6, 9, 9]
    assert [done.trials for done in found] == pytest.approx(shares)


def test_a_recording_is_decoded_only_a_little_ahead_of_the_device(
    scorer: Scorer, few_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulled: list[int] = []

    def endless_blocks() -> Iterator[np.ndarray]:
        for index in itertools.count():
            pulled.append(index)
            yield np.ones(RATE, np.float32)

    closed = stream(monkeypatch, {"endless": endless_blocks, "next": endless_blocks})
    scored = threading.Event()

    class Answer:
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            scored.set()
            assert hold.wait(60)
            return np.zeros((scorer.batch_size, 2))

    hold = threading.Event()
    monkeypatch.setattr(scorer, "_begin", lambda windows: Answer())
    reported: list[int] = []

    def stop(done: ScoringProgress) -> None:
        reported.append(done.windows)
        if len(reported) == 5:
            raise KeyboardInterrupt

    results = scorer.score_trials(trials_of(["endless", "next"]), listening=Listening(1.0), on_progress=stop)
    consumer = ThreadPoolExecutor(1)
    stopped = consumer.submit(next, results)
    assert scored.wait(60)
    # Two batches with the device, the windows decoded together with them, and the next ones, of two recordings.
    wait_until(lambda: len(pulled) >= 3 * 16)
    time.sleep(0.1)
    assert len(pulled) <= 4 * 16 + 10
    hold.set()
    with pytest.raises(KeyboardInterrupt):
        stopped.result(60)
    assert reported == [scorer.batch_size * number for number in range(1, 6)]
    consumer.shutdown()
    wait_until(lambda: decoders() == [])
    del results, stopped
    gc.collect()
    assert sorted(closed) == ["endless", "next"]


def test_what_fails_in_a_decoding_thread_is_raised(
    scorer: Scorer, few_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = stream(monkeypatch, {"a": in_blocks(np.ones(10**6), MemoryError("no memory")), "b": in_blocks(np.ones(9))})
    monkeypatch.setattr(scorer, "_begin", levels)
    with pytest.raises(MemoryError, match="no memory"):
        list(scorer.score_trials(trials_of(["a", "b"] * 20), listening=Listening(1.0)))
    wait_until(lambda: decoders() == [])
    assert "a" in closed


def test_the_smallest_hop_there_is(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    stream(monkeypatch, {"long": in_blocks(np.ones(64_605))}, expected_samples=64_605)
    monkeypatch.setattr(scorer, "_begin", levels)
    (result,) = scorer.score_trials(trials_of(["long"]), listening=Listening(5e-324))
    assert len(result.window_scores or ()) == 6


def test_groups_are_flushed(scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    monkeypatch.setattr("spectra_jax.audio.decode", lambda *_, **__: as_decoded(clip(1)))
    monkeypatch.setattr(scorer, "_begin", lambda windows: begun.append(len(windows)) or np.zeros((len(windows), 2)))
    trials = [Trial(str(place), tmp_path / "x.wav") for place in range(11)]
    results = list(scorer.score_trials(trials, flush_every=5))
    assert [result.trial for result in results] == trials
    assert begun == [3, 2, 3, 2, 1]


class Clock:
    """Instead of `time`: a clock that moves when it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_listing_and_the_device_are_timed_apart(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()

    def listed() -> Iterator[Trial]:
        for index in range(6):
            clock.now += 1
            yield Trial(str(index), Path("x.wav"))

    def collected(windows: np.ndarray, begun: object) -> tuple[np.ndarray, np.ndarray]:
        del begun
        clock.now += 10 * len(windows)
        return np.zeros((len(windows), 2)), np.zeros(len(windows), bool)

    monkeypatch.setattr("spectra_jax.inference.scorer.time", clock)
    monkeypatch.setattr("spectra_jax.audio.decode", lambda *_, **__: as_decoded(clip(1)))
    monkeypatch.setattr(scorer, "_begin", lambda windows: np.zeros((len(windows), 2)))
    monkeypatch.setattr(scorer, "_end", collected)
    waited = Waited()
    assert len(list(scorer.score_trials(listed(), waited=waited))) == 6
    assert waited.seconds == {"listing": 6, "decoding": 0, "device": 60}


def test_what_waits_within_another_wait_is_not_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("spectra_jax.inference.scorer.time", clock)
    waited = Waited()

    def passing(items: Iterable[int], seconds: float) -> Iterator[int]:
        for item in items:
            clock.now += seconds
            yield item

    decoded = waited.timed("decoding", passing(waited.timed("listing", passing(range(4), 1)), 5), without="listing")
    assert list(decoded) == [0, 1, 2, 3]
    assert waited.seconds == {"listing": 4, "decoding": 20, "device": 0}
