"""How PEFT scales each layer of a LoRA folder, and what else it would do there that we can't.

Format: `LoraConfig` of PEFT 0.14 to 0.21
(https://huggingface.co/docs/peft/package_reference/lora#peft.LoraConfig).
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from wire.errors import MalformedError, TooLargeError

MAX_CONFIG_BYTES = 1024 * 1024
_MAX_PATTERN = 1000
_N = TypeVar("_N", int, float)
#: Ways to begin that leave the base as it is; PiSSA, OLoRA and their like change it.
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
#: What a layer may do beyond B A; each is absent, null, false or empty in plain LoRA.
_EXTRAS = {
    "use_dora": "DoRA's magnitudes",
    "lora_bias": "biases of its factors",
    "modules_to_save": "whole modules",
    "trainable_token_indices": "trained embeddings",
    "target_parameters": "factors of parameters that no linear layer holds",
    "layer_replication": "replicated layers",
    "use_qalora": "QA-LoRA's groups",
    "alora_invocation_tokens": "aLoRA's invocation tokens",
    "use_bdlora": "block-diagonal factors",
    "arrow_config": "Arrow's routing",
    "kasa_config": "KaSA's singular values",
    "monteclora_config": "MonteCLoRA's samples",
    "velora_config": "VeLoRA's projections",
}


class LoraConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that matter of an ``adapter_config.json``."""

    peft_type: str
    r: int
    lora_alpha: float
    base_model_name_or_path: str | None = None
    revision: str | None = None
    use_rslora: bool = False
    rank_pattern: dict[str, int] | None = None
    alpha_pattern: dict[str, float] | None = None
    bias: str = "none"
    init_lora_weights: bool | str | None = True

    def rank(self, target: str) -> int:
        """Return the rank of a layer's factors."""
        return _matched(self.rank_pattern, target, self.r)

    def scale(self, target: str) -> float:
        """Return what B A is multiplied by: alpha / r, or alpha / √r with rsLoRA."""
        rank = self.rank(target)
        alpha = _matched(self.alpha_pattern, target, self.lora_alpha)
        # Kalajdzievski 2023, arXiv 2312.03732: a scale that large ranks don't quench.
        return alpha / (math.sqrt(rank) if self.use_rslora else rank)


def read_config(folder: Path) -> LoraConfig:
    """Return a folder's configuration.

    Raises:
        MalformedError: it isn't plain LoRA's, or a value can't be.
        OSError: it can't be read.
    """
    path = folder / "adapter_config.json"
    with path.open("rb") as file:
        text = file.read(MAX_CONFIG_BYTES + 1)
    if len(text) > MAX_CONFIG_BYTES:
        raise TooLargeError(f"{path} has more than {MAX_CONFIG_BYTES} bytes.")
    try:
        whole: dict[str, Any] = msgspec.json.decode(text, type=dict[str, Any])
        if whole.get("peft_type") != "LORA":
            raise MalformedError(
                f"{path}: peft_type is {whole.get('peft_type')!r}; only LORA can be combined."
            )
        config = msgspec.convert(whole, LoraConfig)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"{path} can't be read: {error}") from error
    _check(path, config, whole)
    return config


def _check(path: Path, config: LoraConfig, whole: Mapping[str, Any]) -> None:
    for key, words in _EXTRAS.items():
        if whole.get(key):
            raise MalformedError(
                f"{path}: {key} is set; {words} are no product B A and can't be combined. "
                "Merge that adapter into its base instead."
            )
    if config.bias != "none":
        raise MalformedError(
            f"{path}: bias is {config.bias!r}; trained biases can't be combined, only B A can."
        )
    if config.init_lora_weights not in _PLAIN_STARTS:
        raise MalformedError(
            f"{path}: init_lora_weights is {config.init_lora_weights!r}, which may have changed "
            "the base. Save it with path_initial_model_for_weight_conversion, which makes it plain."
        )
    ranks = [config.r, *(config.rank_pattern or {}).values()]
    if min(ranks) < 1:
        raise MalformedError(f"{path}: a rank is {min(ranks)}; ranks are 1 or more.")
    for alpha in (config.lora_alpha, *(config.alpha_pattern or {}).values()):
        if not math.isfinite(alpha):
            raise MalformedError(f"{path}: an alpha is {alpha}; it must be finite.")
    for pattern in (*(config.rank_pattern or {}), *(config.alpha_pattern or {})):
        try:
            if len(pattern) > _MAX_PATTERN:
                raise MalformedError(f"{path}: a pattern has {len(pattern)} characters.")
            re.compile(pattern)
        except re.error as error:
            raise MalformedError(f"{path}: the pattern {pattern!r} is none: {error}") from error


def _matched(patterns: Mapping[str, _N] | None, target: str, otherwise: _N) -> _N:
    """Return the value of the first pattern that a module path ends with, as PEFT looks it up."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", target):
            return value
    return otherwise
