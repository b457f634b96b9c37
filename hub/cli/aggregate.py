"""``lorikeet-hub aggregate``: adapters combined offline."""

import math
from pathlib import Path
from typing import Annotated

import typer

from hub.cli.options import AsJson
from hub.cli.output import print_json, print_line
from hub.errors import ConfigError

EXAMPLE = (
    "Example: lorikeet-hub aggregate ward lab --weights 3,1 --rule stack_svd --rank 16 --out both"
)


def aggregate(  # noqa: PLR0917  (options)
    adapters: Annotated[
        list[Path],
        typer.Argument(
            metavar="ADAPTER...",
            help="LoRA folders of PEFT.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="A folder that isn't there yet.", show_default=False)],
    weights: Annotated[
        str | None,
        typer.Option(
            help="How much each counts, such as 3,1; only the ratios matter.", show_default="equal"
        ),
    ] = None,
    rule: Annotated[str, typer.Option(help="How they are combined.")] = "stack_svd",
    rank: Annotated[
        int | None,
        typer.Option(min=1, max=4096, help="Of the outcome.", show_default="the adapters' highest"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Combine LoRA adapters of one base into one, without a hub.

    Tells how far the outcome is from the exact weighted mean of what the adapters add to the base.
    """
    for adapter in adapters:
        if not adapter.is_dir():
            raise ConfigError("ADAPTER", str(adapter), "a folder that PEFT saved a LoRA adapter in")
    if out.exists():
        message = f"--out is {out}; it exists. Name a folder that isn't there yet."
        raise ConfigError("--out", str(out), "a folder that isn't there yet", message=message)
    numbers = _weights(weights, len(adapters))
    from hub.offline.aggregate import aggregate as combine
    from hub.offline.choice import offline_rule, outcome_rank

    chosen = offline_rule(rule)
    width = outcome_rank(adapters, chosen, rank)
    error = combine(adapters, numbers, chosen, width, out)
    if as_json:
        print_json({"rule": rule, "rank": width, "relative_error": error, "out": str(out)})
    else:
        print_line(f"{out}: rank {width}, {error:.2e} away from the exact mean (relative)")


def _weights(text: str | None, count: int) -> list[float]:
    """Return the weights that an option gives.

    Raises:
        ConfigError: they are not so many positive numbers.
    """
    if text is None:
        return [1.0] * count
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) != count or not all(math.isfinite(one) and one > 0 for one in found):
        raise ConfigError("--weights", text, f"{count} positive numbers with commas between")
    return found
