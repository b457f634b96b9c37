"""Small messages don't wait: the options are set where there are any."""

import socket

import pytest

from wire.prompt_socket import acknowledge_at_once, send_at_once


def test_nagles_algorithm_is_off() -> None:
    with socket.socket() as one:
        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0
        send_at_once(one)
        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="Linux only")
def test_acknowledgements_are_not_delayed() -> None:
    with socket.socket() as one:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
        acknowledge_at_once(one)
        assert one.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK) == 1


@pytest.mark.parametrize("odd", [None, object()])
def test_what_is_no_socket_is_passed_over(odd: object) -> None:
    send_at_once(odd)
    acknowledge_at_once(odd)


def test_other_sockets_are_left_alone() -> None:
    one, other = socket.socketpair()
    with one, other:
        send_at_once(one)
        acknowledge_at_once(one)
