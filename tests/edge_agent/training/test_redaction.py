"""Redaction: what is found, what is not, and that no text makes it slow."""

import pytest

from edge_agent.training.redaction import Redactor, is_card


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to jane.doe+x@mail.example.co.uk.", "write to [email]."),
        ("<müller@beispiel.de>, or b_c@d.org", "<[email]>, or [email]"),
        ("a@b, @name, me@host: no addresses", "a@b, @name, me@host: no addresses"),
        # Test numbers of the card schemes' own pages.
        ("card 4111 1111 1111 1111.", "card [card]."),
        ("378282246310005 or 5555-5555-5555-4444", "[card] or [card]"),
        ("4111 1111 1111 1111 12/26", "[card] 12/26"),
        ("no. 12 4111 1111 1111 1111", "no. 12 [card]"),
        ("order 4111 1111 1111 1112", "order 4111 1111 1111 1112"),
        ("call +49 (30) 1234-5678 or +15551234567", "call [phone] or [phone]"),
        ("(555) 123-4567, 555-123-4567, 555.123.4567", "[phone], [phone], [phone]"),
        ("Tel. 030 1234567, 0171/1234567", "Tel. [phone], [phone]"),
        ("on 2026-11-27, 27.11.2026, 01-02-2024", "on 2026-11-27, 27.11.2026, 01-02-2024"),
        ("10.123.123.1234 is 192.168.100.200", "10.123.123.1234 is 192.168.100.200"),
        ("3.14159265358979, 120/80 mmHg, 0.05 mg", "3.14159265358979, 120/80 mmHg, 0.05 mg"),
        ("x = 1000000007; y[0:128] = 0x0", "x = 1000000007; y[0:128] = 0x0"),
    ],
)
def test_it_finds_what_is_written_as_such_things_are(text, expected):
    assert Redactor()(text) == expected


def test_everything_that_was_replaced_is_counted():
    redact = Redactor()
    redact("a@b.org and 4111 1111 1111 1111")
    redact("nothing")
    redact("555-123-4567")
    assert redact.count == 3


def test_luhns_formula_by_hand():
    # 1 and 8 at odd places; 8·2=16 -> 7 at even ones. The usual example of 79927398713, made
    # longer by two zeros in front, which change no sum: 70, a multiple of ten.
    assert is_card("0079927398713")
    assert not is_card("0079927398710")
    assert not is_card("79927398713")  # too short for a card
    assert not is_card("0" * 16)


@pytest.mark.parametrize("piece", ["a", "a.", "1", "1 ", "a@", "a@b.", "+1 ", "0-", "(12)", "@"])
def test_no_text_takes_more_than_its_length(piece):
    """A pattern that looks back and back would take hours for this."""
    text = piece * (200_000 // len(piece))
    assert len(Redactor()(text)) <= len(text)
