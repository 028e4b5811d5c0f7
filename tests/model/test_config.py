"""The configuration: from and to JSON, and errors that name the field, the value and the rule."""

from __future__ import annotations

import json

import pytest

from spectra_jax.errors import ConfigError
from spectra_jax.model.config import EncoderConfig, SpectraConfig
from spectra_jax.model.spectra import count_parameters
from tests.conftest import GOLDEN


def test_an_empty_object_is_the_published_architecture() -> None:
    published = json.loads((GOLDEN / "full" / "config.json").read_text())
    assert SpectraConfig.from_dict({}) == SpectraConfig() == SpectraConfig.from_dict(published)


@pytest.mark.parametrize("network", ["tiny", "full"])
def test_a_configuration_is_built_again_from_its_json(network: str) -> None:
    values = json.loads((GOLDEN / network / "config.json").read_text())
    config = SpectraConfig.from_dict(values)
    assert config.to_dict() == values
    again = SpectraConfig.from_dict(json.loads(config.to_json()))
    assert again == config and hash(again) == hash(config)


def test_fields_that_an_earlier_version_lacks_are_written_only_with_another_value() -> None:
    """So that earlier versions read the configurations of detectors, and runs that they started are the same runs."""
    assert "model_type" not in EncoderConfig().to_dict()
    config = EncoderConfig(model_type="wavlm", num_buckets=32)
    values = config.to_dict()
    assert values["model_type"] == "wavlm" and values["num_buckets"] == 32 and "layerdrop" not in values
    assert EncoderConfig.from_dict(values) == config


def test_omitted_fields_have_the_published_values() -> None:
    config = SpectraConfig.from_dict({"bridge_dim": 96, "encoder": {"num_hidden_layers": 2}})
    assert config.bridge_dim == 96
    assert config.encoder == EncoderConfig(num_hidden_layers=2)
    assert config.num_spectral_nodes == 32


