"""The configuration of a training run: frozen, validated, read from and written to JSON like the network's."""

from __future__ import annotations

import json
import warnings
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import Literal, Self

from spectra_jax.errors import ConfigError
from spectra_jax.files.untrusted import read_json, require_plain_file
from spectra_jax.model.config import Section, SpectraConfig, added, check_integer, check_number, require
from spectra_jax.model.precision import PRECISIONS
from spectra_jax.training.augment import AugmentConfig
from spectra_jax.training.lora import LoraConfig, lora_config
from spectra_jax.training.sharding import ShardingConfig, sharding_config

LOSSES = ("cross_entropy", "focal", "oc_softmax")
BALANCE_LEVELS = ("label", "dataset", "attack")
# Gradients are too small for float16 unless the loss is scaled, and weights of 8-bit integers have none.
_PRECISIONS = tuple(name for name in PRECISIONS if name not in ("float16", "int8"))
OLD_NAMES = {"average": "ema_decay"}
"""Fields by the names that they had before this release, which are accepted for one release with a warning."""


def _warn_of_old_name(*, both_given: bool) -> None:
    if both_given:
        raise ConfigError("config: training.average is the old name of training.ema_decay: give one of them")
    warnings.warn(
        "training.average is now training.ema_decay; the old name will be removed in the next release",
        DeprecationWarning,
        stacklevel=4,
    )


