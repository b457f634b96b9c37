"""Text comes in whole characters, and ends before a stop string."""

from collections.abc import Sequence

import pytest

from edge_agent.serving.text_stream import TextStream


def _bytes(ids: Sequence[int]) -> str:
    """Decode tokens that are bytes, as tokenizers do."""
    return bytes(ids).decode("utf-8", errors="replace")


def _told(text: str, *stops: str) -> tuple[list[str], bool]:
    stream = TextStream(_bytes, stops)
    pieces = []
    for token in text.encode():
        pieces.append(stream.add(token))
        if stream.stopped:
            break
    pieces.append(stream.end())
    return [piece for piece in pieces if piece], stream.stopped


@pytest.mark.parametrize(
    "text", ["plain", "für Ärzte", "日本語", "🦜🦜", "a\N{REPLACEMENT CHARACTER}b"]
)
def test_characters_come_whole(text: str) -> None:
    pieces, _ = _told(text)
    assert "".join(pieces) == text
    # A sign that stands for broken text waits for what follows.
    assert len(pieces) == len(text) - text.count("\N{REPLACEMENT CHARACTER}")


def test_a_broken_end_is_told_as_such() -> None:
    stream = TextStream(_bytes)
    assert [stream.add(token) for token in "é".encode()[:1]] == [""]
    assert stream.end() == "\N{REPLACEMENT CHARACTER}"


def test_bytes_that_are_no_text_do_not_hold_it_up() -> None:
    stream = TextStream(_bytes)
    found = "".join(stream.add(token) for token in [0xFF] * 9 + [65])
    assert found.endswith("A")
    assert set(found) == {"A", "\N{REPLACEMENT CHARACTER}"}


@pytest.mark.parametrize("broken", [b"\xff", b"\xff\xff\xff", b"\xf0\xff" * 3, b"\x80" * 7])
def test_a_character_behind_broken_bytes_comes_whole(broken: bytes) -> None:
    stream = TextStream(_bytes)
    data = broken + "ω!".encode()
    found = "".join(stream.add(token) for token in data) + stream.end()
    assert found == data.decode(errors="replace")


def test_a_leading_space_is_not_lost_between_tokens() -> None:
    """SentencePiece's decoder takes the first space of a text away."""
    words = ["▁one", "▁two", "▁three"]

    def text_of(ids: Sequence[int]) -> str:
        return "".join(words[one] for one in ids).replace("▁", " ").removeprefix(" ")

    stream = TextStream(text_of)
    assert [stream.add(one) for one in range(3)] == ["one", " two", " three"]


def test_text_ends_before_a_stop_string() -> None:
    assert _told("one two\n\nthree", "\n\n") == (["o", "n", "e", " ", "t", "w", "o"], True)


def test_what_may_begin_a_stop_string_is_held_back() -> None:
    pieces, stopped = _told("a<b<en<end>", "<end>", "xyz")
    assert ("".join(pieces), stopped) == ("a<b<en", True)
    assert "<" not in pieces  # it came with what proved it harmless


def test_what_was_held_back_is_told_in_the_end() -> None:
    assert _told("a<en", "<end>") == (["a", "<en"], False)


def test_the_first_of_several_stops_counts() -> None:
    stream = TextStream(lambda ids: "xxabcdxx" * len(ids), ["cd", "ab"])
    assert (stream.add(0), stream.stopped, stream.end()) == ("xx", True, "")
