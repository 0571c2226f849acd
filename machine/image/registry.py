"""Find disk images in an OCI registry, in the layout of podman's machine-os.

An index lists manifests. Each manifest has a single layer, which is the disk image. The layer is fetched like any other
file, and its digest serves as the checksum.
Sources: the OCI distribution and image specifications; podman's pkg/machine/ocipull for the annotations.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from machine.errors import MachineError, NotFoundError, Page, reason_of
from machine.image.reference import RegistryReference
from machine.image.streams import Artifact
from machine.image.web import FetchError, PlainHttpError, Web, WebSettings, read_body, retried
from machine.model.arch import Arch

_MAX_BYTES = 4 * 1024**2
_ACCEPT = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"
)
_HUB = "docker.io"
_HUB_SERVER = "registry-1.docker.io"
_DISK_TYPE = "disktype"
_QEMU_DISK = "qemu"
_CHALLENGE_FIELD = re.compile(r'(\w+)="([^"]*)"')


def auth_files(environment: Mapping[str, str], home: Path) -> list[Path]:
    """List the files that may contain logins to registries, in podman's order of search (containers-auth.json(5))."""
    if chosen := environment.get("REGISTRY_AUTH_FILE"):
        return [Path(chosen)]
    runtime, config = environment.get("XDG_RUNTIME_DIR"), environment.get("XDG_CONFIG_HOME")
    docker = environment.get("DOCKER_CONFIG")
    return [
        *([Path(runtime) / "containers" / "auth.json"] if runtime else []),
        (Path(config) if config else home / ".config") / "containers" / "auth.json",
        (Path(docker) if docker else home / ".docker") / "config.json",
    ]


def credentials(files: Sequence[Path], registry: str, name: str) -> str | None:
    """Return the login for a repository or, if there is none, for its registry. It is `user:password` in base64.

    Return None if none of the files has such a login.
    """
    keys = [registry]
    for part in name.split("/"):
        keys.append(f"{keys[-1]}/{part}")
    keys = [*reversed(keys), *(["https://index.docker.io/v1/"] if registry == _HUB else [])]
    for path in files:
        try:
            logins = json.loads(path.read_bytes())["auths"]
            found = next((logins[key]["auth"] for key in keys if logins.get(key, {}).get("auth")), None)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        if found:
            return str(found)
    return None


