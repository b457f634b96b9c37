"""Private text: what is read, what is skipped, and who is held out."""

import json
import tracemalloc

import pytest

from edge_agent.errors import DataError
from edge_agent.training.data import Example, count, draw, is_held_out, read


def write_lines(path, lines):
    path.write_text("\n".join(json.dumps(line) for line in lines) + "\n")


def texts(number):
    return [{"text": f"example number {i}"} for i in range(number)]


def test_reads_both_forms_of_a_line(tmp_path):
    write_lines(tmp_path / "a.jsonl", [{"prompt": "2+2?", "response": "4"}, {"text": "free"}])
    assert list(read([tmp_path])) == [Example("2+2?", "4"), Example(None, "free")]


def test_broken_lines_are_skipped_and_counted(tmp_path):
    file = tmp_path / "a.jsonl"
    good = b'{"text": "fine"}\n\n'
    bad = [
        b"not json",
        b"[1, 2]",
        b'{"text": 5}',
        b'{"text": " "}',
        b'{"prompt": "no response"}',
        b'{"other": "key"}',
        b'{"text": "\xff\xfe"}',
    ]
    other = good.replace(b"fine", b"also fine")
    file.write_bytes(good + b"\n".join(bad) + b"\n" + other)
    summary = count([file])
    assert (summary.examples, summary.skipped) == (2, len(bad))


def test_an_overlong_line_is_broken_and_the_next_one_is_read(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"text": "' + b"x" * 3_000_000 + b'"}\n{"text": "next"}\n')
    assert list(read([file])) == [None, Example(None, "next")]


def test_a_folder_is_searched_for_its_two_kinds_of_file_only(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.txt").write_text("from text")
    write_lines(tmp_path / "a.jsonl", [{"text": "from lines"}])
    for name in ("c.md", "d.py", "e.json"):
        (tmp_path / name).write_text('{"text": "never"}')
    assert [example.text for example in read([tmp_path])] == ["from lines", "from text"]


def test_a_link_that_leads_elsewhere_is_not_followed(tmp_path):
    (tmp_path / "secret.txt").write_text("not given to the agent")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "own.txt").write_text("own")
    assert [example.text for example in read([folder])] == ["own"]


def test_passages_end_at_paragraphs_and_lose_no_word(tmp_path):
    paragraph = "words of one paragraph " * 30  # 690 characters
    (tmp_path / "a.txt").write_text(f"{paragraph}\n\n{paragraph}\n\n{'x' * 2500}\n")
    found = [example.text for example in read([tmp_path])]
    assert found[:2] == [paragraph.strip()] * 2
    assert [len(text) for text in found[2:]] == [1000, 1000, 500]


def test_a_tenth_is_held_out_by_content_alone(tmp_path):
    write_lines(tmp_path / "a.jsonl", texts(2000))
    write_lines(tmp_path / "b.jsonl", texts(2000)[::-1])
    first, second = count([tmp_path / "a.jsonl"]), count([tmp_path / "b.jsonl"])
    assert first == second
    # Binomial(2000, 0.1): 200 ± 13; five standard deviations.
    assert 133 < first.held_out < 267


def test_the_held_out_side_never_changes():
    # Those of "text 1" to "text 40" for which coreutils' sha256sum of a NUL and the text begins
    # with 16 hexadecimal digits that make a multiple of ten.
    found = [n for n in range(1, 41) if is_held_out(Example(None, f"text {n}"))]
    assert found == [13, 24, 26, 33]


def test_the_parts_are_disjoint_and_complete(tmp_path):
    write_lines(tmp_path / "a.jsonl", texts(300))
    train = draw([tmp_path], "train", 10**9, seed=1)
    held_out = draw([tmp_path], "held_out", 10**9, seed=1)
    assert {e.text for e in train} | {e.text for e in held_out} == {t["text"] for t in texts(300)}
    assert len(train) + len(held_out) == 300


def test_a_draw_is_fixed_by_its_seed_and_takes_what_suffices(tmp_path):
    write_lines(tmp_path / "a.jsonl", texts(300))
    chosen = draw([tmp_path], "train", 500, seed=1)
    assert chosen == draw([tmp_path], "train", 500, seed=1)
    assert chosen != draw([tmp_path], "train", 500, seed=2)
    # Each text has 16 to 18 characters, so 28 to 32 of them make 500.
    assert 28 <= len(chosen) <= 32


def test_a_draw_from_a_large_file_stays_small(tmp_path):
    with (tmp_path / "a.txt").open("w") as file:
        for line in range(40_000):
            file.write(f"line {line} of a file of some four million characters " + "y" * 50 + "\n")
    tracemalloc.start()
    draw([tmp_path], "train", 20_000, seed=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_nothing_usable_is_refused_without_a_word_of_the_text(tmp_path):
    (tmp_path / "a.jsonl").write_text("MARKER but no json\n" * 3)
    with pytest.raises(DataError, match="3 broken lines") as caught:
        count([tmp_path])
    assert "MARKER" not in str(caught.value)


def test_only_held_out_text_is_refused_for_training(tmp_path):
    text = next(t for t in map(str, range(1000)) if is_held_out(Example(None, t)))
    write_lines(tmp_path / "a.jsonl", [{"text": text}])
    with pytest.raises(DataError, match="nothing is left to train on"):
        draw([tmp_path], "train", 100, seed=1)
    assert len(draw([tmp_path], "held_out", 100, seed=1)) == 1


@pytest.mark.parametrize("name", ["absent.txt", "table.csv"])
def test_a_path_that_can_not_serve_is_named_by_its_number(tmp_path, name):
    (tmp_path / "fine.txt").write_text("fine")
    (tmp_path / "table.csv").write_text("a,b")
    with pytest.raises(DataError, match="data path 2"):
        count([tmp_path / "fine.txt", tmp_path / name])