def test_frames_of_samples_and_samples_of_frames() -> None:
    encoder = SpectraConfig().encoder
    assert encoder.num_frames(64600) == encoder.num_frames(64400) == 201
    assert encoder.num_frames(64399) == 200
    assert (encoder.num_frames(399), encoder.num_frames(400), encoder.num_frames(0)) == (0, 1, 0)
    for frames in (1, 2, 200, 400):
        assert encoder.num_frames(encoder.num_samples(frames)) == frames
        assert encoder.num_frames(encoder.num_samples(frames) - 1) == frames - 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bridge_dm": 128}, "unknown field 'bridge_dm'"),
        ({"encoder": {"layers": 3, "heads": 2}}, "unknown fields 'heads', 'layers'"),
        ({"encoder": 3}, "expected a JSON object, found 3"),
        ({"encoder": {"num_attention_heads": 7}}, "num_attention_heads = 7, but it must be a divisor of hidden_size"),
        ({"encoder": {"num_conv_pos_embedding_groups": 48}}, "num_conv_pos_embedding_groups = 48"),
        ({"encoder": {"hidden_size": 64.0}}, "hidden_size = 64.0, but it must be a whole number"),
        ({"encoder": {"hidden_act": "gelu_new"}}, 'hidden_act = "gelu_new", but it must be "gelu"'),
        ({"encoder": {"do_stable_layer_norm": 1}}, "do_stable_layer_norm = 1, but it must be true or false"),
        ({"encoder": {"feat_extract_norm": "batch"}}, 'feat_extract_norm = "batch", but it must be one of layer'),
        ({"encoder": {"layer_norm_eps": 0}}, "layer_norm_eps = 0, but it must be a number above 0"),
        ({"encoder": {"conv_kernel": [10, 3]}}, "conv_kernel = [10, 3], but it must be as long as conv_dim (7 layers)"),
        ({"encoder": {"conv_dim": []}}, "conv_dim = []"),
        ({"model_type": "wav2vec2"}, 'model_type = "wav2vec2", but it must be "spectra_aasist3"'),
        ({"bridge_dim": True}, "bridge_dim = true"),
        ({"bridge_dim": 2}, "bridge_dim = 2, but it must be a whole number of at least 3"),
        ({"preemphasis": 1.0}, "preemphasis = 1.0, but it must be a number from 0 to below 1"),
        ({"preemphasis": "0.97"}, 'preemphasis = "0.97"'),
        ({"num_classes": 3}, "num_classes = 3, but it must be 2"),
        ({"residual_channels": [[1, 32], [64, 64]]}, "residual_channels = [[1, 32], [64, 64]], but it must be a chain"),
        ({"gat_dims": [64]}, "gat_dims = [64], but it must be two widths"),
        ({"pool_ratios": [0.5, 0.5, 1.5, 0.5]}, "pool_ratios = 1.5"),
        ({"temperatures": [2, 2, 0, 1]}, "temperatures = 0"),
        (
            {"kan": {"grid_range": [1, -1]}},
            "grid_range = [1, -1], but it must be a pair of numbers, the lower one first",
        ),
        ({"kan": {"spline_order": 0}}, "spline_order = 0"),
        (
            {"num_samples": 500},
            "num_samples = 500, but it must be a window of 3 to max_frames = 400 frames; it gives 1",
        ),
        ({"num_samples": 200000}, "it gives 624"),
        ([], "expected a JSON object, found []"),
        ({"encoder": {"num_hidden_layers": 10**6}}, "num_hidden_layers = 1000000, but it must be a whole number of at "
         "least 1 and at most 200"),
        ({"residual_channels": [[1, 10**5]]}, "residual_channels = 100000, but it must be a whole number of at least 1 "
         "and at most 16,384"),
        ({"residual_channels": [[1, 1]] * 10**5}, "but it must be a chain of 1 to 64 [in, out] pairs"),
        ({"encoder": {"conv_dim": [512] * 10**5}}, "but it must be a list of 1 to 64 whole numbers"),
        ({"encoder": {"hidden_size": 10**400}}, "and at most 16,384"),
        ({"num_samples": 10**8, "max_frames": 10**8}, "and at most 10,000,000"),
        ({"max_frames": 10**8}, "and at most 100,000"),
        ({"kan": {"grid_size": 10**6}}, "grid_size = 1000000, but it must be a whole number of at least 1 and at most"),
        ({"kan": {"grid_range": [-1, 10**400]}}, "but it must be a pair of numbers from -1,000,000 to 1,000,000"),
        ({"temperatures": [10**400, 1, 1, 1]}, "but it must be four numbers above 0 and at most 1,000,000"),
        ({"temperatures": [float("nan"), 1, 1, 1]}, "temperatures = NaN, but it must be four numbers above 0"),
        ({"preemphasis": -(10**400)}, "but it must be a number from 0 to below 1"),
        ({f"field{i:06}": i for i in range(10**5)}, "'field000004' and 99,995 more; known here: "),
        ({"x" * 10**6: 1}, "unknown field 'xxxx"),
        ({"model_type": "bert", "vocab_size": 3}, 'model_type = "bert", but it must be "spectra_aasist3"'),
        ({"model_type": "wav2vec2", "vocab_size": 3, "mask_time_prob": 0.1}, "a speech encoder alone (XLS-R"),
    ],
)  # fmt: skip
def test_an_invalid_value_is_named_with_its_rule(values: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SpectraConfig.from_dict(values)
    assert message in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_every_size_has_a_limit_that_is_quick_to_build() -> None:
    """The largest network that a configuration can describe."""
    largest = {
        "encoder": {
            "hidden_size": 16_384,
            "num_hidden_layers": 200,
            "num_attention_heads": 16_384,
            "intermediate_size": 65_536,
            "conv_dim": [16_384] * 64,
            "conv_kernel": [1] * 64,
            "conv_stride": [1] * 64,
            "num_conv_pos_embeddings": 16_384,
        },
        "num_samples": 100_000,
        "max_frames": 100_000,
        "bridge_dim": 16_384,
        "residual_channels": [[1, 16_384], *[[16_384, 16_384]] * 63],
        "gat_dims": [16_384, 16_384],
        "kan": {"grid_size": 1024, "spline_order": 16},
    }
    assert count_parameters(SpectraConfig.from_dict(largest)) > 1e12
