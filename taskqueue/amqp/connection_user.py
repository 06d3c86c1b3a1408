"""The base class of all that works on a connection: consumers, publishers, declarers. It must never hold state."""

from __future__ import annotations


class ConnectionUser:
    """Called by its connection when that comes and goes, and three times in every turn of the loop.

    The three are called for all users one after the other: `outcomes` of all, then `deliver` of all, then `flush` of
    all. A user overrides what it needs.
    """

    def up(self) -> None:
        """The connection is open. All that was known of the last one is void."""

    def down(self) -> None:
        """The connection is lost, with all channels on it."""

    def outcomes(self) -> None:
        """Report what became of messages that were published.

        Where a callback raises, the next call goes on behind it: no other outcome is lost.
        """

    def deliver(self) -> None:
        """Hand over the deliveries that have arrived."""

    def flush(self) -> None:
        """Send what this turn has gathered, such as acks."""
