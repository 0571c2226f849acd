"""Collect the host's settings that are passed to a guest at each start: proxies, registries and certificates.

Name servers need not be passed, because QEMU's network always uses the host's current ones.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import tarfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from machine import runner
from machine.errors import MachineError, reason_of
from machine.ignition.environment import environment_files
from machine.model.config import MachineConfig
from machine.model.host import HostOS
from machine.model.proxies import guest_proxies
from machine.ops.shared.context import Context
from machine.podman.connections import containers_directory
from machine.report import Reporter

# Sorts before 60-machine, because the machine's own variables in that file take precedence.
_PROXIES = "50-host-proxy"

# Sorts after the files that images have, and after our own 999-podman-machine.conf.
_REGISTRIES = "etc/containers/registries.conf.d/9999-host"

CERTIFICATES = "var/lib/boot2podman/host-ca-certs.pem"
"""The path in the guest at which we put this host's certificates. The guest's own tools install them from there."""

# The first ones are from Go's crypto/x509/root_linux.go. The last one is macOS's, for programs that use no keychain.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_KEYCHAINS = ("/System/Library/Keychains/SystemRootCertificates.keychain", "/Library/Keychains/System.keychain")
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\s.*?-----END CERTIFICATE-----", re.DOTALL)
_PROGRAM_S = 60.0


@dataclass(frozen=True, kw_only=True)
class GuestFile:
    """A file that is written into the guest at `path`, which is relative to /. The file belongs to root.

    If the file is `private`, only root and the guest's user can read it.
    """

    path: str
    content: bytes
    private: bool = False


def gather(config: MachineConfig, context: Context, report: Reporter) -> tuple[GuestFile, ...]:
    """Collect the files that the guest gets from this host. Files that cannot be read are reported and left out."""
    proxies = environment_files(guest_proxies(context.environment), _PROXIES)
    files = [GuestFile(path=file.path.removeprefix("/"), content=file.contents.encode()) for file in proxies]
    files += _containers_files(containers_directory(context.environment, context.home), report)
    if config.native_ca:
        try:
            files.append(GuestFile(path=CERTIFICATES, content=native_certificates(context).encode()))
        except MachineError as error:
            report.notice(f"The host's certificates are not passed to the guest: {error.line}")
    return tuple(files)


def digest(files: tuple[GuestFile, ...]) -> str | None:
    """Return a digest of the files' paths and contents, or None if there are no files."""
    if not files:
        return None
    return hashlib.sha256(repr(sorted((file.path, file.content, file.private) for file in files)).encode()).hexdigest()


def packed(files: tuple[GuestFile, ...], username: str) -> str:
    """Return the files as a compressed tar archive in base64, for the script that installs them in the guest."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for file in files:
            member = tarfile.TarInfo(file.path)
            member.size = len(file.content)
            member.mode = 0o640 if file.private else 0o644
            member.uname, member.gname = "root", username if file.private else "root"
            archive.addfile(member, io.BytesIO(file.content))
    return base64.encodebytes(buffer.getvalue()).decode()


# Registries: mirrors, short names and their certificates


def _containers_files(directory: Path, report: Reporter) -> Iterator[GuestFile]:
    """Yield the files in which the user has configured registries for Podman. Only these files concern the guest."""
    for number, path in enumerate(_registries(directory)):
        try:
            content = path.read_bytes()
            document = tomllib.loads(content.decode())
        except (OSError, ValueError) as error:
            report.notice(f"{path} is not passed to the guest: {reason_of(error)}")
            continue
        if "registries" in document:
            report.notice(f"{path} is not passed to the guest, because Podman no longer reads version 1 of its format")
            continue
        yield GuestFile(path=f"{_REGISTRIES}-{number:02}-{path.stem}.conf", content=content)
    certificates = directory / "certs.d"
    for path in sorted(path for path in certificates.glob("*/*") if path.is_file()):
        try:
            content = path.read_bytes()
        except OSError as error:
            report.notice(f"{path} is not passed to the guest: {reason_of(error)}")
            continue
        below = path.relative_to(certificates)
        yield GuestFile(path=f"etc/containers/certs.d/{below}", content=content, private=path.suffix == ".key")


def _registries(directory: Path) -> list[Path]:
    """Return the paths of registries.conf and its drop-ins, in order of increasing precedence."""
    main = directory / "registries.conf"
    return [path for path in (main, *sorted((directory / "registries.conf.d").glob("*.conf"))) if path.is_file()]


# Certificate authorities


def native_certificates(context: Context) -> str:
    """Return the certificates that programs on this host trust, in PEM.

    Raises:
        MachineError: no certificates were found, or a file of certificates cannot be read.
    """
    found = _CERTIFICATE.findall(_bundle(context))
    if not found:
        raise MachineError("no certificates were found", hint="set SSL_CERT_FILE to a file of certificates")
    return "\n".join(dict.fromkeys(found)) + "\n"


def _bundle(context: Context) -> str:
    if named := _named(context.environment):
        return "\n".join(_read(path) for path in named)
    if context.host.os is HostOS.MACOS:
        argv = ["security", "find-certificate", "-a", "-p", *_KEYCHAINS]
        return runner.run(argv, timeout_s=_PROGRAM_S).stdout
    return next((_read(path) for path in map(Path, _BUNDLES) if path.is_file()), "")


def _named(environment: Mapping[str, str]) -> list[Path]:
    """Return the files of certificates to which the environment variables of OpenSSL and Go point."""
    files = [Path(environment["SSL_CERT_FILE"])] if environment.get("SSL_CERT_FILE") else []
    directories = [Path(entry) for entry in environment.get("SSL_CERT_DIR", "").split(os.pathsep) if entry]
    return files + [path for directory in directories for path in sorted(directory.glob("*")) if path.is_file()]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise MachineError(f"cannot read {path}: {reason_of(error)}") from error
