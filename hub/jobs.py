"""The job file: parsed once, every error names the key.

A value that is planned but not built is refused like any other that isn't allowed, and a key
that would do nothing is not known.
"""

from collections.abc import Collection
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from hub.aggregation.contract import ProductRule, Strategy
from hub.aggregation.rules import keeps_basis, product_rule, product_rules
from hub.aggregation.strategies import catalogue as strategies
from hub.aggregation.strategies import configured, defaults
from hub.errors import ConfigError, shown
from hub.pretrain.tokenizer import LEAST_TOKENS
from hub.rounds.events import VALIDATION, Gate, Metric, Until
from hub.yaml_file import one_of, parse_yaml
from wire.codecs import CODEC_NAMES
from wire.errors import MalformedError
from wire.topics import check_name

_RULE = "stack_svd"
#: All weights of a base are trained.
WHOLE_METHODS = ("full", "pretrain")
_Rank = Annotated[int, Meta(ge=1, le=1024)]
_Count = Annotated[int, Meta(ge=1, le=1_000_000)]
_Batch = Annotated[int, Meta(ge=1, le=4096)]
_Tokens = Annotated[int, Meta(ge=1, le=4096)]
_SeqLen = Annotated[int, Meta(ge=8, le=1_048_576)]
_LearningRate = Annotated[float, Meta(gt=0, le=10)]
_Seconds = Annotated[float, Meta(gt=0, le=30 * 86400)]
_Decay = Annotated[float, Meta(ge=0, le=0.999)]
_Mu = Annotated[float, Meta(ge=0, le=1000)]


def _at_most(path: str, value: int, limit_path: str, limit: int) -> None:
    if value > limit:
        raise ConfigError(path, value, f"a whole number from 1 to {limit_path} ({limit})")


def _one_of(path: str, value: str, names: Collection[str]) -> None:
    if value not in names:
        raise ConfigError(path, value, one_of(names))


def _does(rule: ProductRule) -> str:
    """Return what a rule does to a basis that it doesn't keep."""
    if rule.basis(2) != "same":
        return "turns it each round"
    return "moves cores, not entries" if rule.trains(2) == "core" else "trains both factors"


def _fixed_rules() -> str:
    """Return the rules that keep a basis, as a part of a list; none is none."""
    names = [name for name, rule in product_rules().items() if keeps_basis(rule)]
    return f"rule {one_of(names)}, " if names else ""


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the job file."""


class ModelPart(_Part, frozen=True, kw_only=True):
    """Which base model: a Hugging Face folder or id. Method pretrain makes its own."""

    base: Annotated[str, Meta(min_length=1)] | None = None


class PretrainPart(_Part, frozen=True, kw_only=True):
    """What a model from scratch is made of: its shape, and text for its tokenizer."""

    config: Annotated[str, Meta(min_length=1)] | None = None  # a config.json, or its folder
    tokenizer_text: Annotated[str, Meta(min_length=1)] | None = None  # a file or a folder
    vocabulary: Annotated[int, Meta(ge=LEAST_TOKENS, le=2**20)] = 4096  # tokens


class LoraPart(_Part, frozen=True, kw_only=True):
    """LoRA's rank on the strongest devices, and the rank under which a device leaves a rung."""

    rank: _Rank = 16
    min_rank: _Rank = 2
    targets: Literal["all-linear"] | list[str] = "all-linear"
    rank_pattern: dict[str, _Rank] = {}  # lower ranks, by ends of module paths

    def __post_init__(self) -> None:
        _at_most("lora.min_rank", self.min_rank, "lora.rank", self.rank)
        for end, rank in self.rank_pattern.items():
            _at_most(f"lora.rank_pattern.{end}", rank, "lora.rank", self.rank)
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
    """The soft prompt, or prefix in every layer, that prompt-only devices train."""

    kind: Literal["soft", "prefix"] = "soft"
    tokens: _Tokens = 16
    lr: _LearningRate = 1e-2  # a prompt's entries are few and small: they need larger steps


