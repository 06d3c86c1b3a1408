"""The kinds of value of the HTTP half: what each takes, and the line for each bad one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import EXAMPLES, faults, faults_whatever_is_installed, load_text
from taskqueue.config import book_url
from taskqueue.config.http_settings import HttpSettings, QueueSettings, ScheduleSettings
from taskqueue.config.http_values import RESERVED_QUEUES
from taskqueue.http.book.queue_rows import settings_from, settings_json

LIST = "a list; expected one value, in quotes where it has a comma in it"
RATE = "expected a rate such as 10/s, 600/m or 5000/h, from 1/d to 100000/s, or none"
LISTEN = "expected host:port, [IPv6 address]:port or unix:/path, or a list of them"
BOOK = "expected sqlite:/path/of/a/file, or postgresql://user:password@host/database"
QUEUE = "expected letters, digits, '_', '.' and '-', the first a letter or digit, at most 100"
NETWORK = "expected an address, or a network such as 10.0.0.0/8 or fd00::/8, or a list of them"
ATTEMPTS = "expected a whole number from 1 to 1000000, unlimited, or none for the default"
STATUSES = "expected HTTP statuses from 300 to 599, such as 404, 410"
BASE_PATH = "expected a path such as /tasks, without a slash at its end"
URL = "expected http://host/path or https://host/path"
CRON = (
    "expected five fields such as 0 3 * * *, or one of "
    "@yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly"
)


def http(line: str) -> HttpSettings:
    return load_text(f"[http]\n{line}\n").http


def queue(line: str) -> QueueSettings:
    (found,) = load_text(f"[http_q]\n{line}\n").http.queues
    return found


def schedule(*lines: str) -> ScheduleSettings:
    (found,) = load_text("\n".join(["[schedule_s]", *lines]) + "\n").http.schedules
    return found


@pytest.mark.parametrize(
    ("text", "per_second"),
    [
        ("10/s", 10.0), ("600/m", 10.0), ("3600/h", 1.0), ("0.5/s", 0.5), ("1/d", 1 / 86400), ("100000/s", 1e5),
        ("10 / s", 10.0), ("none", None), ("", None),
    ],
)  # fmt: skip
def test_rates(text: str, per_second: float | None) -> None:
    assert queue(f"rate_limit: {text}").rate_limit == per_second


@pytest.mark.parametrize(
    ("text", "listen"),
    [
        ("127.0.0.1:80", ("127.0.0.1:80",)),
        ("[::1]:8088, unix:/run/x.sock", ("[::1]:8088", "unix:/run/x.sock")),
        ("localhost:1, front.example:65535", ("localhost:1", "front.example:65535")),
        (f"unix:/{'p' * 106}", (f"unix:/{'p' * 106}",)),
    ],
)
def test_addresses_to_listen_on(text: str, listen: tuple[str, ...]) -> None:
    assert http(f"listen: {text}").listen == listen


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:/var/lib/taskqueue/http.db",
        "postgresql://me:s3cret@db.example:5432/taskqueue",
        "postgres://db/taskqueue?sslmode=require",
        "postgresql:///taskqueue?host=/run/postgresql",
        "postgresql://me@one:5432,two:5433/taskqueue",
    ],
)
def test_books(text: str) -> None:
    assert http(f"book: {text}\nprocesses: 1").book == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sqlite:/a@b:c", "sqlite:/a@b:c"),
        ("postgresql://me:s3cret@db:5432/t", "postgresql://me:…@db:5432/t"),
        ("postgresql://me@db/t", "postgresql://me@db/t"),
        ("postgresql://db/t?user=me&PassWord=s3cret&x=1", "postgresql://db/t?user=me&PassWord=…&x=1"),
        ("postgresql://me:a:b%40@one,two:5/t", "postgresql://me:…@one,two:5/t"),
    ],
)
def test_a_book_is_shown_without_its_password(text: str, shown: str) -> None:
    assert book_url.shown(text) == shown


PASSWORDS = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=4, max_size=12).map("s3cret{}".format)


@settings(max_examples=EXAMPLES)
@given(password=PASSWORDS, end=st.sampled_from(["@db/taskqueue", "@db", "@/taskqueue?a=b", "@[::1]/x", "@[/x", ""]))
def test_no_password_of_a_book_is_shown_or_in_a_message(password: str, end: str) -> None:
    url = f"postgresql://me:{password}{end}"
    try:
        assert "s3cret" not in book_url.shown(book_url.parse(url))
    except book_url.BadValue as error:
        assert "s3cret" not in str(error)


@pytest.mark.parametrize(("text", "count"), [("1", 1), ("256", 256), ("auto", None), ("AUTO", None)])
def test_processes(text: str, count: int | None) -> None:
    assert http(f"processes: {text}\nbook: postgres://h/d").processes == count


@pytest.mark.parametrize(
    ("text", "count"), [("1", 1), ("unlimited", -1), ("Unlimited", -1), ("-1", -1), ("none", None)]
)
def test_attempts(text: str, count: int | None) -> None:
    assert queue(f"max_attempts: {text}").retry.max_attempts == count


@pytest.mark.parametrize(
    ("text", "found"), [("410", (410,)), ("404, 410, 404", (404, 410)), ("none", ()), ("", ()), ("599", (599,))]
)
def test_statuses(text: str, found: tuple[int, ...]) -> None:
    assert queue(f"permanent_statuses: {text}").permanent_statuses == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("X-Env: prod", {"X-Env": "prod"}),
        ("X-Env: prod, X-Team:blue", {"X-Env": "prod", "X-Team": "blue"}),
        ('"X-Teams: a, b", X-Url: http://h:1/', {"X-Teams": "a, b", "X-Url": "http://h:1/"}),
        ("X-Empty:", {"X-Empty": ""}),
        ("none", {}),
    ],
)
def test_headers(text: str, found: dict[str, str]) -> None:
    assert queue(f"headers: {text}").headers == found


@pytest.mark.parametrize(
    "text", ["https://mail.example/hooks/", "http://[::1]:8/a,b?c=d", "http://10.0.0.1", "report", "none"]
)
def test_targets_of_a_queue(text: str) -> None:
    assert queue(f"target: {text}").target == (None if text == "none" else text)


@pytest.mark.parametrize(
    ("text", "found"),
    [("none", ()), ("10.0.0.0/8, ::1", ("10.0.0.0/8", "::1")), ("fd00::/8", ("fd00::/8",)), ("", ())],
)
def test_networks(text: str, found: tuple[str, ...]) -> None:
    assert http(f"trusted_proxies: {text}").trusted_proxies == found


@pytest.mark.parametrize(("text", "path"), [("/a/b-c", "/a/b-c"), ("/", ""), ("none", ""), ("", "")])
def test_base_paths(text: str, path: str) -> None:
    assert http(f"base_path: {text}").base_path == path


@pytest.mark.parametrize(
    ("text", "cron"),
    [
        ("0 3 * * *", "0 3 * * *"),
        ("0,30 3 * * *", "0,30 3 * * *"),
        ("*/5 0-6,22 L jan MON#2", "*/5 0-6,22 L jan MON#2"),
        ("0,15,30 * 1,15 *  sun ; a comment", "0,15,30 * 1,15 * sun"),
        ("@Daily", "@daily"),
    ],
)
def test_cron_is_text_and_no_list(text: str, cron: str) -> None:
    assert schedule(f"cron: {text}", "worker_type: w").cron == cron


def test_all_of_a_schedule() -> None:
    found = schedule(
        "every: 6h", "timezone: Europe/Berlin", "queue: reports", "url: https://h/p?a", "method: put",
        "headers: X-A: b", """json: '{"a": 1, "b": [2]}'""", "catch_up: all", "overlap: skip", "jitter: 30",
    )  # fmt: skip
    assert found == ScheduleSettings(
        "s", None, 21600.0, "Europe/Berlin", "reports", "https://h/p?a", "PUT", {"X-A": "b"}, None,
        '{"a": 1, "b": [2]}', None, "all", "skip", 30.0,
    )  # fmt: skip
    assert schedule("every: 1s", "worker_type: w", 'body: "a,b"').body == "a,b"


@pytest.mark.parametrize(
    ("section", "line", "expected"),
    [
        ("http_q", "rate_limit: fast", f"'fast' is wrong; {RATE}"),
        ("http_q", "rate_limit: 10", f"'10' is wrong; {RATE}"),
        ("http_q", "rate_limit: 0/s", f"'0/s' is wrong; {RATE}"),
        ("http_q", "rate_limit: 100001/s", f"'100001/s' is wrong; {RATE}"),
        ("http_q", "rate_limit: 1/s, 2/m", LIST),
        ("http", "listen: 8088", f"'8088' is wrong; {LISTEN}"),
        ("http", "listen: ::1:8088", f"'::1:8088' is wrong; {LISTEN}"),
        ("http", "listen: [::1::]:8088", f"'[::1::]:8088' is wrong; {LISTEN}"),
        ("http", "listen: h:0", f"'h:0' is wrong; {LISTEN}"),
        ("http", "listen: h:1, h:65536", f"'h:65536' is wrong; {LISTEN}"),
        ("http", "listen: 300.0.0.1:80", f"'300.0.0.1:80' is wrong; {LISTEN}"),
        ("http", "listen: unix:relative", f"'unix:relative' is wrong; {LISTEN}"),
        ("http", "listen: unix:/run/", f"'unix:/run/' is wrong; {LISTEN}"),
        ("http", "listen: h:1, h:1", "names 'h:1' more than once; expected each address once"),
        ("http", "listen: ,", f"nothing; {LISTEN}"),
        ("http", "listen:", f"'' is wrong; {LISTEN}"),
        ("http", "book: mysql://u:s3cret@h/d", f"neither kind of book; {BOOK}"),
        ("http", "book:", f"neither kind of book; {BOOK}"),
        ("http", "book: postgresql://[", f"no URL; {BOOK}"),
        ("http", "book: postgresql://u:s3cret@h", f"no database; {BOOK}"),
        ("http", "book: sqlite:http.db", f"sqlite: without the absolute path of a file; {BOOK}"),
        ("http", "book: sqlite:/var/", f"sqlite: without the absolute path of a file; {BOOK}"),
        (
            "http",
            "book: postgresql://u:s3/cret@h/d",
            f"a character of the password ends it; {BOOK}, with / ? # @ as %2F %3F %23 %40",
        ),
        ("http", "processes: 0", "'0' is wrong; expected a whole number from 1 to 256, or auto"),
        ("http", "processes: 257", "'257' is wrong; expected a whole number from 1 to 256, or auto"),
        ("http", "queues: a, -b", f"'-b' is no name of a queue; {QUEUE}"),
        ("http", f"queues: {'q' * 101}", f"'{'q' * 60}' is no name of a queue; {QUEUE}"),
        ("http", "targets: publik", "'publik' is wrong; expected one of auto, public, private, any; "
                                    "did you mean 'public'?"),
        ("http", "trusted_proxies: 10.0.0.1/8", f"'10.0.0.1/8' is wrong; {NETWORK}"),
        ("http", "trusted_proxies: ::1, proxy.example", f"'proxy.example' is wrong; {NETWORK}"),
        ("http", "base_path: tasks", f"'tasks' is wrong; {BASE_PATH}"),
        ("http", "base_path: /tasks/", f"'/tasks/' is wrong; {BASE_PATH}"),
        ("http", "base_path: /a/../b", f"'/a/../b' is wrong; {BASE_PATH}"),
        ("http", "base_path: /a?b", f"'/a?b' is wrong; {BASE_PATH}"),
        ("http", "max_body: 17M", "'17M' is wrong; expected a size such as 65536, 512k, 16M or 1 GiB, from 1k to 16M"),
        ("http_q", "max_attempts: 0", f"'0' is wrong; {ATTEMPTS}"),
        ("http_q", "max_attempts: unlimitd", f"'unlimitd' is wrong; {ATTEMPTS}; did you mean 'unlimited'?"),
        ("http_q", "permanent_statuses: 200", f"'200' is wrong; {STATUSES}"),
        ("http_q", "permanent_statuses: 404, gone", f"'gone' is wrong; {STATUSES}"),
        ("http_q", "headers: X-A: s3cret, s3cret", "header 2 is wrong; expected 'Name: value', or a list of them"),
        ("http_q", "headers: : s3cret", "header 1 is wrong; expected 'Name: value', or a list of them"),
        ("http_q", "headers: X-A: s3cret, x-a: 2", "names the header 'x-a' more than once; expected each name once"),
        ("http_q", "headers: Host: s3cret", "header Host: a task may not set it; leave it out"),
        ("http_q", "headers: X A: s3cret",
         "header 'X A': no header name; expected letters, digits and !#$%&'*+-.^_`|~"),
        ("http_q", "headers: X-A: s3\x07cret",
         "header X-A: its value has control characters, as a line break is one"),
        ("http_q", "target: ftp://u:s3cret@h/", f"the URL has the scheme ftp; expected http or https; {URL}"),
        ("http_q", "target: https://u:s3cret@h/",
         "the URL has a user name or password before its host; send a header Authorization instead; " + URL),
        ("http_q", "target: http://h/#x", "the URL has a fragment, which no request has; expected it without '#'"),
        ("http_q", "target: /path", "'/path' is wrong; expected http://… or https://…, or a worker type"),
        ("http_q", "target: webhook",
         "the worker type 'webhook' is for URLs; expected a URL, or another worker type"),
        ("http_q", "follow_redirects: 4", "'4' is wrong; expected a whole number from 0 to 3"),
        ("http_q", "sign: perhaps", "'perhaps' is wrong; expected yes or no"),
    ],
)  # fmt: skip
def test_a_bad_value(section: str, line: str, expected: str) -> None:
    (fault,) = faults_whatever_is_installed(f"[{section}]\n{line}\n")
    assert fault == f"config.ini:2: [{section}] {line.partition(':')[0]}: {expected}"
    assert "s3cret" not in fault


@pytest.mark.parametrize("name", sorted(RESERVED_QUEUES - {".well-known"}))
def test_a_queue_with_a_name_of_the_apis(name: str) -> None:
    wrong = f"the name {name!r} is one that the API keeps for itself; expected another name"
    assert faults(f"[http]\nqueues: {name}\n") == [f"config.ini:2: [http] queues: {wrong}"]
    assert faults(f"[http_{name}]\n") == [f"config.ini:1: [http_{name}]: {wrong}"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cron: 0 3 * *", f"'0 3 * *' is wrong; {CRON}"),
        ("cron: 0,30 3 * * ?!", f"'0,30 3 * * ?!' is wrong; {CRON}"),
        ("cron: @dayly", f"'@dayly' is wrong; {CRON}; did you mean '@daily'?"),
        ("timezone: Europe/Berln", "'Europe/Berln' is wrong; expected a time zone such as UTC or Europe/Berlin; "
                                   "did you mean 'Europe/Berlin'?"),
        ("timezone: ../etc", "'../etc' is wrong; expected a time zone such as UTC or Europe/Berlin"),
        ("queue: a, b", LIST),
        ("queue: v1", "the name 'v1' is one that the API keeps for itself; expected another name"),
        ("url: a b",
         "'a b' is wrong; expected http://… or https://…, or, for a queue with a target, the path behind it"),
        ("url: http:///p", f"the URL has no host; {URL}"),
        ("method: GTE", "'GTE' is wrong; expected one of POST, GET, HEAD, PUT, DELETE, PATCH, OPTIONS; "
                        "did you mean 'GET'?"),
        ("worker_type: http://h/", "'http://h/' is wrong; expected a worker type of letters, digits, '_', '.' and '-', "
                                   "the first a letter or digit, at most 201"),
        ("worker_type: webhook", "the worker type 'webhook' is for URLs; expected a URL, or another worker type"),
        ("json: {s3cret}", "no JSON: Expecting property name enclosed in double quotes at character 2; "
                           "expected JSON in single quotes"),
        ("json: " + "[" * 100_000, "no JSON that can be read; expected JSON in single quotes"),
        ("body: a, b", LIST),
        ("every: 500ms", "'500ms' is wrong; expected a duration such as 30, 1.5s, 5m, 2h or 7d, from 1s to 366d"),
        ("catch_up: last", "'last' is wrong; expected one of latest, all, none; did you mean 'latest'?"),
        ("overlap: no", "'no' is wrong; expected one of allow, skip"),
    ],
)  # fmt: skip
def test_a_bad_value_of_a_schedule_is_one_fault(line: str, expected: str) -> None:
    rest = {"cron: @daily", "url: http://h/"}
    key = line.partition(":")[0]
    if key in {"cron", "every"}:
        rest.discard("cron: @daily")
    if key in {"url", "worker_type"}:
        rest.discard("url: http://h/")
    (fault,) = faults_whatever_is_installed("\n".join(["[schedule_s]", line, *sorted(rest)]) + "\n")
    assert fault == f"config.ini:2: [schedule_s] {key}: {expected}"


@pytest.mark.parametrize(
    ("section", "line", "near"),
    [("http", "lisen: h:1", "listen"), ("http_q", "ratelimit: 1/s", "rate_limit"), ("schedule_s", "crom: x", "cron")],
)
def test_an_unknown_key(section: str, line: str, near: str) -> None:
    fault = faults(f"[{section}]\n{line}\n")[-1]
    assert fault.startswith(f"config.ini:2: [{section}] {line.partition(':')[0]}: unknown key; expected one of ")
    assert fault.endswith(f"; did you mean {near!r}?")


@settings(max_examples=EXAMPLES)
@given(
    kind=st.sampled_from(["http", "http_q", "schedule_s", "webhook"]),
    key=st.sampled_from(
        ["listen", "book", "trusted_proxies", "base_path", "rate_limit", "target", "headers", "cron", "timezone", "url",
         "json", "permanent_statuses", "targets", "targets_allow", "targets_deny", "secrets", "queue", "queues"]
    ),
    value=st.text(st.characters(exclude_characters="\n", exclude_categories=("Cs",)), max_size=30)
    | st.lists(st.sampled_from(["http://", "postgresql://", "sqlite:/", *"[]:@/*%é9", "0x"])).map("".join),
)  # fmt: skip
def test_any_value_is_taken_or_a_fault_in_one_line(kind: str, key: str, value: str) -> None:
    for fault in faults(f"[{kind}]\n{key}: {value}\n", installed=("webhook",)):
        assert fault.startswith("config.ini:") and "\n" not in fault


def test_headers_are_a_dict_that_can_be_copied_and_written_to_the_book() -> None:
    for text in ("[http_x]\n", "[http_x]\nheaders: X-A: 1\n"):
        (queue,) = load_text(text).http.queues
        assert type(queue.headers) is dict
        assert settings_from(settings_json(queue)) == queue
