"""FedAvg: an update counts as much as the data behind it (McMahan et al. 2017, arXiv 1602.05629).

Late updates are damped by 1/√(1 + s) for a staleness of s rounds, as in FedBuff (Nguyen et al.
2022, arXiv 2106.06639).
"""

import math
from collections.abc import Sequence

from hub.aggregation.contract import AggregationError, Trained


class FedAvg:
    """Weights by tokens trained on, damped by staleness."""

    name = "fedavg"

    def weights(self, updates: Sequence[Trained]) -> list[float]:
        """Return tokens / √(1 + staleness) of each update, scaled to sum to 1."""
        for update in updates:
            if update.tokens <= 0 or update.staleness < 0:
                raise AggregationError(
                    f"the update of {update.device} has {update.tokens} tokens and a staleness of "
                    f"{update.staleness}; tokens must be positive, staleness not negative."
                )
        raw = [update.tokens / math.sqrt(1 + update.staleness) for update in updates]
        total = math.fsum(raw)
        return [weight / total for weight in raw]


STRATEGY = FedAvg()
