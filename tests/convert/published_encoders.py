"""The architectures of published encoders: what their configurations set, and how many parameters they have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_PRE_NORM = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}


def _sizes(layers: int, width: int) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "hidden_size": width,
        "num_attention_heads": 16,
        "intermediate_size": 4 * width,
    }


_LARGE = _sizes(24, 1024)
_XLS_R_1B = {**_sizes(48, 1280), **_PRE_NORM}


@dataclass(frozen=True)
class Published:
    """A published encoder.

    Attributes:
      fields: of its configuration, those that shape the encoder and differ from the defaults of the class.
      parameters: of its model in transformers without a head.
      stated: millions of parameters, as they are commonly stated for it.
    """

    model_type: str
    fields: dict[str, Any]
    parameters: int
    stated: tuple[float, float]


PUBLISHED: dict[str, Published] = {
    "facebook/wav2vec2-base": Published("wav2vec2", {}, 94_371_712, (94, 95)),
    "facebook/wav2vec2-large": Published("wav2vec2", _LARGE, 315_428_992, (315, 317)),
    "facebook/wav2vec2-large-960h-lv60-self": Published("wav2vec2", _LARGE | _PRE_NORM, 315_438_720, (315, 317)),
    "facebook/wav2vec2-large-xlsr-53": Published("wav2vec2", _LARGE | _PRE_NORM, 315_438_720, (315, 317)),
    "facebook/wav2vec2-xls-r-300m": Published("wav2vec2", _LARGE | _PRE_NORM, 315_438_720, (315, 317)),
    "facebook/wav2vec2-xls-r-1b": Published("wav2vec2", _XLS_R_1B, 962_497_408, (962, 965)),
    "facebook/wav2vec2-xls-r-2b": Published("wav2vec2", _sizes(48, 1920) | _PRE_NORM, 2_159_259_648, (2159, 2162)),
    "facebook/mms-300m": Published("wav2vec2", _LARGE | _PRE_NORM, 315_438_720, (315, 317)),
    "facebook/mms-1b": Published("wav2vec2", _XLS_R_1B, 962_497_408, (962, 965)),
    "facebook/mms-1b-all": Published("wav2vec2", _XLS_R_1B | {"adapter_attn_dim": 16}, 964_648_576, (964, 965)),
    "facebook/hubert-base-ls960": Published("hubert", {}, 94_371_712, (94, 95)),
    "facebook/hubert-large-ll60k": Published("hubert", _LARGE | _PRE_NORM, 315_438_720, (315, 317)),
    "facebook/hubert-xlarge-ll60k": Published("hubert", _XLS_R_1B, 962_497_408, (962, 965)),
    "microsoft/wavlm-base": Published("wavlm", {}, 94_381_936, (94, 95)),
    "microsoft/wavlm-base-plus": Published("wavlm", {}, 94_381_936, (94, 95)),
    "microsoft/wavlm-large": Published("wavlm", _LARGE | _PRE_NORM | {"conv_bias": False}, 315_453_120, (315, 317)),
}
