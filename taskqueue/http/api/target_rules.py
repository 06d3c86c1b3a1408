"""Makes the rules of reading of a front's settings: what `targets` says of URLs and headers, as phrases of faults.

`url_fault("ftp://x/")` is `has the scheme ftp; expected http or https`; `header_faults((("Host", "x"),))` is
`[("Host", "a task may not set it; leave it out")]`. The judge of addresses is handed in: it knows the policy.
"""

from __future__ import annotations

from collections.abc import Callable

from taskqueue.config.http_settings import HttpSettings
from taskqueue.errors import TargetRefused
from taskqueue.http.api.task_fields import ReadingRules
from taskqueue.targets.headers import HEADERS_LIMIT, check_headers
from taskqueue.targets.urls import ParsedUrl, check_url

Judge = Callable[[ParsedUrl], str | None]
"""Why a URL is denied whose host is a literal address, as a phrase; None: it is not."""


def url_fault(url: str) -> str | None:
    """What is wrong with the text of a URL, as a phrase that follows its place; None: nothing."""
    return _url_fault(url, None)


def _url_fault(url: str, judge: Judge | None) -> str | None:
    try:
        parsed = check_url(url)
    except TargetRefused as error:
        return str(error).removeprefix("the URL ")
    return judge(parsed) if judge is not None else None


def header_faults(pairs: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    """Every header of `pairs` that a task may not send, and why; never its value."""
    try:
        check_headers(pairs)
    except TargetRefused:
        pass
    else:
        return []
    found: list[tuple[str, str]] = []
    for pair in pairs:
        try:
            check_headers((pair,))
        except TargetRefused as error:
            found.append((pair[0], _behind_name(str(error))))
    return found or [
        (pairs[-1][0], f"is one too many: all headers together have more than {HEADERS_LIMIT // 1024} KiB")
    ]


def _behind_name(message: str) -> str:
    """What follows the name in `header X: it is wrong`; a name may have a colon, but no space."""
    return message.partition(": ")[2] or message


def reading_rules(settings: HttpSettings, judge: Judge | None = None) -> ReadingRules:
    """The rules of a front with these settings; `judge` denies literal addresses at once."""
    check = url_fault if judge is None else lambda url: _url_fault(url, judge)
    return ReadingRules(check, header_faults, settings.max_task_age_s)
