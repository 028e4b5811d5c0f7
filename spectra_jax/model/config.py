"""The configuration of the network: frozen and validated, from and to plain JSON values.

`SpectraConfig()` is the published architecture, and so is the empty JSON object `{}` of the published checkpoint. Every
field may be omitted. An unknown field is refused, since a misspelt one would otherwise silently build another network.
Sizes have upper limits, so that an untrusted file cannot describe a network that takes hours to build.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import warnings
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Self, get_type_hints

from spectra_jax.errors import ConfigError

MODEL_TYPE = "spectra_aasist3"
ENCODER_TYPES = ("wav2vec2", "hubert", "wavlm")
"""Kinds of encoders, by their names in the configurations of transformers."""
BACK_ENDS = ("kan-aasist", "aasist", "ecapa-tdnn", "pool+linear")
"""What can follow the bridge: see `SpectraConfig.back_end`."""
HEADS = ("logits", "cosine")
"""What the last layer can compute: see `SpectraConfig.head`."""
ENCODER_ALONE = (
    "This is a speech encoder alone (XLS-R, wav2vec 2.0 or the like), without the back-end that classifies speech "
    "as bona fide or spoof: name a checkpoint of the complete detector, such as lab260/Spectra-AASIST3"
)

# Limits of messages.
_LONGEST_VALUE = 100
_MAX_NAMED = 5
# Limits of the network, many times the sizes of the largest published encoders.
_MOST_LAYERS = 200
_MOST_BLOCKS = 64
_WIDEST = 16_384
_LARGEST_NUMBER = 1e6


def require(holds: bool, name: str, value: object, rule: str) -> None:
    """Raise a `ConfigError` with the field's name, value and rule unless the rule holds."""
    if not holds:
        raise ConfigError(f"config: {name} = {_shown(value)}, but it must be {rule}")


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def check_integer(name: str, value: Any, minimum: int = 1, maximum: int | None = None) -> None:
    # True and False are integers to Python; as a size they are a mistake.
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    rule = f"a whole number of at least {minimum}" + ("" if maximum is None else f" and at most {maximum:,}")
    require(is_integer and value >= minimum and (maximum is None or value <= maximum), name, value, rule)


def check_number(name: str, value: object, holds: Any, rule: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # Compared, not converted: an integer may be larger than any float.
    require(number and abs(value) <= sys.float_info.max and holds(value), name, value, rule)  # type: ignore[arg-type]


def added(default: Any) -> Any:
    """A field that an earlier version of the format lacks: `to_dict` writes it only if it differs from its default.

    A configuration that does without it is then read by earlier versions too, and the identity of a run that was
    started by one of them stays the same.
    """
    return field(default=default, metadata={"added": True})


def _freeze(value: object) -> object:
    """JSON lists as tuples, so that a configuration is hashable and can be a static argument of `jax.jit`."""
    return tuple(_freeze(item) for item in value) if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class Section:
    """A part of a configuration: reading from and writing to plain JSON values, and validation on construction."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            object.__setattr__(self, item.name, _freeze(getattr(self, item.name)))
        self._validate()

    def _validate(self) -> None:
        raise NotImplementedError(f"{type(self).__name__} has no validation")

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """Build from plain JSON values. Omitted fields have the published values.

        Raises:
          ConfigError: an unknown field, or a value that breaks a rule.
        """
        if not isinstance(values, dict):
            raise ConfigError(f"config: expected a JSON object, found {_shown(values)}")
        known = {item.name for item in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            named = ", ".join(f"{name!r:.{_LONGEST_VALUE}}" for name in unknown[:_MAX_NAMED])
            more = f" and {len(unknown) - _MAX_NAMED:,} more" if len(unknown) > _MAX_NAMED else ""
            raise ConfigError(
                f"config: unknown field{'s' if len(unknown) > 1 else ''} {named}{more}; "
                f"known here: {', '.join(sorted(known))}"
            )
        types = get_type_hints(cls)
        return cls(
            **{
                name: types[name].from_dict(value)
                if isinstance(types[name], type) and issubclass(types[name], Section)
                else value
                for name, value in values.items()
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values of the fields, without those of `added` that have their default.

        `from_dict` builds an equal configuration from them.
        """
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if self._writes(item)}
        return {
            name: value.to_dict() if isinstance(value, Section) else json.loads(json.dumps(value))
            for name, value in values.items()
        }

    def _writes(self, item: dataclasses.Field[Any]) -> bool:
        return not item.metadata.get("added") or getattr(self, item.name) != item.default


