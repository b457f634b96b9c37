"""Real agents do what strategies ask of them: a proximal term, momentum, control variates."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.system.site import LOCAL, Site, open_site
from wire.messages import BlobGet

pytestmark = [pytest.mark.broker, pytest.mark.slow]

PLAIN = {"optimizer": "sgd", "clip": None, "warmup_steps": 0}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with open_site(tmp_path_factory.mktemp("site")) as opened:
        yield opened


def test_control_variates_are_fetched_from_the_second_round_on(site: Site) -> None:
    prompt = {"tokens": 4, "lr": 0.5}
    site.play("corrected", strategy="scaffold", method="prompt", prompt=prompt,
              local=LOCAL | PLAIN)  # fmt: skip
    for offer in site.offers("corrected", 1):
        assert offer.work is not None
        assert offer.work.control is None
    offers = site.offers("corrected", 2)
    assert len(offers) == 2
    for device in "ab":
        asked = {one.sha256 for one in site.tap.messages(BlobGet, device)}
        work = next(one.work for one in offers if one.task.endswith(device))
        assert work is not None
        assert work.control is not None
        assert work.own_control is not None
        assert {work.control.sha256, work.own_control.sha256} <= asked
    # Each is let go of with its task.
    for agent in site.agents:
        held = {path.name for path in (agent.state / "blobs").rglob("*") if path.is_file()}
        for offer in offers:
            assert offer.work is not None
            assert offer.work.own_control is not None
            assert offer.work.own_control.sha256 not in held


def test_momentum_and_a_proximal_term_train_factors(site: Site) -> None:
    detail = site.play(
        "normalised",
        strategy="fednova",
        server={"mu": 0.1},
        method="lora",
        local=LOCAL | {"optimizer": "sgd", "momentum": 0.9},
    )
    for offer in site.offers("normalised", 2):
        assert offer.work is not None
        assert (offer.work.proximal_mu, offer.work.momentum) == (0.1, 0.9)
    assert detail.loss_after.keys() == {"a", "b"}


def test_the_hubs_momentum_takes_real_updates_further(site: Site) -> None:
    """Round 1 of both is the same; in round 2 momentum adds what round 1 learnt."""
    settings: dict[str, Any] = {"method": "lora", "local": LOCAL, "codec": "raw", "seed": 3}
    plain = site.play("plain", strategy="fedavg", **settings)
    further = site.play("further", strategy="fedavgm", server={"momentum": 0.9}, **settings)
    for device in "ab":
        assert further.loss_after[device] < further.loss_before[device]
        assert further.loss_after[device] < plain.loss_after[device]
