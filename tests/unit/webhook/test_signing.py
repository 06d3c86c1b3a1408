"""Signatures, computed here once more by hand, and the file of secrets."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from pathlib import Path

import pytest

from taskqueue.webhook.signing import Secrets, Unsigned

OLD, NEW = (base64.b64encode(bytes([each]) * 24).decode() for each in (1, 2))


def expected(secret: str, signed: bytes) -> str:
    mac = hmac.new(base64.b64decode(secret), signed, hashlib.sha256)
    return "v1," + base64.b64encode(mac.digest()).decode()


def test_the_example_of_the_specification(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    path.write_text("q = whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n")
    body = b'{"test": 2432232314}'
    signature = Secrets(str(path)).signature("q", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_two_secrets_and_a_file_that_changes(tmp_path: Path) -> None:
    path = tmp_path / "secrets"
    path.write_text(f"# comment\n\nemails = whsec_{NEW} {OLD.rstrip('=')} ; both\nother=whsec_{OLD}\n")
    secrets = Secrets(str(path))
    signed = b"id.7.body"
    assert secrets.signature("emails", "id", 7, b"body") == f"{expected(NEW, signed)} {expected(OLD, signed)}"
    assert secrets.signature("other", "id", 7, b"body") == expected(OLD, signed)
    path.write_text(f"emails = whsec_{NEW}\n")
    assert secrets.signature("emails", "id", 7, b"body") == expected(NEW, signed)
    with pytest.raises(Unsigned, match="no line for the queue other"):
        secrets.signature("other", "id", 7, b"")
    other = tmp_path / "new"
    other.write_text(f"emails = whsec_{OLD}\n")
    os.utime(other, ns=(path.stat().st_mtime_ns,) * 2)
    other.rename(path)
    assert secrets.signature("emails", "id", 7, b"body") == expected(OLD, signed), "same time, another inode"


@pytest.mark.parametrize(
    "line", ["emails", "emails =", "= whsec_QUJD", "emails = whsec_!", "emails = whsec_", "a = QUJD ü"]
)
def test_a_bad_line_is_named_by_its_number_alone(tmp_path: Path, line: str) -> None:
    path = tmp_path / "secrets"
    path.write_text(f"good = whsec_{OLD}\n{line}\n")
    with pytest.raises(Unsigned, match="line 2") as raised:
        Secrets(str(path)).signature("good", "id", 7, b"")
    assert OLD not in str(raised.value) and "QUJD" not in str(raised.value)


def test_what_cannot_be_signed(tmp_path: Path) -> None:
    with pytest.raises(Unsigned, match="names no file"):
        Secrets(None).signature("q", "id", 7, b"")
    with pytest.raises(Unsigned, match="No such file"):
        Secrets(str(tmp_path / "none")).signature("q", "id", 7, b"")
    with pytest.raises(Unsigned, match="dot"):
        Secrets(None).signature("q", "a.b", 7, b"")
