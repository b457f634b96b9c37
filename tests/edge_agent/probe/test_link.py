"""The interface that leads out, and what kind it is."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.probe.link import links

Tree = Callable[[dict[str, str]], Path]
HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"


def route(name: str, metric: int, mask: str = "00000000", flags: str = "0003") -> str:
    return f"{name}\t00000000\t0101A8C0\t{flags}\t0\t0\t{metric}\t{mask}\t0\t0\t0\n"


def net(name: str, **files: str) -> dict[str, str]:
    return {f"sys/class/net/{name}/{file}": f"{text}\n" for file, text in files.items()}


def test_the_default_route_with_the_least_metric_counts(device: Callable[[str], Path]) -> None:
    found = links(device("pc"))
    assert (found.interface, found.kind, found.speed_mbit_s) == ("enp5s0", "ethernet", 1000)
    assert found.interfaces is not None
    kinds = {one.name: one.kind for one in found.interfaces}
    assert kinds == {"lo": "loopback", "wg0": "tunnel", "enp5s0": "ethernet", "wlp4s0": "wifi"}


def test_whether_the_link_costs_money_is_unknown(device: Callable[[str], Path]) -> None:
    found = links(device("pc"))
    assert found.metered is None
    assert set(found.missing) == {"metered"}


def test_wifi_tells_no_speed(device: Callable[[str], Path]) -> None:
    found = links(device("raspberry_pi"))
    assert (found.interface, found.kind, found.speed_mbit_s) == ("wlan0", "wifi", None)
    assert found.missing["speed_mbit_s"] == "/sys/class/net/wlan0/speed is not there"
    assert found.interfaces is not None
    eth0 = next(one for one in found.interfaces if one.name == "eth0")
    assert (eth0.up, eth0.speed_mbit_s) == (False, None)  # the driver says -1


@pytest.mark.parametrize(
    ("name", "files", "kind"),
    [
        ("wwan0", {"type": "1", "uevent": "DEVTYPE=wwan"}, "cellular"),
        ("rmnet_data0", {"type": "519"}, "cellular"),
        ("wlan0", {"type": "1", "phy80211/index": "0"}, "wifi"),
        ("ppp0", {"type": "512"}, "tunnel"),
        ("can0", {"type": "280"}, "other"),
        ("x", {"uevent": ""}, "other"),
    ],
)
def test_kinds_are_told_apart(tree: Tree, name: str, files: dict[str, str], kind: str) -> None:
    root = tree({"proc/net/route": HEAD + route(name, 0), **net(name, **files)})
    assert links(root).kind == kind


def test_a_route_that_is_down_or_only_to_a_network_leads_nowhere(tree: Tree) -> None:
    lines = route("eth0", 0, flags="0002") + route("eth1", 0, mask="000000FF")
    found = links(tree({"proc/net/route": HEAD + lines, **net("eth0", type="1")}))
    assert (found.interface, found.kind) == (None, None)
    assert "interface" in found.missing


def test_a_network_with_ipv6_only_has_its_route_there(tree: Tree) -> None:
    nothing = "0" * 32
    hop = "fe800000000000000000000000000001"
    lines = (
        f"{nothing} 00 {nothing} 00 {nothing} ffffffff 00000001 00000000 00200200       lo\n"
        f"{nothing} 00 {nothing} 00 {hop} 00000064 00000001 00000000 00000003     eth0\n"
    )
    files = {"proc/net/route": HEAD, "proc/net/ipv6_route": lines, **net("eth0", type="1")}
    assert links(tree(files)).interface == "eth0"


def test_a_phone_hides_it_all(device: Callable[[str], Path]) -> None:
    found = links(device("phone_termux"))
    assert (found.interface, found.kind, found.interfaces) == (None, None, None)
    assert found.missing["interfaces"] == "/sys/class/net is not there"
