"""The rules between the keys of the HTTP half, the settings that come of them, and who can reach a front."""

from __future__ import annotations

import pytest

from configs import faults_whatever_is_installed, load_text
from taskqueue.config.http_settings import HttpSettings, QueueSettings, RetrySettings

LATER = "is checked, and not run: fronts of this version have no scheduler yet"
NAME = "expected letters, digits, '_', '.' and '-', the first a letter or digit, at most 100"


def test_no_section_gives_the_defaults_of_the_design() -> None:
    assert load_text("").http == HttpSettings()
    assert load_text("[http]\n").http == HttpSettings()
    assert load_text("[http_q]\n").http == HttpSettings(queues=(QueueSettings("q"),))


def test_queues_of_a_list_and_of_sections() -> None:
    text = """\
    [http]
    queues: emails, reports, default
    [http_emails]
    rate_limit: 600/m
    burst: 20
    concurrency: 50
    timeout: 5m
    target: https://mail.example/hooks/
    permanent_statuses: 404, 410
    follow_redirects: 2
    sign: yes
    headers: X-Env: prod
    max_attempts: 5
    max_age: 1d
    min_backoff: 10s
    max_backoff: 5m
    max_doublings: 3
    [http_alone]
    """
    emails = QueueSettings(
        "emails", 10.0, 20, 50, 300.0, "https://mail.example/hooks/", (404, 410), 2, True, {"X-Env": "prod"},
        RetrySettings(5, 86400.0, 10.0, 300.0, 3),
    )  # fmt: skip
    found = load_text(text).http.queues
    assert found == (QueueSettings("alone"), QueueSettings("default"), emails, QueueSettings("reports"))


def test_all_other_keys_of_the_front() -> None:
    text = """\
    [http]
    listen: [::1]:80, unix:/run/x
    book: postgresql://h/d
    processes: 3
    max_body: 2M
    idempotency_ttl: 1h
    name_ttl: 0
    keep_finished: 1d
    keep_dead: 2d
    keep_body: 3d
    keep_body_size: 1k
    keep_response: 0
    max_task_age: 7d
    tls_cert: /c
    tls_key: /k
    client_ca: /a
    trusted_proxies: 10.0.0.0/8
    base_path: /t
    targets: private
    """
    assert load_text(text).http == HttpSettings(
        ("[::1]:80", "unix:/run/x"), "postgresql://h/d", 3, 2 << 20, 3600.0, 0.0, 86400.0, 172800.0, 259200.0, 1024, 0,
        604800.0, "/c", "/k", "/a", ("10.0.0.0/8",), "/t", "private",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[http]\ntls_cert: /c\n", "2: [http] tls_cert: given without tls_key; expected both or none"),
        ("[http]\ntls_key: /k\ntls_cert: none\n", "2: [http] tls_key: given without tls_cert; expected both or none"),
        ("[http]\nclient_ca: /a\n", "2: [http] client_ca: given without tls_cert and tls_key; expected all three"),
        *(
            (
                f"[http]\nprocesses: {count}\n",
                "2: [http] processes: more than one process cannot share an SQLite book; "
                "expected 1, or a book in PostgreSQL",
            )
            for count in ("2", "auto")
        ),
        (
            "[http_q]\nmin_backoff: 2h\n",
            "2: [http_q] min_backoff: min_backoff is 7200 s, max_backoff 3600 s; expected it to be no more",
        ),
        (
            "[http_q]\nmax_backoff: 0\n",
            "2: [http_q] max_backoff: min_backoff is 0.1 s, max_backoff 0 s; expected it to be no more",
        ),
        ("[http_]\n", f"1: [http_]: '' is no name of a queue; {NAME}"),
        ("[http__q]\n", f"1: [http__q]: '_q' is no name of a queue; {NAME}"),
        ("[schedule_]\ncron: @daily\nworker_type: w\n", f"1: [schedule_]: '' is no name of a schedule; {NAME}"),
        ("[schedule_s]\nworker_type: w\n", "1: [schedule_s]: neither cron nor every; expected one of them"),
        (
            "[schedule_s]\nworker_type: w\nevery: 1h\ncron: @daily\n",
            "3: [schedule_s] every: given beside cron; expected one of them",
        ),
        (
            "[schedule_s]\nevery: 1h\nurl: http://h/\nworker_type: w\n",
            "4: [schedule_s] worker_type: given beside url; expected one of them",
        ),
        (
            "[schedule_s]\nevery: 1h\nurl: http://h/\nbody: a\njson: 1\n",
            "5: [schedule_s] json: given beside body; expected one of them",
        ),
        (
            "[schedule_s]\nevery: 1h\nmethod: GET\nworker_type: w\n",
            "3: [schedule_s] method: given beside worker_type; expected one of them",
        ),
        (
            "[schedule_s]\nevery: 1h\n",
            "1: [schedule_s]: neither url nor worker_type, and queue 'default' has no target; expected one of them",
        ),
        (
            "[http_q]\n[schedule_s]\nevery: 1h\nqueue: q\nurl: path\n",
            "5: [schedule_s] url: queue 'q' has no target to join it to; expected http://… or https://…",
        ),
        (
            "[http_q]\ntarget: http://h/\n[schedule_s]\nevery: 1h\nqueue: q\nurl: http://h/path\n",
            "6: [schedule_s] url: an absolute URL, and queue 'q' has a target; expected what is joined to that",
        ),
    ],
)
def test_a_fault_between_keys(text: str, expected: str) -> None:
    assert faults_whatever_is_installed(text) == [f"config.ini:{expected}"]