class CohortPart(_Part, frozen=True, kw_only=True):
    """How many devices a round needs, and how many it takes at most."""

    min: _Count = 3
    max: _Count = 50

    def __post_init__(self) -> None:
        _at_most("cohort.min", self.min, "cohort.max", self.max)


class AdversarialPart(_Part, frozen=True, kw_only=True):
    """Adversarial training on embeddings (arXiv 1605.07725)."""

    kind: Literal["fgm"] = "fgm"
    epsilon: Annotated[float, Meta(gt=0, le=1000)]


class LocalPart(_Part, frozen=True, kw_only=True):
    """What a device does in a round, and how far it may shrink it to fit its memory."""

    steps: _Count = 20
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

    def __post_init__(self) -> None:
        if self.momentum and self.optimizer != "sgd":
            raise ConfigError("local.momentum", self.momentum, "0, except with local.optimizer sgd")
        if self.warmup_steps is not None:
            _at_most("local.warmup_steps", self.warmup_steps, "local.steps", self.steps)
        _at_most("local.accumulate", self.accumulate, "local.batch", self.batch)
        _at_most("local.min_batch", self.min_batch, "local.batch", self.batch)
        _at_most("local.min_seq_len", self.min_seq_len, "local.seq_len", self.seq_len)


class ServerPart(_Part, frozen=True, kw_only=True):
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


class HubPart(_Part, frozen=True, kw_only=True):
    """Text of the hub's own, and how it trains on it; null: as the devices, or nothing."""

    public_data: Annotated[str, Meta(min_length=1)] | None = None
    validation: Annotated[str, Meta(min_length=1)] | None = None
    steps: _Count | None = None
    batch: _Batch | None = None
    seq_len: _SeqLen | None = None
    lr: _LearningRate | None = None
    rung: Literal["streamed", "checkpointed", "resident"] = "streamed"
    max_s: _Seconds = 600.0

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


class PublishIfPart(_Part, frozen=True, kw_only=True):
    """Which adapters are released: those hardly worse than the best released one."""

    metric: Metric = "heldout_loss"
    max_regression: Annotated[float, Meta(ge=0, le=10)] = 0.01  # share of the best one's loss


class UntilPart(_Part, frozen=True, kw_only=True):
    """When the job ends before its last round."""

    metric: Metric = "heldout_loss"
    patience: _Count = 3  # rounds without improvement
    min_delta: Annotated[float, Meta(ge=0, le=100)] = 0.001  # nats per token


