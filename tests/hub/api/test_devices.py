import httpx


def test_devices_are_listed_and_shown(client: httpx.Client) -> None:
    listed = client.get("/v1/devices").json()
    assert [(device["device"], device["state"]) for device in listed] == [("clinic-1", "ready")]
    shown = client.get("/v1/devices/clinic-1").json()
    assert shown["info"]["plans"]["notes"]["rank"] == 8


def test_an_unknown_device_is_not_found(client: httpx.Client) -> None:
    assert client.get("/v1/devices/other").status_code == 404
