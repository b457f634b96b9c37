"""How often strangers may ask."""

from hub.fleet.rate_limit import Bucket, RateLimit


def test_a_bucket_gives_its_burst_and_then_what_comes_back() -> None:
    bucket = Bucket(2, 0.5, now=0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [True, True, False]
    assert not bucket.take(1.9)
    assert bucket.take(4.0)
    assert bucket.look(1000.0) == 2  # and no more


def test_an_address_that_fails_hears_no_more_reasons_for_a_while() -> None:
    limit = RateLimit(0.0, failures=(3, 0.25))
    assert [limit.failed("10.0.0.1", 0.0) for _ in range(4)] == [True] * 3 + [False]
    assert limit.failed("10.0.0.2", 1.0)
    assert limit.failed("10.0.0.1", 4.0)


def test_devices_behind_the_address_of_one_that_guesses_are_not_held_up() -> None:
    limit = RateLimit(0.0)
    for tenth in range(400):
        assert limit.allows("10.0.0.1", tenth / 10)
        if tenth % 2:
            limit.failed("10.0.0.1", tenth / 10)


def test_no_address_takes_what_all_have() -> None:
    limit = RateLimit(0.0, requests=(5, 1), each=(3, 1))
    assert [limit.allows("10.0.0.1", 0.0) for _ in range(4)] == [True] * 3 + [False]
    assert limit.allows("10.0.0.2", 0.0)


def test_all_together_are_limited() -> None:
    limit = RateLimit(0.0, requests=(5, 1))
    allowed = [limit.allows(f"10.0.0.{n}", 0.0) for n in range(7)]
    assert allowed == [True] * 5 + [False] * 2


def test_addresses_are_forgotten_beyond_a_number() -> None:
    limit = RateLimit(0.0)
    for n in range(10_050):
        assert limit.failed(str(n), 0.0)
    assert len(limit._by_address) == 10_000
