"""Keys that are trusted, and what gpgv and sqv say."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest

from machine.errors import MachineError
from machine.image import verify
from machine.image.verify import Gpgv, Signer, Sqv, public_key, trusted_keys

KEY = b"\x99\x01\x02a public key"
# Fedora's own list, https://fedoraproject.org/security/, and coreos-installer's signing-keys.asc.
FEDORA = {
    "C6E7F081CF80E13146676E88829B606631645531",
    "36F612DCF27F7D1A48A835E4DBFCF71C6D9F90A6",
    "4F50A6114CD5C6976A7F1179655A4B02F577861E",
}


def armored(key: bytes, kind: str = "PUBLIC KEY") -> bytes:
    body = base64.b64encode(key).decode()
    return f"-----BEGIN PGP {kind} BLOCK-----\nComment: x\n\n{body}\n=AAAA\n-----END PGP {kind} BLOCK-----\n".encode()


@pytest.mark.linux("gpg lists the keys")
def test_keys_that_come_with_the_program_are_fedoras_by_fingerprint(tmp_path: Path) -> None:
    keyring = tmp_path / "keys"
    keyring.write_bytes(b"".join(trusted_keys(tmp_path / "none")))
    shown = subprocess.run(
        ["gpg", "--homedir", tmp_path, "--with-colons", "--show-keys", keyring],
        check=True,
        capture_output=True,
        text=True,
    )
    rows = [line.split(":") for line in shown.stdout.splitlines()]
    assert {row[9] for row in rows if row[0] == "fpr"} == FEDORA
    assert {row[1] for row in rows if row[0] == "pub"} == {"-"}  # neither expired nor revoked


def test_users_own_keys_are_trusted_too_and_secret_ones_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.gpg").write_bytes(KEY)
    (tmp_path / "b.asc").write_bytes(armored(KEY + b"2"))
    (tmp_path / "secret.gpg").write_bytes(b"\x95\x01a secret key")
    (tmp_path / "notes.txt").write_bytes(KEY)
    shipped = trusted_keys(tmp_path / "none")
    assert trusted_keys(tmp_path) == [*shipped, KEY, KEY + b"2"]


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (KEY, KEY),
        (armored(KEY), KEY),
        (armored(KEY).replace(b"\n", b"\r\n"), KEY),
        (b"", None),
        (b"<html>", None),
        (armored(KEY, "SIGNATURE"), None),
    ],
)
def test_key_without_its_armour(data: bytes, key: bytes | None) -> None:
    assert public_key(data) == key


GOOD = "[GNUPG:] GOODSIG AB12 Fedora (44) <fedora@x>\n[GNUPG:] VALIDSIG AAAA 2026-01-01 1 0 4 0 1 8 00 BBBB\n"


def test_good_signature_is_by_the_primary_key() -> None:
    signer = Gpgv("gpgv").judge(0, GOOD, "")
    assert signer == Signer(fingerprint="BBBB", name="Fedora (44) <fedora@x>")
    assert Sqv("sqv").judge(0, "AB12\n", "").fingerprint == "AB12"


@pytest.mark.parametrize(
    ("status", "line"),
    [
        ("[GNUPG:] BADSIG AB12 Me", "the signature does not belong to this file (AB12)"),
        ("[GNUPG:] EXPKEYSIG AB12 Me", "the signing key has expired (AB12)"),
        ("[GNUPG:] REVKEYSIG AB12 Me", "the signing key was revoked (AB12)"),
        ("[GNUPG:] EXPSIG AB12 Me", "the signature has expired (AB12)"),
        ("[GNUPG:] ERRSIG AB12 22\n[GNUPG:] NO_PUBKEY AB12", "the signing key is not trusted (AB12)"),
        ("[GNUPG:] NODATA 4", "the signature file contains no signature"),
        ("", "gpgv found no good signature: gpgv: boo"),
    ],
)
def test_signature_that_is_not_good_is_told_with_the_reason(status: str, line: str) -> None:
    with pytest.raises(MachineError) as caught:
        Gpgv("gpgv").judge(0 if "EXPKEYSIG" in status else 2, status, "gpgv: boo")
    assert caught.value.line == line


def test_host_without_a_program_that_checks_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MachineError) as caught:
        verify.find_checker()
    assert caught.value.line == (
        "no program on this host can check the image's signature; install gpgv (Debian: gpgv, Homebrew: gnupg) or sqv, "
        "or use --no-verify-signature"
    )


def test_files_of_the_user_that_hold_no_key_are_told(tmp_path: Path) -> None:
    (tmp_path / "good.gpg").write_bytes(b"\x99\x01")
    (tmp_path / "bad.asc").write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----")
    (tmp_path / "directory.gpg").mkdir()
    (tmp_path / "notes.txt").write_text("no key, and not meant as one")
    assert verify.unusable_keys(tmp_path) == [tmp_path / "bad.asc", tmp_path / "directory.gpg"]
    assert verify.unusable_keys(tmp_path / "nowhere") == []
