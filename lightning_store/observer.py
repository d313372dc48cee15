"""What a store tells of itself beside its answers: repeated calls, bytes that it stored, spans that it dropped."""


class StoreObserver:
    """Told by a store of what its callers cannot see; this one does not care.

    Its methods may be called from any thread, must be quick, and must not raise.
    """

    def retried(self, error: Exception) -> None:
        """A call is about to be sent again because of this error, one of ours."""

    def stored_spans(self, spans: int, size: int) -> None:
        """So many spans were stored; size is what they take in the store, in bytes, without what they are found by."""

    def evicted(self, rollouts: int) -> None:
        """This store object dropped the spans of so many rollouts for lack of memory."""


UNOBSERVED = StoreObserver()
"""Observes a store that nobody else does."""
