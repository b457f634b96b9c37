"""The parts of a job file: which keys each has, what they are by default, what is allowed."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from hub.errors import ConfigError, shown
from hub.pretrain.tokenizer import LEAST_TOKENS
from hub.rounds.events import Metric
from wire.forward_only import MAX_DIRECTIONS

_Rank = Annotated[int, Meta(ge=1, le=1024)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
_Batch = Annotated[int, Meta(ge=1, le=4096)]
_Tokens = Annotated[int, Meta(ge=1, le=4096)]
_SeqLen = Annotated[int, Meta(ge=8, le=1_048_576)]
_LearningRate = Annotated[float, Meta(gt=0, le=10)]
Seconds = Annotated[float, Meta(gt=0, le=30 * 86400)]
_Decay = Annotated[float, Meta(ge=0, le=0.999)]
_Mu = Annotated[float, Meta(ge=0, le=1000)]


def at_most(path: str, value: int, limit_path: str, limit: int) -> None:
    if value > limit:
        raise ConfigError(path, value, f"a whole number from 1 to {limit_path} ({limit})")


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the job file."""


class ModelPart(Part, frozen=True, kw_only=True):
    """Which base model: a Hugging Face folder or id. Method pretrain makes its own."""

    base: Annotated[str, Meta(min_length=1)] | None = None


class PretrainPart(Part, frozen=True, kw_only=True):
    """What a model from scratch is made of: its shape, and text for its tokenizer."""

    config: Annotated[str, Meta(min_length=1)] | None = None  # a config.json, or its folder
    tokenizer_text: Annotated[str, Meta(min_length=1)] | None = None  # a file or a folder
    vocabulary: Annotated[int, Meta(ge=LEAST_TOKENS, le=2**20)] = 4096  # tokens


class LoraPart(Part, frozen=True, kw_only=True):
    """LoRA's rank on the strongest devices, and the rank under which a device leaves a rung."""

    rank: _Rank = 16
    min_rank: _Rank = 2
    targets: Literal["all-linear"] | list[str] = "all-linear"
    rank_pattern: dict[str, _Rank] = {}  # lower ranks, by ends of module paths

    def __post_init__(self) -> None:
        at_most("lora.min_rank", self.min_rank, "lora.rank", self.rank)
        for end, rank in self.rank_pattern.items():
            at_most(f"lora.rank_pattern.{end}", rank, "lora.rank", self.rank)
        if isinstance(self.targets, list):
            if not self.targets or not all(self.targets):
                raise ConfigError(
                    "lora.targets",
                    self.targets,
                    "all-linear or a list of module names' ends, such as [q_proj, v_proj]",
                )
            twice = {name for name in self.targets if self.targets.count(name) > 1}
            if twice:
                raise ConfigError("lora.targets", self.targets, "each name once")


class PromptPart(Part, frozen=True, kw_only=True):
    """The soft prompt, or prefix in every layer, that prompt-only devices train."""

    kind: Literal["soft", "prefix"] = "soft"
    tokens: _Tokens = 16
    lr: _LearningRate = 1e-2  # a prompt's entries are few and small: they need larger steps


class CohortPart(Part, frozen=True, kw_only=True):
    """How many devices a round needs, and how many it takes at most."""

    min: Count = 3
    max: Count = 50

    def __post_init__(self) -> None:
        at_most("cohort.min", self.min, "cohort.max", self.max)


class AdversarialPart(Part, frozen=True, kw_only=True):
    """Adversarial training on embeddings (arXiv 1605.07725)."""

    kind: Literal["fgm"] = "fgm"
    epsilon: Annotated[float, Meta(gt=0, le=1000)]


class ForwardPart(Part, frozen=True, kw_only=True):
    """What devices do that have memory for inference alone: train cores without backprop."""

    side: Annotated[int, Meta(ge=1, le=64)] = 2  # of each core
    steps: Annotated[int, Meta(ge=1, le=MAX_DIRECTIONS)] = 140  # directions, of two losses each
    batch: _Batch = 16  # sequences of a loss
    fresh: Annotated[int, Meta(ge=1, le=MAX_DIRECTIONS)] = 7  # directions on the same sequences
    epsilon: Annotated[float, Meta(gt=0, le=1)] = 0.01  # how far is looked first


