"""The sender's side of one blob: which chunk goes next, and when to ask what arrived. Pure.

A window of chunks may be under way. The sender asks after each half of it, so that the answer
is back, and the next half allowed, while the other half still travels. A question is sent after
the chunks it is about, on the same connection; what its answer still lists of those is lost, and
goes again. An acknowledgement of the broker counts for nothing. Chunks that are repeated in vain
do no harm, and after a cut they are a window at most.
"""

from collections import deque

from wire.transfer import MAX_WINDOW, Ranges, chunk_count, indices

#: A receiver lists its first missing chunks, up to this many windows of them: one may be under
#: way already.
LISTED_WINDOWS = 2


class Upload:
    """One blob on its way to a receiver.

    Args:
        size_bytes: of the blob.

    Attributes:
        sent: chunks, repetitions included.
        under_way: chunks that were sent and that no answer has told about.
    """

    def __init__(self, size_bytes: int) -> None:
        self._count = chunk_count(size_bytes)
        self._under_way: dict[int, int] = {}  # chunk -> the question that follows it
        self._wanted: deque[int] = deque()
        self._window = 0
        self._questions = 0
        self._answered = 0
        self._unasked = 0  # chunks since the last question
        self._all_there = False
        self.sent = 0

    @property
    def under_way(self) -> int:
        return len(self._under_way)

    @property
    def next_chunk(self) -> int | None:
        """The chunk to send now, or None: there is none, or the window is used up."""
        if not self._wanted or len(self._under_way) >= self._window:
            return None
        return self._wanted[0]

    def on_sent(self) -> None:
        """Note that `next_chunk` was sent."""
        self._under_way[self._wanted.popleft()] = self._questions + 1
        self._unasked += 1
        self.sent += 1

    @property
    def must_ask(self) -> bool:
        """Whether it is time for a question: half a window is sent, or no more can be."""
        if self._all_there:
            return self._questions == self._answered
        if self._unasked == 0:
            return False
        return self._unasked >= max(1, self._window // 2) or self.next_chunk is None

    @property
    def stalled(self) -> bool:
        """Whether the receiver allowed nothing and no answer is due: ask again after a while."""
        return self._window == 0 and 0 < self._answered == self._questions

    def ask(self) -> int:
        """Return the number of a question that is sent now; its answer must name it."""
        self._questions += 1
        self._unasked = 0
        self._all_there = False
        return self._questions

    def on_credit(self, question: int, missing: Ranges, window: int) -> None:
        """Take an answer.

        Args:
            question: its number.
            missing: what the receiver lacks, or the first part of it; nothing: it has all.
            window: how many chunks may be under way; 0 makes the sender wait.

        Raises:
            MalformedError: the ranges aren't of this blob.
        """
        listed = indices(missing, self._count, LISTED_WINDOWS * MAX_WINDOW)
        if question < self._answered:
            return  # a later answer knows more
        self._answered = question
        self._window = max(0, min(window, MAX_WINDOW))
        self._under_way = {
            chunk: after for chunk, after in self._under_way.items() if after > question
        }
        self._wanted = deque(chunk for chunk in listed if chunk not in self._under_way)
        self._all_there = not missing