@dataclass(frozen=True)
class EncoderConfig(Section):
    """A speech encoder of the wav2vec 2.0 family: wav2vec 2.0, XLS-R and MMS, HuBERT, WavLM.

    Field names and meanings are those of Hugging Face's `Wav2Vec2Config`, `HubertConfig` and `WavLMConfig`; the
    defaults are the published detector's XLS-R 300M, whose training options are all off.
    """

    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    intermediate_size: int = 4096
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    feat_extract_norm: str = "layer"
    feat_extract_activation: str = "gelu"
    do_stable_layer_norm: bool = True
    conv_bias: bool = True
    conv_dim: tuple[int, ...] = (512, 512, 512, 512, 512, 512, 512)
    conv_kernel: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
    num_conv_pos_embeddings: int = 128
    num_conv_pos_embedding_groups: int = 16
    model_type: str = added("wav2vec2")
    """`wav2vec2` (also XLS-R and MMS), `hubert` or `wavlm`: WavLM has a gated relative position bias."""
    feat_proj_layer_norm: bool = added(True)
    """Whether a layer norm precedes the projection of the local features."""
    num_buckets: int = added(320)
    """WavLM: buckets of relative positions."""
    max_bucket_distance: int = added(800)
    """WavLM: the distance in frames from which all positions share the last bucket."""
    adapter_attn_dim: int | None = added(None)
    """Width of the adapter of each layer, as in MMS checkpoints for speech recognition; None: no adapters."""
    hidden_dropout: float = added(0.0)
    attention_dropout: float = added(0.0)
    activation_dropout: float = added(0.0)
    feat_proj_dropout: float = added(0.0)
    layerdrop: float = added(0.0)
    """The probability with which a layer is skipped in training."""
    apply_spec_augment: bool = added(True)
    """Whether SpecAugment masks spans of frames and of channels in training."""
    mask_time_prob: float = added(0.0)
    mask_time_length: int = added(10)
    mask_time_min_masks: int = added(2)
    mask_feature_prob: float = added(0.0)
    mask_feature_length: int = added(10)
    mask_feature_min_masks: int = added(0)

    def _validate(self) -> None:
        for name, maximum in (
            ("hidden_size", _WIDEST),
            ("num_attention_heads", _WIDEST),
            ("intermediate_size", 4 * _WIDEST),
            ("num_conv_pos_embeddings", _WIDEST),
            ("num_conv_pos_embedding_groups", _WIDEST),
            ("num_hidden_layers", _MOST_LAYERS),
        ):
            check_integer(f"encoder.{name}", getattr(self, name), maximum=maximum)
        for divisor in ("num_attention_heads", "num_conv_pos_embedding_groups"):
            require(
                self.hidden_size % getattr(self, divisor) == 0,
                f"encoder.{divisor}",
                getattr(self, divisor),
                f"a divisor of hidden_size = {self.hidden_size}",
            )
        for name in ("hidden_act", "feat_extract_activation"):
            require(
                getattr(self, name) == "gelu", f"encoder.{name}", getattr(self, name), '"gelu" (the exact, erf one)'
            )
        for name, choices in (("feat_extract_norm", ("layer", "group")), ("model_type", ENCODER_TYPES)):
            rule = f"one of {', '.join(choices)}"
            require(getattr(self, name) in choices, f"encoder.{name}", getattr(self, name), rule)
        for name in ("do_stable_layer_norm", "conv_bias", "feat_proj_layer_norm", "apply_spec_augment"):
            require(isinstance(getattr(self, name), bool), f"encoder.{name}", getattr(self, name), "true or false")
        check_number(
            "encoder.layer_norm_eps", self.layer_norm_eps, lambda eps: 0 < eps <= 1, "a number above 0 and at most 1"
        )
        for name in ("conv_dim", "conv_kernel", "conv_stride"):
            values = getattr(self, name)
            rule = f"a list of 1 to {_MOST_BLOCKS} whole numbers"
            require(isinstance(values, tuple) and 0 < len(values) <= _MOST_BLOCKS, f"encoder.{name}", values, rule)
            for value in values:
                check_integer(f"encoder.{name}", value, maximum=_WIDEST)
            require(
                len(values) == len(self.conv_dim),
                f"encoder.{name}",
                values,
                f"as long as conv_dim ({len(self.conv_dim)} layers)",
            )
        self._validate_added()

    def _validate_added(self) -> None:
        for name, minimum in (
            ("num_buckets", 4),
            ("max_bucket_distance", 2),
            ("mask_time_length", 1),
            ("mask_time_min_masks", 0),
            ("mask_feature_length", 1),
            ("mask_feature_min_masks", 0),
        ):
            check_integer(f"encoder.{name}", getattr(self, name), minimum, _WIDEST)
        if self.model_type == "wavlm":
            exact = self.num_buckets // 4
            rule = f"above {exact}, the distances with a bucket each (a quarter of num_buckets)"
            require(self.max_bucket_distance > exact, "encoder.max_bucket_distance", self.max_bucket_distance, rule)
        if self.adapter_attn_dim is not None:
            check_integer("encoder.adapter_attn_dim", self.adapter_attn_dim, maximum=_WIDEST)
        for name in (
            *("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "layerdrop"),
            *("mask_time_prob", "mask_feature_prob"),
        ):
            rate = "a number from 0 to below 1"
            check_number(f"encoder.{name}", getattr(self, name), lambda value: 0 <= value < 1, rate)

    @property
    def has_mask_embedding(self) -> bool:
        """Whether the encoder has an embedding of masked frames, by the rule of transformers."""
        return self.mask_time_prob > 0 or self.mask_feature_prob > 0

    def without_regularization(self) -> Self:
        """The same encoder without dropout, layerdrop and SpecAugment. It has the same weights."""
        return dataclasses.replace(
            self,
            apply_spec_augment=False,
            hidden_dropout=0.0,
            attention_dropout=0.0,
            activation_dropout=0.0,
            feat_proj_dropout=0.0,
            layerdrop=0.0,
        )

    def num_frames(self, num_samples: int) -> int:
        """Frames of `num_samples` samples: 201 for 64,600 in the published architecture; 0 if too short."""
        return self.layer_frames(num_samples)[-1]

    def layer_frames(self, num_samples: int) -> list[int]:
        """Frames after each layer of the feature extractor."""
        frames = []
        for kernel, stride in zip(self.conv_kernel, self.conv_stride, strict=True):
            num_samples = max((num_samples - kernel) // stride + 1, 0)
            frames.append(num_samples)
        return frames

    def num_samples(self, num_frames: int) -> int:
        """Samples of the shortest input that has `num_frames` frames: 400 for the first, then 320 for each."""
        for kernel, stride in zip(reversed(self.conv_kernel), reversed(self.conv_stride), strict=True):
            num_frames = (num_frames - 1) * stride + kernel
        return num_frames


@dataclass(frozen=True)
class KANConfig(Section):
    """The B-splines of every `KANLinear`: `grid_size` intervals on `grid_range`, `spline_order` more on each side."""

    grid_size: int = 16
    spline_order: int = 4
    grid_range: tuple[float, float] = (-1.0, 1.0)

    def _validate(self) -> None:
        check_integer("kan.grid_size", self.grid_size, maximum=1024)
        check_integer("kan.spline_order", self.spline_order, maximum=16)
        ends = self.grid_range
        require(isinstance(ends, tuple) and len(ends) == 2, "kan.grid_range", ends, "a pair of numbers")
        for end in ends:
            within = f"a pair of numbers from {-_LARGEST_NUMBER:,.0f} to {_LARGEST_NUMBER:,.0f}"
            check_number("kan.grid_range", end, lambda value: abs(value) <= _LARGEST_NUMBER, within)
        require(ends[0] < ends[1], "kan.grid_range", ends, "a pair of numbers, the lower one first")
        object.__setattr__(self, "grid_range", (float(ends[0]), float(ends[1])))

    @property
    def num_bases(self) -> int:
        """Basis functions per input feature: 20 in the published architecture."""
        return self.grid_size + self.spline_order


@dataclass(frozen=True)
class ECAPAConfig(Section):
    """The sizes of the back-end `ecapa-tdnn`; the defaults are those of the published `lab260/spectra_0`."""

    channels: int = 128
    """Of the first convolution and of every block."""
    kernel_size: int = 3
    """Taps of the dilated convolutions; the first convolution of the network has two more."""
    dilations: tuple[int, ...] = (2, 3, 4, 5)
    """Frames between the taps, one number for each SE-Res2Block."""
    scale: int = 8
    """Groups of channels that a block convolves one after the other, as in Res2Net."""
    squeeze_channels: int = 128
    """The inner width of squeeze and excitation."""
    aggregation_channels: int = 1536
    """The width to which the outputs of all blocks are projected together."""
    attention_channels: int = 256
    """The inner width of the attention that pools the frames."""

    def _validate(self) -> None:
        for name in ("channels", "squeeze_channels", "aggregation_channels", "attention_channels"):
            check_integer(f"ecapa.{name}", getattr(self, name), maximum=_WIDEST)
        check_integer("ecapa.scale", self.scale, minimum=2, maximum=_MOST_BLOCKS)
        rule = f"a divisor of channels = {self.channels}"
        require(self.channels % self.scale == 0, "ecapa.scale", self.scale, rule)
        check_integer("ecapa.kernel_size", self.kernel_size, maximum=_MOST_BLOCKS)
        # Otherwise the frames cannot be padded alike at both ends.
        require(self.kernel_size % 2 == 1, "ecapa.kernel_size", self.kernel_size, "an odd number")
        rule = f"a list of 1 to {_MOST_BLOCKS} whole numbers"
        found = self.dilations
        require(isinstance(found, tuple) and 0 < len(found) <= _MOST_BLOCKS, "ecapa.dilations", found, rule)
        for dilation in found:
            check_integer("ecapa.dilations", dilation, maximum=_WIDEST)


_ECAPA = ECAPAConfig()


def _require_detector(model_type: object) -> None:
    rule = f'"{MODEL_TYPE}"'
    if isinstance(model_type, str) and model_type.startswith(("wav2vec2", "wavlm", "hubert")):
        rule += f". {ENCODER_ALONE}"
    require(model_type == MODEL_TYPE, "model_type", model_type, rule)


@dataclass(frozen=True)
class SpectraConfig(Section):
    """The complete detector. The defaults are those of the published `lab260/Spectra-AASIST3`."""

    model_type: str = MODEL_TYPE
    sample_rate: int = 16000
    num_samples: int = 64600
    preemphasis: float = 0.97
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    bridge_dim: int = 128
    residual_channels: tuple[tuple[int, int], ...] = ((1, 32), (32, 32), (32, 64), (64, 64), (64, 64), (64, 64))
    gat_dims: tuple[int, int] = (64, 32)
    # [pool_S, pool_T, both pools of every branch, unused], as in the settings of the reference
    pool_ratios: tuple[float, float, float, float] = (0.5, 0.5, 0.5, 0.5)
    # [GAT-S, GAT-T, ST1 and ST2, unused]
    temperatures: tuple[float, float, float, float] = (2.0, 2.0, 100.0, 100.0)
    max_frames: int = 400
    num_classes: int = 2
    kan: KANConfig = field(default_factory=KANConfig)
    back_end: str = added("kan-aasist")
    """What follows the bridge: `kan-aasist`, the published graph network; `aasist`, the same graph with plain linear
    layers in place of the KAN layers (Jung et al., 2022); `ecapa-tdnn`, dilated convolutions over time with attentive
    pooling (Desplanques et al., 2020); or `pool+linear`, the mean and the standard deviation of each feature over the
    frames, then a linear layer."""
    ecapa: ECAPAConfig = field(default=_ECAPA, metadata={"added": True})
    """The sizes of the back-end `ecapa-tdnn`."""
    head: str = added("logits")
    """What the last layer computes: `logits`; or `cosine`, the cosine between the back-end's features and a learnt
    direction, which is the score, and its negative as the logit of spoof (for the loss `oc_softmax`)."""

    def _validate(self) -> None:
        _require_detector(self.model_type)
        for name, choices in (("back_end", BACK_ENDS), ("head", HEADS)):
            require(getattr(self, name) in choices, name, getattr(self, name), f"one of {', '.join(choices)}")
        # More than ten minutes in one window.
        for name, maximum in (("sample_rate", 1_000_000), ("num_samples", 10_000_000), ("max_frames", 100_000)):
            check_integer(name, getattr(self, name), maximum=maximum)
        # The 3x3 max-pool leaves at least one spectral row.
        check_integer("bridge_dim", self.bridge_dim, minimum=3, maximum=_WIDEST)
        check_number("preemphasis", self.preemphasis, lambda value: 0 <= value < 1, "a number from 0 to below 1")
        require(isinstance(self.encoder, EncoderConfig), "encoder", self.encoder, "an object")
        require(isinstance(self.kan, KANConfig), "kan", self.kan, "an object")
        require(isinstance(self.ecapa, ECAPAConfig), "ecapa", self.ecapa, "an object")
        require(self.num_classes == 2, "num_classes", self.num_classes, "2 (spoof, bona fide)")
        self._validate_channels()
        require(isinstance(self.gat_dims, tuple) and len(self.gat_dims) == 2, "gat_dims", self.gat_dims, "two widths")
        for width in self.gat_dims:
            check_integer("gat_dims", width, maximum=_WIDEST)
        for name, holds, rule in (
            ("pool_ratios", lambda value: 0 < value <= 1, "four numbers above 0 and at most 1"),
            (
                "temperatures",
                lambda value: 0 < value <= _LARGEST_NUMBER,
                f"four numbers above 0 and at most {_LARGEST_NUMBER:,.0f}",
            ),
        ):
            values = getattr(self, name)
            require(isinstance(values, tuple) and len(values) == 4, name, values, rule)
            for value in values:
                check_number(name, value, holds, rule)
        frames = self.encoder.num_frames(self.num_samples)
        require(
            3 <= frames <= self.max_frames,
            "num_samples",
            self.num_samples,
            f"a window of 3 to max_frames = {self.max_frames} frames; it gives {frames}",
        )

    def _validate_channels(self) -> None:
        rule = (
            f"a chain of 1 to {_MOST_BLOCKS} [in, out] pairs that starts at 1 channel, each pair starting where the "
            "one before ends"
        )
        pairs = self.residual_channels
        require(isinstance(pairs, tuple) and 0 < len(pairs) <= _MOST_BLOCKS, "residual_channels", pairs, rule)
        previous = 1
        for pair in pairs:
            require(isinstance(pair, tuple) and len(pair) == 2, "residual_channels", pairs, rule)
            for channels in pair:
                check_integer("residual_channels", channels, maximum=_WIDEST)
            require(pair[0] == previous, "residual_channels", pairs, rule)
            previous = pair[1]

    @property
    def num_spectral_nodes(self) -> int:
        """Spectral nodes before pooling: the rows that the 3x3 max-pool leaves of `bridge_dim`; 42 as published."""
        return self.bridge_dim // 3

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """As for every section. The configuration of another model is refused by its `model_type`, not its fields."""
        if isinstance(values, dict) and "model_type" in values:
            _require_detector(values["model_type"])
        try:
            return super().from_dict(values)
        except RecursionError:
            raise ConfigError("config: lists nested too deeply") from None

    @classmethod
    def from_json(cls, path: str | Path) -> SpectraConfig:
        """The old spelling of `spectra_jax.checkpoints.config_file.read_config`, for one release."""
        warnings.warn(
            "SpectraConfig.from_json is now spectra_jax.checkpoints.config_file.read_config; the old name will be "
            "removed in the next release",
            DeprecationWarning,
            stacklevel=2,
        )
        # Not an import of this module, which reads no files.
        found: SpectraConfig = import_module("spectra_jax.checkpoints.config_file").read_config(path)
        return found

    def to_json(self) -> str:
        """The text of a `config.json` with all fields."""
        return json.dumps(self.to_dict(), indent=2) + "\n"
