"""FedProx at the hub: FedAvg's weights, and what the devices are told."""

import pytest

from hub.aggregation.contract import LocalTerms, Trained
from hub.aggregation.strategies.fedprox import STRATEGY, FedProx


def test_an_update_counts_as_its_tokens() -> None:
    assert STRATEGY.weights([Trained("a", 100, 0), Trained("b", 300, 0)]) == pytest.approx(
        [0.25, 0.75]
    )


def test_the_devices_are_told_mu() -> None:
    assert FedProx(mu=0.5).local == LocalTerms(proximal_mu=0.5)
    assert STRATEGY.local.proximal_mu == 0.01
