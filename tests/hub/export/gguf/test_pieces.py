from hub.export.gguf.pieces import scores_of


def test_scores_fall_in_the_order_of_the_merges() -> None:
    # "ab" is made first, then "abc" in both ways.
    tokens = ["a", "b", "c", "bc", "ab", "abc", None]
    merges = [("a", "b"), ("b", "c"), ("a", "bc"), ("ab", "c")]
    assert scores_of(tokens, merges) == [-3, -3, -3, -1, 0, -2, -3]


def test_a_merge_that_scores_would_do_as_well_may_not_be_missing() -> None:
    assert scores_of(["a", "b", "ab"], []) is None


def test_the_merges_of_a_token_stand_together() -> None:
    tokens = ["a", "b", "c", "bc", "ab", "abc"]
    assert scores_of(tokens, [("a", "b"), ("ab", "c"), ("b", "c"), ("a", "bc")]) is None


def test_a_merge_of_what_is_no_token_is_nothing_that_scores_do() -> None:
    assert scores_of(["a", "b"], [("a", "b")]) is None
