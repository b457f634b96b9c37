"""The release gate over a real broker: devices that measure what they get, and one that spoils it.

The devices' loss is (w - t)² over the soft prompt's entries, with a target t of each device: real
losses of real adapters, fetched as blobs, whose outcome can be worked out by hand.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from hub.api.control import JobDetail
from hub.cli.client import HubClient
from tests.scripted_device import ScriptedDevice
from tests.system.agent_base import write_data, write_trainable_base
from tests.system.agent_process import AgentProcess
from tests.system.hub_process import FLEET, HubProcess, poll
from tests.system.small_base import job_text
from tests.system.wiretap import Wiretap
from wire.codecs import by_name
from wire.messages import Accepted, Evaluation, Offer
from wire.tensors import PackedFile, pack

pytestmark = pytest.mark.broker

GATE = {"metric": "heldout_loss", "max_regression": 0.01}
SHAPE = (4, 16)  # prompt tokens × the small base's hidden size
PROMPT = {"tokens": SHAPE[0], "lr": 0.5}
NAME = "prompt"


class Measuring(ScriptedDevice):
    """A device that goes half of its way to its target, or five times as far off in bad rounds."""

    def __init__(self, url: str, device: str, target: float, bad: tuple[int, ...] = ()) -> None:
        super().__init__(url, FLEET, device, role="prompt")
        self.codecs = ["raw"]
        self.target = target
        self.bad = bad
        self.greet()

    def prompt(self, offer: Offer) -> Any:
        """Return the soft prompt of the adapter that an offer names."""
        (part,) = self.manifest(offer).parts
        with PackedFile.open(
            self.download(part.sha256, part.size_bytes), self.manifest(offer).expected_prompt()
        ) as packed:
            return packed.get(NAME)

    def losses(self, offer: Offer) -> list[Evaluation]:
        loss = float(np.mean((self.prompt(offer) - self.target) ** 2))
        return [
            Evaluation(variant=one, loss=1.0 if one == "base" else loss, tokens=10)
            for one in offer.variants
        ]

    def serve(self, offer: Offer) -> Any:
        self.take(offer)
        if offer.kind == "evaluate":
            return self.result(offer, None)
        if offer.variants:
            self.evaluated(offer)
        share = -5.0 if offer.round in self.bad else 0.5
        move = (share * (self.target - self.prompt(offer))).astype(np.float32)
        blob = pack({NAME: move}, by_name(offer.codec), 0)
        assert isinstance(self.upload(offer, blob), Accepted)
        return self.result(offer, blob)


@pytest.fixture
def devices(broker: Any) -> Any:
    """Two honest devices, and one that spoils the second round."""
    found = [
        Measuring(broker.url, "a", 0.5),
        Measuring(broker.url, "b", 0.7),
        Measuring(broker.url, "c", 0.6, bad=(2,)),
    ]
    yield found
    for one in found:
        one.close()


def serve_to_the_end(hub: HubProcess, devices: list[Measuring]) -> JobDetail:
    def served() -> JobDetail | None:
        for one in devices:
            one.pump(0.02)
            for offer in list(one.offers):
                one.offers.remove(offer)
                one.serve(offer)
        detail = hub.job("j")
        return detail if detail.summary.phase in ("done", "failed") else None

    found: JobDetail = poll("the job's end", served, 90)
    return found


def exported(hub: HubProcess, folder: Path) -> Any:
    """Return the soft prompt of the newest adapter, as people get it."""
    with HubClient(hub.url) as client:
        client.adapter("j", folder / "adapter.zip")
    zipfile.ZipFile(folder / "adapter.zip").extractall(folder / "adapter")
    (path,) = (folder / "adapter").rglob("adapter_model.safetensors")
    return load_file(path)["prompt_embeddings"]


def job(base: Path, **changes: Any) -> str:
    settings: dict[str, Any] = {
        "method": "prompt",
        "prompt": PROMPT,
        "codec": "raw",
        "strategy": "fedavgm",
        "server": {"lr": 1.0, "momentum": 0.5},
        "cohort": {"min": 3, "max": 9},
        "publish_if": GATE,
    }
    return job_text("j", base, **(settings | changes))


def test_a_spoiled_round_is_rolled_back_and_the_job_goes_on(
    hub: HubProcess, devices: list[Measuring], base: Path, tmp_path: Path
) -> None:
    """By hand, w per entry near 0: targets 0.5, 0.7 and 0.6, whose mean is 0.6.

    Round 1 moves by half of the mean way: w1 = w0 + v1, v1 = (0.6 - w0) / 2. Round 2 is rolled
    back, and with it what it did to the momentum: round 3 moves by v1 / 2 and half of the way left,
    w3 = w1 + v1 / 2 + (0.6 - w1) / 2 = 0.6 - (0.6 - w0) / 4 + (0.6 - w0) / 4 = 0.6.
    """
    for one in devices:
        one.describe("j")
    hub.submit(job(base, rounds=3))
    detail = serve_to_the_end(hub, devices)
    assert detail.summary.phase == "done"
    assert [one.phase for one in detail.rounds] == ["published", "rolled_back", "published"]
    assert detail.summary.adapter_round == 3
    bad = detail.rounds[1].comparison
    assert bad is not None
    assert (bad.metric, bad.reference_round, bad.devices) == ("heldout_loss", 1, 3)
    assert bad.loss > 2 * bad.reference
    assert detail.rounds[1].reason is not None
    assert "rolled back: its heldout_loss is" in detail.rounds[1].reason
    good = detail.rounds[2].comparison
    assert good is not None
    assert good.reference == pytest.approx(bad.reference)
    events = {(one.kind, one.data.get("round")): one.data for one in hub.events("j")}
    assert ("Published", 2) not in events
    # Raw between 16-bit wholes: 2**-8 relative, twice.
    np.testing.assert_allclose(exported(hub, tmp_path), np.full(SHAPE, 0.6), rtol=0.02)
    assert hub.accepted("j") == [(r, d) for r in (1, 2, 3) for d in "abc"]
    # Targets 0.1 off on either side: losses 0.01, 0.01 and 0, whose deviation is sqrt(2) / 300.
    assert detail.rounds[2].heldout_loss == pytest.approx(0.02 / 3, rel=0.2)
    assert detail.rounds[2].worst_tenth == pytest.approx(0.01, rel=0.2)
    assert detail.rounds[2].spread == pytest.approx(2**0.5 / 300, rel=0.2)
    assert detail.rounds[2].measured_by == 3


def test_a_device_that_measured_a_candidate_does_not_measure_it_again(
    hub: HubProcess, devices: list[Measuring], base: Path
) -> None:
    for one in devices:
        one.describe("j")
    hub.submit(job(base, rounds=2))
    serve_to_the_end(hub, devices)
    opened = [one.data for one in hub.events("j", "Opened")]
    kinds = [
        (one["round"], one["members"][0]["kind"], one["members"][0]["variants"]) for one in opened
    ]
    assert kinds == [
        (1, "train", ["base", "adapter"]),
        (1, "evaluate", ["adapter"]),
        (2, "train", []),
        (2, "evaluate", ["adapter"]),
        (3, "evaluate", ["base", "adapter", "without_prompt"]),
    ]


@pytest.mark.parametrize(("gate", "rounds"), [(GATE, 2), (None, 3)])
def test_a_job_ends_early_when_the_loss_falls_too_little(
    hub: HubProcess, broker: Any, base: Path, gate: dict[str, Any] | None, rounds: int
) -> None:
    """Half of the way to 0.6 is left each round: 0.36, 0.09, 0.0225. The last fall is under 0.1.

    Without a gate, round 2's adapter is measured while round 3 runs.
    """
    one = Measuring(broker.url, "a", 0.6)
    try:
        one.describe("j")
        until = {"patience": 1, "min_delta": 0.1}
        cohort = {"min": 1, "max": 9}
        fedavg = {"strategy": "fedavg", "server": {}}
        hub.submit(job(base, rounds=9, publish_if=gate, until=until, cohort=cohort, **fedavg))
        detail = serve_to_the_end(hub, [one])
    finally:
        one.close()
    assert detail.summary.phase == "done"
    assert [one.phase for one in detail.rounds] == ["published"] * rounds
    assert detail.summary.reason == (
        "stopped early: heldout_loss has not improved by 0.1 nats in 1 rounds, since round 1"
    )
    assert detail.evaluation is not None
    assert detail.evaluation.phase == "done"
    assert detail.rounds[0].heldout_loss == pytest.approx(0.09, rel=0.1)


class Saying(ScriptedDevice):
    """A device that says what a test has it say of the first round's candidate."""

    def losses(self, offer: Offer) -> list[Evaluation]:
        bad = offer.task == f"j.1.candidate.{self.id}"
        return [
            Evaluation(variant=one, loss=9.0 if bad else 2.0, tokens=9) for one in offer.variants
        ]