@dataclass(frozen=True)
class TrainingConfig(Section):
    """Everything that a run depends on besides the network and the manifest. The defaults are for fine-tuning."""

    seed: int = 0
    steps: int = 2000
    batch_size: int = 16
    """Clips of one step, over all devices."""
    accumulation: int = 1
    """Into how many micro-batches a batch is split (gradient accumulation), to save memory. The statistics of batch
    norms are those of a micro-batch."""
    pairs: bool = False
    """Draw half of each batch as bona fide clips: each spoof with the clip that its column `pair` names, with the same
    window position and augmentation, or with a random bona fide clip where it names none."""
    learning_rate: float = 1e-4
    """The highest learning rate of all layers after the encoder."""
    encoder_learning_rate: float = 1e-5
    """The highest learning rate of the encoder."""
    warmup_steps: int = 100
    """Steps in which the learning rates rise from zero; then they fall to zero along a half cosine. In a run of at most
    this many steps, they rise in its first half."""
    weight_decay: float = 1e-4
    clip_norm: float | None = 1.0
    """The global norm to which gradients are clipped."""
    class_weights: Literal["balanced"] | tuple[float, float] = "balanced"
    """Weights of the loss: (spoof, bona fide), or such that both classes have the same total weight in what is drawn
    from the training split."""
    loss: str = added("cross_entropy")
    """`cross_entropy`, `focal` (Lin et al., 2017), or `oc_softmax` (Zhang, Jiang, Duan, 2021), which needs a network
    with the head `cosine`."""
    focal_gamma: float = added(2.0)
    """The exponent of the focal loss: the higher, the less a clip counts that is classified well; 0: cross entropy."""
    oc_softmax_alpha: float = added(20.0)
    """The scale of OC-Softmax."""
    oc_softmax_margins: tuple[float, float] = added((0.9, 0.2))
    """OC-Softmax: the cosine above which bona fide clips are wanted, and below which spoofs are (m0 and m1)."""
    balance: tuple[str, ...] | None = added(None)
    """Levels of groups, some of `label`, `dataset` and `attack`: at each level its groups are drawn equally often, and
    within a group every clip once before any is drawn again. None: all clips equally often."""
    encoder_regularization: bool = added(True)
    """Whether the encoder's own dropout, layerdrop and SpecAugment, which its configuration states, are applied."""
    freeze: Literal["nothing", "first_convolution", "feature_extractor", "encoder"] = "nothing"
    freeze_layers: int = 0
    """How many transformer layers are frozen, counted from the input; if any, the feature extractor is frozen too."""
    filterbank: bool = False
    """Initialise the first convolution as a bank of band-pass filters (see `filterbank`) if the weights are random. A
    small network does not learn such filters from few clips, and stays at chance."""
    dropout: float = 1.0
    """A factor on the dropout rates of bridge and back-end: small networks with new weights may need less."""
    precision: str = "float32"
    """Of the encoder's products; weights, gradients and the optimiser are float32 (in float64: float64)."""
    remat: bool = False
    """Compute the encoder's layers again in the backward pass instead of storing their activations."""
    ema_decay: float = 0.0
    """Decay of an exponential moving average of the weights, which is then evaluated and exported; 0: no average."""
    evaluate_every: int = 200
    """Steps between evaluations of the dev split; the state is saved after each."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    sharding: ShardingConfig | None = added(None)  # noqa: RUF009
    """How weights are divided among the devices: "fsdp", an object (`ShardingConfig`), or null: each device has all of
    them. It is not part of a run's identity: a run may be resumed with another."""
    lora: LoraConfig | None = added(None)  # noqa: RUF009
    """Low-rank adapters, which are trained instead of the encoder's weights (`LoraConfig`)."""
    average: InitVar[float | None] = None

    def __post_init__(self, average: float | None) -> None:
        if average is not None:
            _warn_of_old_name(both_given=bool(self.ema_decay))
            object.__setattr__(self, "ema_decay", average)
        super().__post_init__()

    @classmethod
    def from_dict(cls, values: object) -> Self:
        """See `Section.from_dict`; the old name `average` of `ema_decay` is accepted."""
        if isinstance(values, dict) and "average" in values:
            _warn_of_old_name(both_given="ema_decay" in values)
            values = {OLD_NAMES.get(name, name): value for name, value in values.items()}
        return super().from_dict(values)

    @property
    def effective_warmup_steps(self) -> int:
        """Warm-up steps: `warmup_steps`, or half of `steps` if the run is not longer than that."""
        return self.warmup_steps if self.warmup_steps < self.steps else self.steps // 2

    def _validate(self) -> None:
        self._validate_large_encoders()
        check_integer("training.seed", self.seed, minimum=0)
        for name in ("steps", "batch_size", "accumulation", "evaluate_every"):
            check_integer(f"training.{name}", getattr(self, name))
        for name in ("warmup_steps", "freeze_layers"):
            check_integer(f"training.{name}", getattr(self, name), minimum=0)
        for name in ("learning_rate", "encoder_learning_rate", "weight_decay"):
            check_number(f"training.{name}", getattr(self, name), lambda rate: rate >= 0, "a number of at least 0")
        if self.clip_norm is not None:
            check_number("training.clip_norm", self.clip_norm, lambda norm: norm > 0, "a number above 0, or null")
        check_number("training.dropout", self.dropout, lambda factor: 0 <= factor < 2, "a number from 0 to below 2")
        check_number("training.ema_decay", self.ema_decay, lambda share: 0 <= share < 1, "a number from 0 to below 1")
        for name in ("pairs", "filterbank", "remat", "encoder_regularization"):
            require(isinstance(getattr(self, name), bool), f"training.{name}", getattr(self, name), "true or false")
        require(self.loss in LOSSES, "training.loss", self.loss, f"one of {', '.join(LOSSES)}")
        self._validate_losses()
        self._validate_balance()
        modules = ("nothing", "first_convolution", "feature_extractor", "encoder")
        require(self.freeze in modules, "training.freeze", self.freeze, f"one of {', '.join(modules)}")
        rule = f"one of {', '.join(_PRECISIONS)}"
        require(self.precision in _PRECISIONS, "training.precision", self.precision, rule)
        require(
            self.batch_size % self.accumulation == 0,
            "training.accumulation",
            self.accumulation,
            f"a divisor of batch_size = {self.batch_size}",
        )
        require(
            not self.pairs or self.batch_size % (2 * self.accumulation) == 0,
            "training.batch_size",
            self.batch_size,
            "a multiple of 2 * accumulation, since a pair has to be in one micro-batch",
        )
        if self.class_weights != "balanced":
            rule = '"balanced", or two numbers above 0, of spoof and bona fide'
            both = isinstance(self.class_weights, tuple) and len(self.class_weights) == 2
            require(both, "training.class_weights", self.class_weights, rule)
            for weight in self.class_weights:
                check_number("training.class_weights", weight, lambda weight: weight > 0, rule)

    def _validate_losses(self) -> None:
        check_number("training.focal_gamma", self.focal_gamma, lambda gamma: gamma >= 0, "a number of at least 0")
        check_number("training.oc_softmax_alpha", self.oc_softmax_alpha, lambda scale: scale > 0, "a number above 0")
        margins = self.oc_softmax_margins
        rule = "two numbers from -1 to 1, of bona fide and of spoof, the higher one first"
        require(isinstance(margins, tuple) and len(margins) == 2, "training.oc_softmax_margins", margins, rule)
        for margin in margins:
            check_number("training.oc_softmax_margins", margin, lambda margin: -1 <= margin <= 1, rule)
        require(margins[0] > margins[1], "training.oc_softmax_margins", margins, rule)

    def _validate_balance(self) -> None:
        if self.balance is None:
            return
        rule = f"null, or a list of some of {', '.join(BALANCE_LEVELS)}, each at most once"
        levels = self.balance
        require(isinstance(levels, tuple) and len(levels) > 0, "training.balance", levels, rule)
        known = all(isinstance(level, str) and level in BALANCE_LEVELS for level in levels)
        require(known and len(set(levels)) == len(levels), "training.balance", levels, rule)
        both = "without `label`, since with pairs half of each batch is bona fide anyway"
        require(not (self.pairs and "label" in levels), "training.balance", levels, both)

    def _validate_large_encoders(self) -> None:
        object.__setattr__(self, "sharding", sharding_config(self.sharding))
        object.__setattr__(self, "lora", lora_config(self.lora))
        require(
            self.lora is None or self.freeze != "encoder",
            "training.freeze",
            self.freeze,
            '"nothing" with lora, which freezes the encoder\'s own weights and trains adapters in it',
        )


@dataclass(frozen=True)
class RunConfig(Section):
    """A training run's configuration: the network, by default the published one, and how to train it."""

    model: SpectraConfig = field(default_factory=SpectraConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def _validate(self) -> None:
        frozen, layers = self.training.freeze_layers, self.model.encoder.num_hidden_layers
        require(frozen <= layers, "training.freeze_layers", frozen, f"at most num_hidden_layers = {layers}")

    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        """Read a run's configuration.

        Raises:
          ConfigError: not JSON, an unknown field, or a value that breaks a rule. The message names the file.
          InputError: it does not exist, or is not a regular file.
          OSError: the file cannot be read.
        """
        require_plain_file(Path(path))
        try:
            values = read_json(path)
        except ValueError as error:
            raise ConfigError(f"{path}: not a JSON file of a run's configuration ({error})") from error
        try:
            return cls.from_dict(values)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    def to_json(self) -> str:
        """The text of a `config.json` with the fields of `to_dict`."""
        return json.dumps(self.to_dict(), indent=2) + "\n"