class LocalPart(Part, frozen=True, kw_only=True):
    """What a device does in a round, and how far it may shrink it to fit its memory."""

    steps: Count = 20
    batch: _Batch = 4
    min_batch: _Batch = 1
    seq_len: _SeqLen = 256  # tokens
    min_seq_len: _SeqLen = 128
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: Annotated[float, Meta(ge=0, le=0.999)] = 0.0
    weight_decay: Annotated[float, Meta(ge=0, le=1)] | None = None  # null: the role's own
    lr: _LearningRate = 1e-3  # of LoRA's factors
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None  # null: a few
    clip: Annotated[float, Meta(gt=0, le=1_000_000)] | None = 1.0  # null: off
    accumulate: _Batch = 1  # parts that a step's batch goes through in, one after the other
    adversarial: AdversarialPart | None = None
    forward: ForwardPart | None = None  # null: without backprop nobody trains

    def __post_init__(self) -> None:
        if self.momentum and self.optimizer != "sgd":
            raise ConfigError("local.momentum", self.momentum, "0, except with local.optimizer sgd")
        if self.warmup_steps is not None:
            at_most("local.warmup_steps", self.warmup_steps, "local.steps", self.steps)
        at_most("local.accumulate", self.accumulate, "local.batch", self.batch)
        at_most("local.min_batch", self.min_batch, "local.batch", self.batch)
        at_most("local.min_seq_len", self.min_seq_len, "local.seq_len", self.seq_len)


class ServerPart(Part, frozen=True, kw_only=True):
    """What the strategy is set to; null: its own default. A key it doesn't have is refused."""

    lr: _LearningRate | None = None
    momentum: _Decay | None = None
    beta1: _Decay | None = None
    beta2: _Decay | None = None
    tau: Annotated[float, Meta(gt=0, le=10)] | None = None
    mu: _Mu | None = None

    def given(self) -> dict[str, float]:
        """Return what is set."""
        return {
            key: value for key, value in msgspec.structs.asdict(self).items() if value is not None
        }


class HubPart(Part, frozen=True, kw_only=True):
    """Text of the hub's own, and how it trains on it; null: as the devices, or nothing."""

    public_data: Annotated[str, Meta(min_length=1)] | None = None
    validation: Annotated[str, Meta(min_length=1)] | None = None
    steps: Count | None = None
    batch: _Batch | None = None
    seq_len: _SeqLen | None = None
    lr: _LearningRate | None = None
    rung: Literal["streamed", "checkpointed", "resident"] = "streamed"
    max_s: Seconds = 600.0

    @property
    def given(self) -> bool:
        """Whether there is any such text."""
        return self.public_data is not None or self.validation is not None

    def __post_init__(self) -> None:
        if self.public_data is not None:
            return
        for field in msgspec.structs.fields(self):
            value = getattr(self, field.name)
            measures = self.validation is not None and field.name not in ("steps", "lr")
            if value != field.default and not measures:
                raise ConfigError(
                    f"hub.{field.name}",
                    value,
                    shown(field.default),
                    message=f"hub.{field.name} is {shown(value)}, which means nothing without "
                    "text to use it on. Leave it out, or give hub.public_data.",
                )


class PublishIfPart(Part, frozen=True, kw_only=True):
    """Which adapters are released: those hardly worse than the best released one."""

    metric: Metric = "heldout_loss"
    max_regression: Annotated[float, Meta(ge=0, le=10)] = 0.01  # share of the best one's loss


class UntilPart(Part, frozen=True, kw_only=True):
    """When the job ends before its last round."""

    metric: Metric = "heldout_loss"
    patience: Count = 3  # rounds without improvement
    min_delta: Annotated[float, Meta(ge=0, le=100)] = 0.001  # nats per token
