"""The worker type `primes`: work for the CPU, one workitem at a time in each process."""

from __future__ import annotations

import os
from typing import Any

from taskqueue.worker import BaseWorker, Reject, Retry, SoftTimeLimitExceeded


class Worker(BaseWorker):
    """Finds the prime factors of a number.

    Keys of its own in config.ini, beside taskqueue's: `largest` (the largest number that it takes) and `max_load`
    (above this load of the host, per CPU, it puts work off; 0 for never).
    """

    def setup(self) -> None:
        """Once in each worker process. What it raises shows in taskqueue's log, and no work is lost meanwhile."""
        self.largest = int(self.settings.get("largest", 10**12))
        self.max_load = float(self.settings.get("max_load", 0))
        if self.largest < 2 or self.max_load < 0:
            raise ValueError(
                f"largest is {self.largest}, max_load is {self.max_load:g}; expected 2 or more, and 0 or more"
            )

    def handle_task(self, body: Any) -> Any:
        """The number as text, JSON or big-endian bytes, or in a workflow's workitem, which then is the result."""
        if self.max_load and os.getloadavg()[0] / (os.cpu_count() or 1) > self.max_load:
            # As often as it takes, unless the group sets max_retries. A worker on another host may get it then.
            raise Retry("the host is busy", delay_s=30)
        number = self._number(body)
        try:
            factors = prime_factors(number)
        except SoftTimeLimitExceeded:
            raise Reject(f"{number} takes longer than soft_time_limit") from None  # again would take as long
        self.log.debug("factored: number=%d factors=%d", number, len(factors))
        if isinstance(body, dict) and "fields" in body:
            body["fields"]["factors"] = factors
            return body
        return {"number": number, "factors": factors}

    def _number(self, body: Any) -> int:
        """The number in `body`. What will never be right, however often it is tried, is rejected."""
        match body:
            case {"fields": {"number": number}} | {"number": number}:
                pass
            case bytes():
                number = int.from_bytes(body, "big")
            case str():
                try:
                    number = int(body)
                except ValueError:
                    raise Reject(f"not a number: {body!r:.80}") from None
            case _:
                number = body
        if not isinstance(number, int) or isinstance(number, bool):
            raise Reject(f"not a number: {number!r:.80}")
        if not 2 <= number <= self.largest:
            raise Reject(f"{number:.6g} is out of range; expected 2 to {self.largest}")
        return number


def prime_factors(number: int) -> list[int]:
    """The prime factors of `number`, smallest first: 360 is 2, 2, 2, 3, 3, 5."""
    found = []
    divisor = 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            found.append(divisor)
            number //= divisor
        divisor += 1 if divisor == 2 else 2
    return [*found, number] if number > 1 else found
