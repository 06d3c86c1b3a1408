"""The catalogue of all problems that the API can tell: a table, and nothing else. Its texts are for people.

`/problems/task-exists` shows the title and the page of the line `task-exists`. A client may hold on to the slug, the
HTTP status and Google's two words, for they never change; the wording may.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One kind of problem. Its URI is `/problems/SLUG` of the front."""

    slug: str
    status: int
    """The HTTP status."""
    google: str
    """The name of a google.rpc.Code, as Google's clients expect it."""
    title: str
    page: str
    """What happened, and what to do: a few plain sentences."""

    @property
    def reason(self) -> str:
        """Google's ErrorInfo reason: `TASK_EXISTS`."""
        return self.slug.replace("-", "_").upper()


_TABLE: tuple[tuple[str, int, str, str, str], ...] = (
    # --- the request cannot be read
    ("validation", 422, "INVALID_ARGUMENT", "The request has faults",
     "The request was read, but some of what it says is wrong. `errors` lists every fault with the place where it is "
     "(a JSON pointer, a field or a header). Mend them all and send the request again; nothing was stored."),
    ("malformed-request", 400, "INVALID_ARGUMENT", "The request cannot be read",
     "A part of the request that comes before its body (the path, the query or a header) is not well formed. `errors` "
     "or `detail` names it. Nothing was stored."),
    ("malformed-json", 400, "INVALID_ARGUMENT", "The body is not JSON",
     "The body must be one JSON text in UTF-8, without duplicate keys, NaN or Infinity, at most 64 levels deep. "
     "`detail` names the line and the column. Check the quoting of your shell first: single quotes around the JSON."),
    ("unsupported-media-type", 415, "INVALID_ARGUMENT", "This content type is not taken here",
     "Send `Content-Type: application/json` in UTF-8, or no content type at all; `detail` says what was sent. To "
     "enqueue a body of any other type as it is, use `POST /v1/queues/QUEUE/tasks?url=URL`."),
    ("too-large", 413, "INVALID_ARGUMENT", "The request is too large",
     "The body is larger than `[http] max_body` (1 MiB unless set), or a batch has more than 1,000 tasks or 16 MiB. "
     "Store large data elsewhere and send its URL, or ask the operator for a larger `max_body`."),
    ("uri-too-long", 414, "INVALID_ARGUMENT", "The URL is too long",
     "The request line may have 8 KiB. Put the task into a JSON body instead of the query."),
    ("headers-too-large", 431, "INVALID_ARGUMENT", "The headers are too large",
     "All header lines together may have 64 KiB. Send less; cookies are not needed here."),
    ("too-slow", 408, "CANCELLED", "The body came too slowly",
     "The body was not there within 30 seconds, and nothing was stored. Send it again, at once."),
    ("length-required", 411, "INVALID_ARGUMENT", "The length of the body is missing",
     "Send `Content-Length`, or `Transfer-Encoding: chunked`, but never both."),
    ("not-acceptable", 406, "INVALID_ARGUMENT", "The answer has no such type",
     "The `Accept` header allows none of the types that this address answers. Leave the header out, or allow `*/*`."),
    # --- nothing is there
    ("unknown-route", 404, "NOT_FOUND", "There is nothing at this address",
     "No route has this path. `/openapi.json` lists them all. A queue takes tasks at `POST /v1/queues/QUEUE/tasks`."),
    ("method-not-allowed", 405, "UNIMPLEMENTED", "The method is not allowed here",
     "The path exists, but not for this method. The header `Allow` names those that it has."),
    ("unknown-queue", 404, "NOT_FOUND", "There is no such queue",
     "Make the queue with `PUT /v1/queues/QUEUE`, or with a section `[http_QUEUE]` in config.ini. `GET /v1/queues` "
     "lists those that exist. Names are case-sensitive."),
    ("unknown-task", 404, "NOT_FOUND", "There is no such task",
     "No task has this id. It may have ended and been pruned: tasks that succeeded stay for `[http] keep_finished`, "
     "dead ones for `keep_dead`."),
    ("unknown-schedule", 404, "NOT_FOUND", "There is no such schedule",
     "`GET /v1/schedules` lists those that exist."),
    ("unknown-origin", 404, "NOT_FOUND", "There is no such origin",
     "No task was sent to this scheme, host and port of late. `GET /v1/origins` lists those that are known."),
    ("unknown-problem", 404, "NOT_FOUND", "There is no such problem",
     "The catalogue has no problem of this name. `GET /problems` lists them all."),
    # --- the state forbids it
    ("task-exists", 409, "ALREADY_EXISTS", "A task of this name exists",
     "A name is unique in its queue while its task lives and for `[http] name_ttl` (1 h) after its end. `Location` "
     "points at the task that has it. If this is a retry, the first request succeeded: there is nothing to do."),
    ("task-ended", 409, "FAILED_PRECONDITION", "The task has ended",
     "A task that has ended can't be cancelled or run. `POST /v1/tasks/ID:retry` makes it ready again; `:duplicate` "
     "makes a new one like it."),
    ("task-running", 409, "FAILED_PRECONDITION", "The task is running",
     "An attempt of the task is under way. Wait for it (`GET /v1/tasks/ID` with `Prefer: wait=60`), then try again."),
    ("task-not-ended", 409, "FAILED_PRECONDITION", "The task has not ended",
     "Only a task that has ended can be retried. `POST /v1/tasks/ID:run` starts one that waits."),
    ("body-dropped", 409, "FAILED_PRECONDITION", "The task's body is gone",
     "The body of a task is dropped `[http] keep_body` after its end, or at once where it is larger than "
     "`keep_body_size`. Without it the task can't be sent again: enqueue it anew."),
    ("queue-exists", 409, "ALREADY_EXISTS", "A queue of this name exists",
     "`PUT /v1/queues/QUEUE` replaces its rules, `PATCH` changes some of them."),
    ("queue-in-config", 409, "FAILED_PRECONDITION", "The queue belongs to config.ini",
     "A section or `queues` of config.ini defines this queue, so the API can pause, resume and purge it, but neither "
     "change nor delete it. Edit the file and reload the front."),
    ("queue-not-empty", 409, "FAILED_PRECONDITION", "The queue is not empty",
     "Tasks of this queue still wait or run. Purge it first (`POST /v1/queues/QUEUE:purge`), or let them end."),
    ("queue-permanent", 409, "FAILED_PRECONDITION", "The queue can't be deleted",
     "The queue `default` always exists. It may be changed, paused and purged."),
    ("too-many-queues", 409, "RESOURCE_EXHAUSTED", "There are too many queues",
     "A book holds at most 1,000 queues. Delete some, or tell tasks apart by `tags` instead of queues."),
    ("schedule-exists", 409, "ALREADY_EXISTS", "A schedule of this name exists",
     "`PUT /v1/schedules/ID` replaces it, `PATCH` changes some of it."),
    ("schedule-in-config", 409, "FAILED_PRECONDITION", "The schedule belongs to config.ini",
     "A section of config.ini defines this schedule, so the API can run, pause and resume it, but neither change nor "
     "delete it. Edit the file and reload the front."),
    ("expired", 409, "FAILED_PRECONDITION", "The task has expired",
     "The time after which the task should not begin any more is over."),
    # --- the same request again
    ("idempotency-key-reused", 422, "INVALID_ARGUMENT", "The idempotency key belongs to another request",
     "A key stands for one request for `[http] idempotency_ttl` (24 h): the same method, path, query and body. Make a "
     "new key for each new task, and use the old one only to send the very same request again."),
    ("idempotency-key-in-flight", 409, "ABORTED", "A request with this idempotency key is under way",
     "The first request with this key has not been answered yet. Send this one again after `Retry-After`."),
    # --- who asks
    ("unauthorized", 401, "UNAUTHENTICATED", "A token is needed",
     "Send `Authorization: Bearer TOKEN`. An operator makes tokens with `taskqueue http token add NAME --scope SCOPE`; "
     "one that was revoked or has expired is not taken."),
    ("forbidden", 403, "PERMISSION_DENIED", "The token may not do this",
     "The token is good, but lacks the scope that `detail` names. Scopes are `enqueue`, `enqueue:QUEUE`, `read` and "
     "`manage`."),
    ("exposed-without-tokens", 403, "PERMISSION_DENIED", "The front is exposed, but has no tokens",
     "The request came by way of a proxy or to an address that strangers reach, and the front has no tokens to tell "
     "friends from strangers. Make one: `taskqueue http token add NAME --scope manage`."),
    ("forbidden-origin", 403, "PERMISSION_DENIED", "A web page may not do this",
     "A browser sent this request for a page of another site, or to a host name that is not this front's. Without "
     "tokens the front takes only what comes from its own host. Programs: leave out `Origin` and `Sec-Fetch-Site`."),
    ("target-denied", 422, "INVALID_ARGUMENT", "The target is not allowed",
     "The URL leads to an address that this front does not send to. `detail` names the rule and the key of config.ini "
     "that opens it (`[webhook] targets_allow`, `[http] targets`)."),
    # --- the front can't
    ("too-many-requests", 429, "RESOURCE_EXHAUSTED", "Too many requests",
     "The limit that `detail` names is used up. Wait for `Retry-After` seconds and send the request again."),
    ("overloaded", 503, "UNAVAILABLE", "The front is overloaded",
     "The front has more requests under way than it can hold. Nothing was stored. Send the request again after "
     "`Retry-After`."),
    ("stopping", 503, "UNAVAILABLE", "The front is stopping",
     "The front takes no new requests, for it ends or restarts. Nothing was stored. Send the request again."),
    ("book-unavailable", 503, "UNAVAILABLE", "The book is not available",
     "The database, or its disk, does not take writes. Nothing was stored. Send the request again after `Retry-After`; "
     "the operator sees the cause in the front's log and with `taskqueue doctor`."),
    ("unknown-outcome", 503, "UNAVAILABLE", "Whether it was stored is not known",
     "The connection to the database broke while the request was committed. Send it again with the same "
     "`Idempotency-Key` or task name: the task is then stored once."),
    ("search-timeout", 503, "DEADLINE_EXCEEDED", "The search took too long",
     "A search of texts ends after a second. Narrow it by `queue`, `state`, `since` and `until`."),
    ("not-implemented", 501, "UNIMPLEMENTED", "This is not implemented",
     "Taskqueue knows this method of Google's API, but does not have it; `detail` says what to use instead."),
    ("internal", 500, "INTERNAL", "The front has a defect",
     "Something went wrong inside the front. Its log has the details under the time of this answer. Whether the "
     "request was stored is not known: send it again with the same `Idempotency-Key`."),
)  # fmt: skip

PROBLEM_TYPES: Mapping[str, ProblemType] = {each[0]: ProblemType(*each) for each in _TABLE}
"""All problems by their slug, in the order of the table."""
