"""The encoder: its arguments, padding, and training. Its values: see test_family_parity.py."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from spectra_jax.checkpoints.resolve import load
from spectra_jax.errors import ConfigError
from spectra_jax.model.encoder import SpeechEncoder, TransformerLayer
from spectra_jax.model.platform import on_devices
from tests.model.encoder.small import noise, small_config, small_encoder

pytestmark = pytest.mark.usefixtures("unoptimized")


def test_a_layer_of_a_class_of_the_user_can_change_its_state() -> None:
    """All encoder layers share one trace, apart from those that have more than weights."""

    class Counting(TransformerLayer):
        calls: nnx.BatchStat[jax.Array]

        def __call__(self, x: jax.Array) -> jax.Array:  # type: ignore[override]
            self.calls[...] = self.calls[...] + 1
            return super().__call__(x)

    encoder = load("demo").encoder
    counting = Counting(encoder.config, precision=encoder.precision, rngs=nnx.Rngs(0))
    counting.calls = nnx.BatchStat(jax.numpy.zeros((), np.int32))
    encoder.layers[0] = counting
    for _ in range(2):
        encoder(jax.numpy.ones((1, encoder.config.num_samples(3))))
    assert counting.calls[...] == 2


@pytest.mark.usefixtures("annotations_unchecked")
def test_a_waveform_that_the_encoder_does_not_take_is_refused() -> None:
    encoder = load("demo").encoder
    shortest = encoder.config.num_samples(1)
    with pytest.raises(ValueError, match=rf"a waveform of {shortest - 1} samples is too short: .* {shortest} samples"):
        encoder(np.ones((1, shortest - 1), np.float32))
    with pytest.raises(ValueError, match=r"expected waveforms of shape \(batch, samples\), found \(400,\)"):
        encoder(np.ones(400, np.float32))


def compiled(encoder: SpeechEncoder) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    graph, state = nnx.split(encoder)
    run = jax.jit(lambda state, x, lengths: nnx.merge(graph, state)(x, lengths))
    return lambda x, lengths: np.asarray(run(state, x, lengths))


@pytest.fixture(scope="module", params=["wav2vec2", "wavlm"])
def encode(request: pytest.FixtureRequest) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    return compiled(small_encoder(model_type=request.param))


@settings(deadline=None, max_examples=30)
@given(
    lengths=st.lists(st.integers(14, 300), min_size=2, max_size=2),
    size=st.sampled_from([300, 301, 450]),
    seed=st.integers(0, 2**31),
)
def test_padding_never_changes_the_valid_frames_of_layer_norm_extractors(
    encode: Callable[[np.ndarray, np.ndarray], np.ndarray], lengths: list[int], size: int, seed: int
) -> None:
    """Neither its size nor its values, which need not be zeros."""
    x = noise(2, size, seed)
    expected = encode(np.where(np.arange(300) < np.reshape(lengths, (2, 1)), x[:, :300], 0), np.asarray(lengths))
    found = encode(x, np.asarray(lengths))
    for index, length in enumerate(lengths):
        frames = small_config().num_frames(length)
        np.testing.assert_allclose(found[index, :frames], expected[index, :frames], atol=2e-5)


@pytest.mark.parametrize("model_type", ["wav2vec2", "wavlm"])
def test_a_padded_clip_has_the_frames_of_the_clip_alone(model_type: str) -> None:
    encoder = small_encoder(model_type=model_type)
    x = noise(2, 300)
    found, alone = compiled(encoder)(x, np.asarray([300, 90])), np.asarray(encoder(x[1:, :90]))[0]
    np.testing.assert_allclose(found[1, : len(alone)], alone, atol=2e-5)


def test_padding_changes_the_valid_frames_of_group_norm_extractors() -> None:
    encoder = small_encoder(feat_extract_norm="group", do_stable_layer_norm=False)
    x = noise(1, 600)
    alone = np.asarray(encoder(x[:, :200]))
    padded = np.asarray(encoder(np.pad(x[:, :200], ((0, 0), (0, 400))), np.asarray([200])))
    assert np.abs(padded[:, : alone.shape[1]] - alone).max() > 1e-3


def test_the_length_of_all_samples_is_no_mask() -> None:
    encoder = small_encoder()
    x = noise(2, 300)
    np.testing.assert_allclose(np.asarray(encoder(x, np.asarray([300, 300]))), np.asarray(encoder(x)), atol=1e-6)


def test_traced_lengths_give_the_same_values_and_no_nan() -> None:
    graph, state = nnx.split(small_encoder(model_type="wavlm"))

    @jax.jit
    def run(state: Any, x: jax.Array, lengths: jax.Array) -> tuple[jax.Array, Any]:
        def loss(state: Any) -> tuple[jax.Array, jax.Array]:
            last = nnx.merge(graph, state)(x, lengths)
            return jnp.sum(last**2), last

        gradient, last = jax.grad(loss, has_aux=True)(state)
        return last, gradient

    x = noise(2, 300)
    last, _ = run(state, x, np.asarray([300, 100]))
    expected = nnx.merge(graph, state)(x, np.asarray([300, 100]))
    np.testing.assert_allclose(np.asarray(last), np.asarray(expected), atol=1e-5)
    # A clip that is shorter than one frame cannot be reported.
    for value in jax.tree.leaves(run(state, x, np.asarray([300, 0]))):
        assert np.isfinite(value).all()


@pytest.mark.usefixtures("annotations_unchecked")
@pytest.mark.parametrize(
    ("lengths", "reason"),
    [
        ([300, 13], r"lengths\[1\] = 13, but it must be 14 \(the samples of one frame\) to 300"),
        ([301, 300], r"lengths\[0\] = 301, but it must be 14 .* to 300 \(the samples of the waveform\)"),
        ([300], r"one whole number of samples for each of the 2 waveforms, found shape \(1,\) of int"),
        ([300.0, 200.0], r"found shape \(2,\) of float64"),
    ],
)
def test_lengths_that_the_waveforms_cannot_have_are_refused(lengths: list[int], reason: str) -> None:
    encoder = small_encoder()
    with pytest.raises(ValueError, match=reason):
        encoder(noise(2, 300), np.asarray(lengths))


@pytest.mark.usefixtures("annotations_unchecked")
def test_lists_are_taken_as_arrays() -> None:
    encoder = small_encoder()
    x = noise(2, 300)
    lists: Any = x.tolist(), [300, 200]
    np.testing.assert_array_equal(encoder(*lists), encoder(x, np.asarray([300, 200])))
    with pytest.raises(ValueError, match=r"one whole number of samples for each of the 2 waveforms, found shape \(\)"):
        encoder(x, 300)  # type: ignore[arg-type]


@pytest.mark.usefixtures("annotations_unchecked")
def test_samples_that_are_not_floating_point_are_refused() -> None:
    with pytest.raises(ValueError, match="floating-point samples, found int16; divide 16-bit samples by 32768"):
        small_encoder()(np.zeros((2, 300), np.int16))


@pytest.mark.usefixtures("annotations_unchecked")
@pytest.mark.parametrize("rngs", [None, jax.random.key(0), nnx.Rngs(params=0)], ids=["none", "key", "other_stream"])
def test_training_without_a_stream_of_keys_is_refused(rngs: Any) -> None:
    encoder = small_encoder(hidden_dropout=0.1)
    encoder.train()  # type: ignore[no-untyped-call]
    with pytest.raises(ValueError, match=r"pass rngs=nnx.Rngs\(dropout=key\), or call eval\(\) first"):
        encoder(noise(2, 300), rngs=rngs)


@pytest.mark.parametrize("is_pre_norm", [True, False])
def test_the_last_hidden_state_is_that_of_a_call(is_pre_norm: bool) -> None:
    encoder = small_encoder(do_stable_layer_norm=is_pre_norm)
    x = noise(1, 200)
    states = encoder.hidden_states(x)
    assert len(states) == 3
    np.testing.assert_array_equal(np.asarray(states[-1]), np.asarray(encoder(x)))


def test_do_normalize_makes_the_scale_of_a_waveform_irrelevant() -> None:
    encoder = small_encoder()
    x = noise(1, 200)
    assert np.abs(np.asarray(encoder(x)) - np.asarray(encoder(9 * x))).max() > 1e-4
    encoder.do_normalize = True
    lengths = np.asarray([150])
    np.testing.assert_allclose(np.asarray(encoder(x, lengths)), np.asarray(encoder(9 * x + 5, lengths)), atol=1e-4)


def test_in_training_without_random_rates_the_program_is_that_of_an_encoder_without_them() -> None:
    encoder = small_encoder()
    encoder.train()  # type: ignore[no-untyped-call]
    x = noise(1, 200)
    rngs = nnx.Rngs(dropout=0)
    with_rngs, without = (str(jax.make_jaxpr(lambda x, rngs=given: encoder(x, rngs=rngs))(x)) for given in (rngs, None))
    assert with_rngs == without and "random" not in without
    assert rngs.dropout.count[...] == 0


@pytest.mark.parametrize(
    "rate", ["hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "layerdrop"]
)
def test_each_dropout_acts_in_training_only(rate: str) -> None:
    x = noise(1, 200)
    encoder, plain = small_encoder(**{rate: 0.5}), small_encoder()
    np.testing.assert_array_equal(np.asarray(encoder(x)), np.asarray(plain(x)))
    encoder.train()  # type: ignore[no-untyped-call]
    outputs = [np.asarray(encoder(x, rngs=nnx.Rngs(dropout=seed))) for seed in (0, 0, *range(1, 6))]
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert any(not np.array_equal(outputs[0], other) for other in outputs[2:])
    with pytest.raises(ValueError, match=r"pass rngs=nnx.Rngs\(dropout=key\), or call eval\(\) first"):
        encoder(x)


def share_of_skipped_layers(encoder: SpeechEncoder, draws: int) -> np.ndarray:
    """How often the output of each layer but the last is its input."""
    graph, state = nnx.split(encoder)

    @jax.jit
    def run(state: Any, key: jax.Array) -> jax.Array:
        states = nnx.merge(graph, state).hidden_states(noise(1, 40), rngs=nnx.Rngs(dropout=key))[:-1]
        return jnp.stack([jnp.all(a == b) for a, b in itertools.pairwise(states)])

    return np.mean([np.asarray(run(state, key)) for key in jax.random.split(jax.random.key(0), draws)], axis=0)


@pytest.mark.parametrize(("model_type", "expected"), [("wav2vec2", [0.3, 0.3]), ("wavlm", [0.0, 0.3])])
def test_layerdrop_skips_layers_at_its_rate_inside_jit(model_type: str, expected: list[float]) -> None:
    encoder = small_encoder(layerdrop=0.3, num_hidden_layers=3, model_type=model_type)
    encoder.train()  # type: ignore[no-untyped-call]
    np.testing.assert_allclose(share_of_skipped_layers(encoder, 400), expected, atol=0.08)


def test_layerdrop_of_one_layer_is_a_conditional() -> None:
    """A skipped layer takes no time."""
    encoder = small_encoder(layerdrop=0.3)
    encoder.train()  # type: ignore[no-untyped-call]
    with on_devices("cpu"):  # otherwise the program also chooses between platforms
        program = str(jax.make_jaxpr(lambda x: encoder(x, rngs=nnx.Rngs(dropout=0)))(noise(1, 200)))
    assert program.count("cond[") == 2


def projected(encoder: SpeechEncoder, x: np.ndarray, lengths: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """What the projection gives, and what the positional convolution is given."""
    seen = []
    convolution = encoder.positional_convolution

    class Recorder(type(convolution)):  # type: ignore[misc]
        def __call__(self, x: jax.Array) -> jax.Array:
            seen.append(np.asarray(x))
            return super().__call__(x)

    recorder = Recorder(encoder.config, precision=encoder.precision, rngs=nnx.Rngs(0))
    encoder.positional_convolution = recorder
    stages: dict[str, np.ndarray] = {}

    def record(name: str, value: jax.Array) -> jax.Array:
        stages[name] = np.asarray(value)
        return value

    encoder(x, lengths, rngs=nnx.Rngs(dropout=3), hook=record)
    return stages["ssl.feature_projection"], seen[0]


def test_spec_augment_replaces_frames_by_the_embedding_and_features_by_zeros() -> None:
    encoder = small_encoder(
        mask_time_prob=0.4, mask_time_length=3, mask_feature_prob=0.3, mask_feature_length=2, mask_feature_min_masks=1
    )
    assert encoder.masked_spec_embed is not None
    encoder.train()  # type: ignore[no-untyped-call]
    lengths = np.asarray([600, 300])
    before, after = projected(encoder, noise(2, 600), lengths)
    embedding = np.asarray(encoder.masked_spec_embed[...])
    for clip, projection, length in zip(after, before, lengths, strict=True):
        frames = encoder.config.num_frames(int(length))
        assert (clip[frames:] == 0).all()
        zeroed = (clip == 0).all(axis=0)
        masked = (clip[:frames, ~zeroed] == embedding[~zeroed]).all(axis=1)
        assert 0 < zeroed.sum() < 12 and 0 < masked.sum() < frames
        np.testing.assert_array_equal(clip[:frames][~masked][:, ~zeroed], projection[:frames][~masked][:, ~zeroed])


def test_spec_augment_can_be_switched_off_and_is_off_in_evaluation() -> None:
    x = noise(1, 600)
    for encoder in (small_encoder(mask_time_prob=0.4, apply_spec_augment=False), small_encoder(mask_time_prob=0.4)):
        if not encoder.config.apply_spec_augment:
            encoder.train()  # type: ignore[no-untyped-call]
        before, after = projected(encoder, x)
        np.testing.assert_array_equal(before, after)
    assert small_encoder().masked_spec_embed is None


@pytest.mark.slow
def test_remat_gives_the_same_gradients_with_the_same_dropout() -> None:
    encoder = small_encoder(hidden_dropout=0.2, attention_dropout=0.1, layerdrop=0.2)
    encoder.train()  # type: ignore[no-untyped-call]
    x = noise(1, 200)

    def gradient(remat: bool) -> list[np.ndarray]:
        encoder.remat = remat
        graph, state = nnx.split(encoder)

        @jax.jit
        def run(state: Any) -> Any:
            return jax.grad(lambda state: jnp.sum(nnx.merge(graph, state)(x, rngs=nnx.Rngs(dropout=1)) ** 2))(state)

        return [np.asarray(leaf) for leaf in jax.tree.leaves(run(state))]

    for plain, rematerialised in zip(gradient(False), gradient(True), strict=True):
        np.testing.assert_allclose(plain, rematerialised, rtol=1e-4, atol=1e-4)


def test_buckets_of_wavlm_that_leave_no_distance_for_the_logarithmic_ones_are_refused() -> None:
    with pytest.raises(ConfigError, match="max_bucket_distance = 80, but it must be above 80"):
        small_config(model_type="wavlm", num_buckets=320, max_bucket_distance=80)
