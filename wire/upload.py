"""The sender's side of one blob: which chunk goes next, and when to ask what arrived. Pure.

A window of chunks may be under way. The sender asks after each half of it, so that the answer
is back, and the next half allowed, while the other half still travels. A question is sent after
the chunks it is about, on the same connection; what its answer still lists of those is lost, and
goes again. A receiver that tells by itself what came, after each half of the window, is asked only
behind the last chunk, or when one seems lost: what it lists by itself may be under way still. An
acknowledgement of the broker counts for nothing. Chunks that are repeated in vain do no harm, and
after a cut they are a window at most.
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
        self._behind = 0  # chunks since the last question
        self._all_there = False
        self._tells = False  # the receiver does, without being asked
        self._gap = False  # a chunk came before one that was sent earlier
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
        self._behind += 1
        self.sent += 1

    @property
    def must_ask(self) -> bool:
        """Whether it is time for a question.

        It is once half a window is sent, or no more can be; where the receiver tells by itself,
        once all is sent, or a chunk seems lost.
        """
        if self._all_there:
            return self._questions == self._answered
        if self._behind == 0:
            return False
        if self._tells:
            return self._gap or not self._wanted
        return self._behind >= max(1, self._window // 2) or self.next_chunk is None

    @property
    def stalled(self) -> bool:
        """Whether the receiver allowed nothing and no answer is due: ask again after a while."""
        return self._window == 0 and 0 < self._answered == self._questions

    @property
    def unasked(self) -> bool:
        """Whether no question is under way about chunks that are."""
        return self._behind > 0 and self._questions == self._answered

    @property
    def waits(self) -> bool:
        """Whether only what the receiver tells by itself can let it go on."""
        return self.unasked and self.next_chunk is None

    def ask(self) -> int:
        """Return the number of a question that is sent now; its answer must name it."""
        self._questions += 1
        self._behind = 0
        self._all_there = self._gap = False
        return self._questions

    def on_credit(
        self, question: int, missing: Ranges, window: int, *, unasked: bool = False
    ) -> None:
        """Take an answer.

        Args:
            question: its number.
            missing: what the receiver lacks, or the first part of it; nothing: it has all.
            window: how many chunks may be under way; 0 makes the sender wait.
            unasked: whether the receiver tells by itself from now on.

        Raises:
            MalformedError: the ranges aren't of this blob.
        """
        listed = indices(missing, self._count, LISTED_WINDOWS * MAX_WINDOW)
        if question < self._answered:
            return  # a later answer knows more
        self._answered = question
        self._tells = unasked
        self._window = max(0, min(window, MAX_WINDOW))
        self._under_way = {
            chunk: after for chunk, after in self._under_way.items() if after > question
        }
        self._wanted = deque(chunk for chunk in listed if chunk not in self._under_way)
        self._all_there = not missing

    def on_unasked(self, missing: Ranges, window: int) -> None:
        """Take what the receiver tells by itself.

        What it lists may be under way still. The others up to the last one listed are there; of
        those behind it, it says nothing.

        Args:
            missing: the first chunks that it lacks.
            window: how many may be under way.

        Raises:
            MalformedError: the ranges aren't of this blob.
        """
        listed = indices(missing, self._count, LISTED_WINDOWS * MAX_WINDOW)
        if not self._tells or not listed:
            return
        lacks, told = set(listed), listed[-1]
        self._window = max(0, min(window, MAX_WINDOW))
        seen = False  # an earlier one, from here on
        left: dict[int, int] = {}
        for chunk, after in reversed(self._under_way.items()):
            if chunk <= told and chunk not in lacks:
                seen = True
                continue
            left[chunk] = after
            self._gap |= seen and after > self._questions  # else a question about it is under way
        self._under_way = dict(reversed(left.items()))
        self._wanted = deque(chunk for chunk in listed if chunk not in left)
