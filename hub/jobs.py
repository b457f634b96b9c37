"""The job file: parsed once, every error names the key.

A value that is planned but not built is refused like any other that isn't allowed, and a key
that would do nothing is not known.
"""

from collections.abc import Collection
from typing import Annotated, Literal

from msgspec import Meta

from hub.aggregation.contract import ProductRule, Strategy
from hub.aggregation.rules import keeps_basis, product_rule, product_rules
from hub.aggregation.strategies import catalogue as strategies
from hub.aggregation.strategies import configured, defaults
from hub.errors import ConfigError, shown
from hub.job_parts import (
    CohortPart,
    Count,
    HubPart,
    LocalPart,
    LoraPart,
    ModelPart,
    Part,
    PretrainPart,
    PromptPart,
    PublishIfPart,
    Seconds,
    ServerPart,
    UntilPart,
)
from hub.rounds.events import VALIDATION, Gate, Until
from hub.yaml_file import one_of, parse_yaml
from wire.codecs import CODEC_NAMES
from wire.errors import MalformedError
from wire.topics import check_name

_RULE = "stack_svd"
#: All weights of a base are trained.
WHOLE_METHODS = ("full", "pretrain")


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


class JobFile(Part, frozen=True, kw_only=True):
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
    rounds: Count = 20
    cohort: CohortPart = CohortPart()
    deadline_s: Literal["auto"] | Seconds = "auto"
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
        self._check_forward()
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

    def _check_forward(self) -> None:
        """Without backprop only cores are trained, and nothing can be added to a gradient."""
        if self.local.forward is None:
            return
        terms = self.chosen_strategy().local
        cores = [name for name, rule in product_rules().items() if rule.cores]
        whys = {
            f"method {self.method} has no LoRA factors to put cores between. Use method lora": (
                "lora" not in self.method
            ),
            f"rule {self.rule} takes no cores. Use rule {one_of(cores)}": (
                not product_rule(self.rule).cores
            ),
            f"strategy {self.strategy} adds terms to gradients, of which there are none. Use "
            "strategy fedavg": bool(terms.proximal_mu) or terms.control is not None,
            "local.adversarial needs gradients, of which there are none. Leave one of them out": (
                self.local.adversarial is not None
            ),
        }
        for why, holds in whys.items():
            if holds:
                message = f"local.forward can't be: {why}."
                raise ConfigError("local.forward", "given", "null", message=message)

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
