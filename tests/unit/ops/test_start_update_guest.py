"""What is said to a guest for whom something has changed, and what is made of its answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from machine.ignition.containers import services_digest
from machine.model.record import GuestFacts, Pending
from machine.model.units import GIB
from machine.ops.start_host_settings import GuestFile, digest, gather
from machine.ops.start_update_guest import GuestUpdate, find_update, guest_script, size_notice, updated_record
from machine.report import SilentReporter
from tests.support.builders import make_config, make_context, make_record

UP_TO_DATE = GuestFacts(services=services_digest())


class Notices(SilentReporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def notice(self, text: str) -> None:
        self.said.append(text)


def calls(script: str) -> list[str]:
    """The lines after the functions."""
    return script.rpartition("\n}\n")[2].strip().splitlines()


def test_words_survive_the_shell_of_the_guest() -> None:
    config = make_config("a_b", rootful=True)
    assert calls(guest_script(config, GuestUpdate(record=True, timezone="Asia/Tokyo"))) == [
        "set_name a-b </dev/null",
        "set_docker_socket 'L+  /run/docker.sock   -    -    -     -   /run/podman/podman.sock' </dev/null",
        "grow_root </dev/null",
        "set_timezone Asia/Tokyo </dev/null",
    ]


def test_files_come_as_a_document_of_the_script() -> None:
    script = calls(guest_script(make_config(), GuestUpdate(files=(GuestFile(path="etc/a", content=b"x"),))))
    assert script[0].startswith("follow_host http_proxy HTTP_PROXY https_proxy ")
    assert script[0].endswith(" NO_PROXY <<'END'")
    assert script[-1] == "END"


@pytest.mark.parametrize("services", [None, "12ab"], ids=["unknown", "others"])
def test_guest_gets_the_services_for_its_containers_of_this_version_once(tmp_path: Path, services: str | None) -> None:
    record = make_record(guest=GuestFacts(services=services))
    update = find_update(record, make_context(tmp_path), Notices())
    assert update == GuestUpdate(services=True)
    script = calls(guest_script(record.config, update))
    assert (script[0], script[-1]) == ("install_services <<'END'", "END")
    updated = updated_record(record, update)
    assert find_update(updated, make_context(tmp_path), Notices()).is_empty
    assert updated_record(record, GuestUpdate(record=True)) == record


def test_guest_that_is_up_to_date_is_left_alone(tmp_path: Path) -> None:
    assert find_update(make_record(guest=UP_TO_DATE), make_context(tmp_path), Notices()).is_empty
    record = make_record(pending=Pending(guest_outdated=True), guest=UP_TO_DATE)
    update = find_update(record, make_context(tmp_path), Notices())
    assert (update.record, update.timezone, update.files) == (True, None, None)


def test_time_zone_follows_the_hosts_where_that_was_asked_for(tmp_path: Path) -> None:
    context = make_context(tmp_path, TZ="Asia/Tokyo")
    assert find_update(make_record(), context, Notices()).timezone is None
    record = make_record(timezone_local=True, guest=UP_TO_DATE)
    update = find_update(record, context, Notices())
    assert update.timezone == "Asia/Tokyo"
    updated = updated_record(record, update)
    assert updated.config.timezone == "Asia/Tokyo"
    assert find_update(updated, context, Notices()).is_empty


def test_proxies_are_updated_when_they_come_change_and_go(tmp_path: Path) -> None:
    record = make_record(guest=UP_TO_DATE)
    for environment in ({"http_proxy": "http://a:1"}, {"http_proxy": "http://b:1"}, {}):
        context = make_context(tmp_path, **environment)
        update = find_update(record, context, Notices())
        assert update.files is not None
        assert bool(update.files) is bool(environment)
        record = updated_record(record, update)
        assert find_update(record, context, Notices()).is_empty
    assert record == make_record(guest=UP_TO_DATE)


def test_registries_of_the_hosts_user_follow_and_what_podman_cannot_read_does_not(tmp_path: Path) -> None:
    containers = tmp_path / "home" / ".config" / "containers"
    (containers / "registries.conf.d").mkdir(parents=True)
    (containers / "registries.conf").write_text('unqualified-search-registries = ["example.com"]\n')
    (containers / "registries.conf.d" / "b c.conf").write_text("[aliases]\n")
    (containers / "registries.conf.d" / "a.conf").write_text("[[registry\n")
    (containers / "registries.conf.d" / "c.conf").write_text('[registries.search]\nregistries = ["a"]\n')
    (containers / "registries.conf.d" / "readme").write_text("no")
    (containers / "containers.conf").write_text("[engine]\n")
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    (containers / "certs.d").mkdir()
    (containers / "certs.d" / "example.com:5000").symlink_to(certificates)
    (certificates / "ca.crt").write_text("C")
    (certificates / "client.key").write_text("K")
    updated = Notices()
    files = gather(make_config(), make_context(tmp_path), updated)
    assert [(file.path, file.private) for file in files] == [
        ("etc/containers/registries.conf.d/9999-host-00-registries.conf", False),
        ("etc/containers/registries.conf.d/9999-host-02-b c.conf", False),
        ("etc/containers/certs.d/example.com:5000/ca.crt", False),
        ("etc/containers/certs.d/example.com:5000/client.key", True),
    ]
    assert [Path(line.partition(" is not passed")[0]).name for line in updated.said] == ["a.conf", "c.conf"]


PEM = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----"


def test_certificates_that_the_host_trusts_follow_on_request(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(f"# one\n{PEM.format('AAAA')}\n# the same\n{PEM.format('AAAA')}\n{PEM.format('BBBB')}\ntail")
    context = make_context(tmp_path, SSL_CERT_FILE=str(bundle))
    assert gather(make_config(), context, Notices()) == ()
    (file,) = gather(make_config(native_ca=True), context, Notices())
    assert file.content.decode() == f"{PEM.format('AAAA')}\n{PEM.format('BBBB')}\n"
    bundle.write_text("nothing")
    updated = Notices()
    assert gather(make_config(native_ca=True), context, updated) == ()
    (line,) = updated.said
    assert "SSL_CERT_FILE" in line


def test_digest_tells_files_apart() -> None:
    one, two = GuestFile(path="a", content=b"x"), GuestFile(path="b", content=b"x")
    assert digest(()) is None
    assert digest((one, two)) == digest((two, one))
    assert len({digest(files) for files in ((one,), (two,), (one, two), (GuestFile(path="a", content=b"y"),))}) == 4


@pytest.mark.parametrize(
    ("said", "notice"),
    [
        (f"growing\n {19 * GIB}\n", None),
        (f"{8 * GIB}\n", "The guest's root file system has not grown: it has 8GiB, but the disk has 20 GiB"),
        ("", "The guest does not say how large its root file system is"),
        ("df: no such file\n", "The guest does not say how large its root file system is"),
    ],
)
def test_root_that_did_not_grow_is_updated(said: str, notice: str | None) -> None:
    assert size_notice(said, 20) == notice
