"""The job file: parsed once, every error names the key.

A value that is planned but not built is refused like any other that isn't allowed, and a key
that would do nothing is not known.
"""

from collections.abc import Collection
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from hub.aggregation.rules import product_rules
from hub.aggregation.strategies import catalogue as strategies
from hub.errors import ConfigError
from hub.yaml_file import one_of, parse_yaml
from wire.codecs import CODEC_NAMES
from wire.errors import MalformedError
from wire.topics import check_name

_RULE = "stack_svd"
_Rank = Annotated[int, Meta(ge=1, le=1024)]
_Count = Annotated[int, Meta(ge=1, le=1_000_000)]
_Batch = Annotated[int, Meta(ge=1, le=4096)]
_Tokens = Annotated[int, Meta(ge=1, le=4096)]
_SeqLen = Annotated[int, Meta(ge=8, le=1_048_576)]
_LearningRate = Annotated[float, Meta(gt=0, le=10)]
_Seconds = Annotated[float, Meta(gt=0, le=30 * 86400)]


def _at_most(path: str, value: int, limit_path: str, limit: int) -> None:
    if value > limit:
        raise ConfigError(path, value, f"a whole number from 1 to {limit_path} ({limit})")


def _one_of(path: str, value: str, names: Collection[str]) -> None:
    if value not in names:
        raise ConfigError(path, value, one_of(names))


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the job file."""


class ModelPart(_Part, frozen=True, kw_only=True):
    """Which base model: a Hugging Face folder or id."""

    base: Annotated[str, Meta(min_length=1)]


class LoraPart(_Part, frozen=True, kw_only=True):
    """LoRA's rank on the strongest devices, and the rank under which a device leaves a rung."""

    rank: _Rank = 16
    min_rank: _Rank = 2
    targets: Literal["all-linear"] | list[str] = "all-linear"

    def __post_init__(self) -> None:
        _at_most("lora.min_rank", self.min_rank, "lora.rank", self.rank)
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


class PromptPart(_Part, frozen=True, kw_only=True):
    """The soft prompt that prompt-only devices train."""

    kind: Literal["soft"] = "soft"
    tokens: _Tokens = 16
    lr: _LearningRate = 1e-2  # a prompt's entries are few and small: they need larger steps


class CohortPart(_Part, frozen=True, kw_only=True):
    """How many devices a round needs, and how many it takes at most."""

    min: _Count = 3
    max: _Count = 50

    def __post_init__(self) -> None:
        _at_most("cohort.min", self.min, "cohort.max", self.max)


class LocalPart(_Part, frozen=True, kw_only=True):
    """What a device does in a round, and how far it may shrink it to fit its memory."""

    steps: _Count = 20
    batch: _Batch = 4
    min_batch: _Batch = 1
    seq_len: _SeqLen = 256  # tokens
    min_seq_len: _SeqLen = 128
    optimizer: Literal["adamw"] = "adamw"
    lr: _LearningRate = 1e-3  # of LoRA's factors

    def __post_init__(self) -> None:
        _at_most("local.min_batch", self.min_batch, "local.batch", self.batch)
        _at_most("local.min_seq_len", self.min_seq_len, "local.seq_len", self.seq_len)


class JobFile(_Part, frozen=True, kw_only=True):
    """One adapter to be trained. Every key but ``job`` and ``model.base`` has a default."""

    job: str
    model: ModelPart
    method: Literal["lora", "prompt", "lora+prompt"] = "lora"
    lora: LoraPart = LoraPart()
    prompt: PromptPart = PromptPart()
    strategy: str = "fedavg"
    rule: str = _RULE
    rounds: _Count = 20
    cohort: CohortPart = CohortPart()
    deadline_s: Literal["auto"] | _Seconds = "auto"
    local: LocalPart = LocalPart()
    codec: str = "auto"
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] | None = None  # null: drawn at submission

    def __post_init__(self) -> None:
        try:
            check_name(self.job, "job")
        except MalformedError as error:
            allowed = "1 to 63 letters, digits, '.', '_' and '-', beginning with a letter or digit"
            raise ConfigError("job", self.job, allowed) from error
        _one_of("strategy", self.strategy, strategies())
        _one_of("rule", self.rule, product_rules())
        _one_of("codec", self.codec, ["auto", *CODEC_NAMES])
        if self.method == "prompt" and self.rule != _RULE:
            raise ConfigError(
                "rule",
                self.rule,
                _RULE,
                message=f"rule is {self.rule!r}; with method prompt there are no LoRA factors to "
                "combine, and prompts are averaged. Leave rule out, or use method lora.",
            )


def parse_job(text: str) -> JobFile:
    """Return the job that a ``job.yaml`` describes.

    Raises:
        ConfigError: a key or value isn't allowed; the error names the key's path.
    """
    return parse_yaml(text, JobFile, "the job file")
