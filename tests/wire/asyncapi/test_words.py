from wire.asyncapi.words import read_words

PAGE = """
# Page

| limit | value |
|---|---|
| `NOT_A_FIELD` | 1 |

### `Hello`

Topic `a/b`. Answered by `Welcome`.

| field | type | meaning |
|---|---|---|
| `id` | text | the request's |
| `plans` | list of [`Plan`](#plan) | see the [job file](job-file.md), `a` or `b` |

## Not a struct

| field | type | meaning |
|---|---|---|
| `other` | text | of nothing |
"""


def test_meanings_are_read_by_struct_and_field_without_links() -> None:
    assert read_words(PAGE) == {
        "Hello": {"id": "the request's", "plans": "see the job file, `a` or `b`"}
    }