@pytest.mark.parametrize(
    "text",
    [
        "[http]\ntls_cert: /c\ntls_key: /a, /b\n",
        "[http]\nprocesses: 2\nbook: x\n",
        "[http_q]\nmin_backoff: 2h\nmax_backoff: x\n",
        "[schedule_s]\ncron: x\nurl: http://h/\n",
        "[schedule_s]\nevery: 1h\nurl: http://\n",
        "[schedule_s]\nevery: 1h\nqueue: -\n",
        "[http_q]\ntarget: ftp://h\n[schedule_s]\nevery: 1h\nqueue: q\nurl: path\n",
    ],
)
def test_a_wrong_value_is_not_a_second_fault(text: str) -> None:
    assert len(faults_whatever_is_installed(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "[http]\ntls_cert: /c\ntls_key: /k\nclient_ca: /a\n",
        "[http]\nprocesses: auto\nbook: postgres://h/d\n",
        "[http_q]\nmin_backoff: 1h\n",
        "[http_q]\ntarget: http://h/\n[schedule_s]\nevery: 1h\nqueue: q\nurl: path\n",
        "[http_q]\ntarget: report\n[schedule_s]\nevery: 1h\nqueue: q\n",
        "[schedule_s]\nevery: 1h\nqueue: of-the-api\nurl: path\n",
    ],
)
def test_no_fault(text: str) -> None:
    assert faults_whatever_is_installed(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "[http]\nqueues: {many}\n[http_one_more]\n",
        "[http]\nqueues: {many}, one_more\n",
    ],
)
def test_too_many_queues(text: str) -> None:
    given = text.format(many=", ".join(f"q{number}" for number in range(1000)))
    assert faults_whatever_is_installed(given) == ["config.ini:1: [http]: there are 1001 queues; expected at most 1000"]
    assert len(load_text(given.replace("one_more", "q1")).http.queues) == 1000


def test_too_many_sections_of_queues() -> None:
    given = "".join(f"[http_q{number}]\n" for number in range(1001))
    assert faults_whatever_is_installed(given) == [
        "config.ini:1: [http_q0]: there are 1001 queues; expected at most 1000"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[http_q]\nburst: 5\n", ["2: [http_q] burst: without rate_limit it has no effect"]),
        ("[http_q]\nburst: 5\nrate_limit: none\n", ["2: [http_q] burst: without rate_limit it has no effect"]),
        ("[http_q]\nburst: 5\nrate_limit: 1/s\n", []),
        ("[http_q]\nburst: 100\n", []),
        ("[schedule_s]\ncron: @daily\nworker_type: w\n", [f"1: [schedule_s]: {LATER}"]),
    ],
)
def test_warnings(text: str, expected: list[str]) -> None:
    assert list(load_text(text).warnings) == [f"config.ini:{line}" for line in expected]


@pytest.mark.parametrize(
    ("lines", "exposed"),
    [
        ("", False),
        ("listen: localhost:1, [::1]:2, 127.9.9.9:3, unix:/run/x, [0:0:0:0:0:0:0:1]:4, [::ffff:127.0.0.1]:5", False),
        ("listen: 0.0.0.0:80", True),
        ("listen: [::]:80", True),
        ("listen: 127.0.0.1:80, 192.0.2.1:80", True),
        ("listen: 127.example:80", True),
        ("listen: 127.0.0.1.example:80", True),
        ("listen: localhost.example:80", True),
        ("base_path: /x", True),
        ("trusted_proxies: 127.0.0.1", True),
    ],
)
def test_who_is_exposed(lines: str, exposed: bool) -> None:
    assert load_text(f"[http]\n{lines}\n").http.exposed is exposed


def test_what_a_check_counts() -> None:
    assert load_text("").counted(2) == "2 groups"
    text = "[http]\nqueues: a, b\n[http_c]\n[schedule_s]\ncron: @daily\nworker_type: w\n"
    assert load_text(text).counted(1) == "1 group, 3 queues of tasks, 1 schedule"
    assert load_text("[http_c]\n").counted(0) == "0 groups, 1 queue of tasks"


def test_the_values_in_force_with_the_origin_of_each() -> None:
    found = load_text("[http]\nqueues: a\n[http_q]\nrate_limit: 10/s\n[schedule_s]\nevery: 1h\nworker_type: w\n")
    assert found.http_sections() == ("http", "http_q", "schedule_s")

    def said(section: str) -> list[tuple[str, str, object, str]]:
        return [tuple(each) for each in found.effective_of_section(section) if each.origin]

    assert said("http") == [("queues", "queue_names", ("a",), "config.ini:2")]
    assert said("http_q") == [("rate_limit", "rate", 10.0, "config.ini:4")]
    assert said("schedule_s")[0] == ("every", "duration", 3600.0, "config.ini:6")
    values = {each.key: each.value for each in found.effective_of_section("http_q")}
    assert (values["burst"], values["permanent_statuses"], values["headers"]) == (100, (410,), {})
    assert load_text("").effective_of_section("http")[0].value == ("127.0.0.1:8088",)