class JobFile(_Part, frozen=True, kw_only=True):
    """One adapter to be trained. Every key but ``job`` and ``model.base`` has a default."""

    job: str
    model: ModelPart = ModelPart()
    method: Literal["lora", "prompt", "lora+prompt", "full", "pretrain"] = "lora"
    pretrain: PretrainPart = PretrainPart()
    lora: LoraPart = LoraPart()
    prompt: PromptPart = PromptPart()
    strategy: str = "fedavg"
    server: ServerPart = ServerPart()
    rule: str = _RULE
    rounds: _Count = 20
    cohort: CohortPart = CohortPart()
    deadline_s: Literal["auto"] | _Seconds = "auto"
    local: LocalPart = LocalPart()
    codec: str = "auto"
    hub: HubPart = HubPart()
    publish_if: PublishIfPart | None = None  # null: every round's adapter is released
    until: UntilPart | None = None  # null: all rounds are done
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
        if "lora" not in self.method and self.rule != _RULE:
            raise ConfigError(
                "rule",
                self.rule,
                _RULE,
                message=f"rule is {self.rule!r}; with method {self.method} there are no LoRA "
                "factors to combine, and the mean is taken. Leave rule out, or use method lora.",
            )
        if self.method == "prompt" and self.hub.rung != "streamed":
            raise ConfigError("hub.rung", self.hub.rung, "streamed, with method prompt")
        if self.trains_prefix and self.method != "prompt":
            raise ConfigError(
                "prompt.kind",
                self.prompt.kind,
                "soft",
                message=f"prompt.kind is prefix, which needs method prompt, not {self.method}: "
                "devices that hold the base in memory can't put one in place. Use soft.",
            )
        self._check_base()
        self._check_strategy()
        for key, part in (("publish_if", self.publish_if), ("until", self.until)):
            if part is not None and part.metric == VALIDATION and self.hub.validation is None:
                raise ConfigError(
                    f"{key}.metric",
                    part.metric,
                    "heldout_loss or worst_tenth",
                    message=f"{key}.metric is {part.metric}, but the hub has no text to measure it "
                    "on. Give hub.validation, or use heldout_loss or worst_tenth.",
                )

    @property
    def trains_weights(self) -> bool:
        """Whether all weights of the base are trained."""
        return self.method in WHOLE_METHODS

    @property
    def trains_prefix(self) -> bool:
        """Whether the prompt is a prefix in every layer."""
        return self.prompt.kind == "prefix"

    def chosen_strategy(self) -> Strategy:
        """Return the strategy as it is set."""
        return configured(self.strategy, self.server.given())

    def _check_base(self) -> None:
        """A base is named, or made: never both, never neither."""
        scratch = self.method == "pretrain"
        needed: dict[str, str | None] = {"model.base": self.model.base}
        if scratch:
            needed = {
                "pretrain.config": self.pretrain.config,
                "pretrain.tokenizer_text": self.pretrain.tokenizer_text,
            }
        for key, value in needed.items():
            if value is None:
                message = f"{key} is missing; it is required with method {self.method}."
                raise ConfigError(key, value, "a path", message=message)
        if scratch and self.model.base is not None:
            raise ConfigError(
                "model.base",
                self.model.base,
                "null",
                message=f"model.base is {self.model.base}; method pretrain makes a base of its "
                "own. Leave model.base out, or use method full.",
            )
        if not scratch and self.pretrain != PretrainPart():
            raise ConfigError(
                "pretrain",
                self.method,
                "nothing",
                message=f"pretrain means nothing to method {self.method}. Leave it out, or use "
                "method pretrain.",
            )

    def gate(self) -> Gate | None:
        """Return which adapters are released; None: all."""
        part = self.publish_if
        if part is None:
            return None
        return Gate(metric=part.metric, max_regression=part.max_regression)

    def stopping_rule(self) -> Until | None:
        """Return when the job ends before its last round; None: it doesn't."""
        part = self.until
        if part is None:
            return None
        return Until(metric=part.metric, patience=part.patience, min_delta=part.min_delta)

    def _check_strategy(self) -> None:
        known = defaults(self.strategy)
        for key, value in self.server.given().items():
            if key not in known:
                has = f"it has {', '.join(known)}" if known else "it has no settings"
                raise ConfigError(
                    f"server.{key}",
                    value,
                    "null",
                    message=f"server.{key} means nothing to strategy {self.strategy}; {has}.",
                )
        self._check_basis()
        terms = self.chosen_strategy().local
        for key, wanted in terms.needs.items():
            value = getattr(self.local, key)
            if value != wanted:
                raise ConfigError(
                    f"local.{key}",
                    value,
                    shown(wanted),
                    message=f"local.{key} is {shown(value)}; strategy {self.strategy} needs "
                    f"{shown(wanted)}: {terms.why}.",
                )

    def _check_basis(self) -> None:
        strategy = self.chosen_strategy()
        if strategy.basis == "any" or "lora" not in self.method:
            return
        rule = product_rule(self.rule)
        if strategy.local.control is not None:
            why = "keeps control variates of prompts and of whole weights alone"
            instead = "strategy fednova, or method prompt or full"
        elif not keeps_basis(rule):
            why = f"needs a fixed basis; rule {self.rule} {_does(rule)}"
            instead = f"strategy fedavgm, {_fixed_rules()}or method prompt"
        else:
            return
        raise ConfigError(
            "strategy",
            self.strategy,
            instead,
            message=f"strategy {self.strategy} {why}. Use {instead}.",
        )


def parse_job(text: str) -> JobFile:
    """Return the job that a ``job.yaml`` describes.

    Raises:
        ConfigError: a key or value isn't allowed; the error names the key's path.
    """
    return parse_yaml(text, JobFile, "the job file")