def test_what_a_rule_does_first_it_does_again_after_a_roll_back(
    hub: HubProcess, broker: Any, base: Path
) -> None:
    """Rule core trains factors in its first round, then cores between what came of that."""
    one = Saying(broker.url, FLEET, "a", rank=4)
    asked = {}
    try:
        one.greet()
        one.describe("j")
        lora = {"method": "lora", "rule": "core", "cohort": {"min": 1, "max": 9}}
        hub.submit(job_text("j", base, rounds=3, publish_if=GATE, **lora))
        for round_ in (1, 2, 3):
            offer = one.await_offer(round_)
            assert offer.work is not None
            asked[round_] = offer.work.trains
            if offer.variants:
                one.evaluated(offer)
            one.serve(offer)
            one.serve(one.await_offer(round_))  # its candidate
        one.serve(one.await_offer(4))
        detail = poll("the end", lambda: hub.job("j") if hub.job("j").evaluation else None)
    finally:
        one.close()
    assert asked == {1: "both", 2: "both", 3: "core"}
    assert [round_.phase for round_ in detail.rounds] == ["rolled_back", "published", "published"]


@pytest.mark.slow
def test_a_real_agent_goes_on_from_what_was_there_before_a_rolled_back_round(
    hub: HubProcess, broker: Any, tmp_path: Path
) -> None:
    """Its adapter is made of differences, and of the bad round it remembers nothing."""
    base = write_trainable_base(tmp_path / "trainable")
    data = write_data(tmp_path / "private" / "my.jsonl", marker="text")
    residuals = tmp_path / "a" / "state" / "residuals" / "j"
    local = {"steps": 20, "batch": 4, "min_batch": 4, "seq_len": 64, "min_seq_len": 64, "lr": 0.02}
    other = ScriptedDevice(broker.url, FLEET, "z", rank=4)
    other.codecs = ["topk"]
    other.greet()
    other.describe("j")
    # With so little memory it streams, and needs no half a minute for the heavy libraries.
    with (
        Wiretap(broker.url) as tap,
        AgentProcess(tmp_path / "a", broker.url, "a", data, 350_000_000) as agent,
    ):
        hub.submit(
            job_text(
                "j", base, method="lora", lora={"rank": 4, "min_rank": 4}, local=local,
                codec="topk", rounds=3, cohort={"min": 2, "max": 9},
                publish_if={"metric": "heldout_loss", "max_regression": 0.0},
            )
        )  # fmt: skip
        for round_ in (1, 2, 3):
            spoils = round_ == 2
            offer = other.await_offer(round_, 150)
            other.take(offer)
            poll(f"round {round_}", lambda r=round_: (r, "a") in hub.accepted("j"), 150)
            if round_ == 3:
                assert b'"task":"j.1.a"' in (residuals / "kept.safetensors").read_bytes()
                assert b'"task":"j.3.a"' in (residuals / "pending.safetensors").read_bytes()
            other.tokens = 10**6 if spoils else 1
            blob = other.make_update(offer, scale=2.0 if spoils else 1e-6, seed=1)
            assert isinstance(other.upload(offer, blob), Accepted)
            other.result(offer, blob)
            other.take(other.await_offer(round_, 150), accept=False)  # to evaluate the candidate

        def ended() -> bool:
            other.pump(0.02)
            for offer in list(other.offers):
                other.offers.remove(offer)
                other.take(offer, accept=False)
            return hub.job("j").summary.phase in ("done", "failed")

        poll("the end", ended, 150)
        detail = hub.job("j")
        assert [one.phase for one in detail.rounds] == ["published", "rolled_back", "published"]
        assert detail.summary.phase == "done", detail.summary
        offered = {one.round: one.accepted for one in tap.messages(Offer, "a") if one.work}
        assert offered == {1: "", 2: "j.1.a", 3: "j.1.a"}
        assert "gathered whole" not in agent.log
    other.close()