class Registry:
    """A client for one repository of an OCI registry."""

    def __init__(self, reference: RegistryReference, settings: WebSettings, auth: str | None) -> None:
        self._reference = reference
        self._settings = settings
        self._web = Web(settings)
        self._auth = auth
        server = _HUB_SERVER if reference.registry == _HUB else reference.registry
        self._base = f"https://{server}/v2/{reference.name}"
        self._headers: dict[str, str] = {}

    def find_artifact(self, arch: Arch) -> Artifact:
        """Find the disk image for QEMU guests of the architecture `arch`.

        Raises:
            MachineError: the registry cannot be reached, or has no such disk image.
        """
        if not self._settings.verify_tls:
            self._allow_http()
        try:
            return self._artifact(arch)
        except PlainHttpError as error:
            raise FetchError(
                error.message, transient=False, hint="use --tls-verify=false if you trust the network"
            ) from error
        except (KeyError, TypeError, AttributeError) as error:
            raise MachineError(f"{self._reference} has an invalid manifest: {reason_of(error)}") from error

    def _allow_http(self) -> None:
        """Use plain HTTP from now on if the server does not speak TLS, as podman does with `--tls-verify=false`."""
        url = f"{self._base.partition('/v2/')[0]}/v2/"
        try:
            with self._web.get(url):
                return
        except FetchError as error:
            if error.status:
                return
        self._base = self._base.replace("https://", "http://", 1)

    def _artifact(self, arch: Arch) -> Artifact:
        manifest = self._manifest(self._reference.version)
        if "manifests" in manifest:
            manifest = self._manifest(self._select_digest(manifest["manifests"], arch))
        layers = manifest.get("layers")
        if not isinstance(layers, list) or len(layers) != 1:
            count = len(layers) if isinstance(layers, list) else "no"
            raise MachineError(
                f"{self._reference} is not a disk image: it has {count} layers instead of one",
                hint="disk images for podman machine are at docker://quay.io/podman/machine-os:VERSION",
            )
        digest = str(layers[0].get("digest", ""))
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            raise MachineError(f"the layer of {self._reference} has no sha256 digest")
        return Artifact(
            reference=str(self._reference),
            arch=arch,
            location=f"{self._base}/blobs/{digest}",
            sha256=digest.removeprefix("sha256:"),
            release=self._reference.version,
            authorize=self._renew_login if self._headers else None,
        )

    def _renew_login(self) -> Mapping[str, str]:
        """Log in again, and return the headers of the new login. A token may expire during a download.

        The download's worker threads call this.
        """
        with Web(self._settings).get(
            f"{self._base}/manifests/{self._reference.version}", {"Accept": _ACCEPT}
        ) as response:
            challenge = response.headers.get("WWW-Authenticate", "")
            status = response.status_code
        return {"Authorization": self._authorize(challenge, Web(self._settings))} if status == 401 else {}

    def _select_digest(self, manifests: Sequence[Mapping[str, Any]], arch: Arch) -> str:
        manifests = [entry for entry in manifests if isinstance(entry, dict)]
        names = {arch.value, arch.go}
        of_arch = [entry for entry in manifests if _architecture(entry) in names]
        if not of_arch:
            found = ", ".join(sorted({_architecture(entry) for entry in manifests}))
            raise NotFoundError(f"{self._reference} has no image for {arch}", hint=f"its architectures are: {found}")
        for entry in of_arch:
            if (entry.get("annotations") or {}).get(_DISK_TYPE) == _QEMU_DISK:
                return str(entry["digest"])
        raise NotFoundError(f"{self._reference} has no disk image for QEMU on {arch}")

    def _manifest(self, version: str) -> dict[str, Any]:
        url = f"{self._base}/manifests/{version}"
        body = self._get(url)
        if version.startswith("sha256:") and hashlib.sha256(body).hexdigest() != version.removeprefix("sha256:"):
            raise MachineError(f"the content of {url} does not match its digest", page=Page.CHECKSUM)
        try:
            manifest = json.loads(body)
            if not isinstance(manifest, dict):
                raise TypeError("not a JSON object")
        except (ValueError, TypeError) as error:
            raise MachineError(f"{url} is not a manifest") from error
        return manifest

    def _get(self, url: str) -> bytes:
        def attempt() -> bytes:
            with self._web.get(url, {"Accept": _ACCEPT, **self._headers}) as response:
                if response.status_code != 401:
                    return read_body(response, url, limit=_MAX_BYTES)
                challenge = response.headers.get("WWW-Authenticate", "")
            if self._headers:
                raise FetchError(
                    f"the registry denied access to {self._reference} with the status 401",
                    transient=False,
                    status=401,
                    hint=f"log in with: podman login {self._reference.registry}",
                )
            self._headers = {"Authorization": self._authorize(challenge, self._web)}
            return attempt()

        return retried(attempt)

    def _authorize(self, challenge: str, web: Web) -> str:
        kind, _, fields = challenge.partition(" ")
        if kind.lower() == "basic":
            if not self._auth:
                raise FetchError(
                    f"{self._reference} is not public",
                    transient=False,
                    status=401,
                    hint=f"log in with: podman login {self._reference.registry}",
                )
            return f"Basic {self._auth}"
        parameters = dict(_CHALLENGE_FIELD.findall(fields))
        realm = parameters.pop("realm", "")
        if kind.lower() != "bearer" or not realm:
            raise MachineError(f"the registry of {self._reference} requires an unsupported kind of login: {challenge}")
        url = f"{realm}?{urlencode(parameters)}"
        headers = {"Authorization": f"Basic {self._auth}"} if self._auth else {}
        with web.get(url, headers) as response:
            body = read_body(response, url, limit=_MAX_BYTES)
        try:
            answer = json.loads(body)
            return f"Bearer {answer.get('token') or answer['access_token']}"
        except (ValueError, KeyError, AttributeError) as error:
            raise MachineError(f"the login server {realm} returned no token") from error


def _architecture(entry: Mapping[str, Any]) -> str:
    return str((entry.get("platform") or {}).get("architecture", "unknown"))
