"""Fixtures and hooks of all tests; each test has its own world, so that none reads or writes the user's files."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.support import golden
from tests.support.golden import Golden
from tests.support.world import world_environment

# No deadline, since a host may be busy.
hypothesis.settings.register_profile("ours", deadline=None)
hypothesis.settings.load_profile("ours")


FEDORA_SHAPE = "--fedora-shape"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(golden.UPDATE, action="store_true", help="write the present texts to the golden files")
    parser.addoption(
        "--cached-images",
        action="store_true",
        help="boot foreign guests only if their images, which take long to build, are in the cache",
    )
    parser.addoption(
        FEDORA_SHAPE,
        action="store_true",
        help="give the guest tier's main machine a guest that is shaped like Fedora CoreOS; needs root",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Find golden texts without a test, before any test is deselected."""
    golden.remember_orders(config, items)
    stale = golden.stale_texts(config)
    if config.getoption(golden.UPDATE):
        golden.drop_stale(stale)
    elif stale:
        texts = "; ".join(f"{path.name}: {', '.join(headings)}" for path, headings in stale.items())
        raise pytest.UsageError(f"golden texts without a test, which {golden.UPDATE} removes: {texts}")
    if sys.platform == "darwin":  # also where a Mac is imitated
        _leave_out_what_needs_linux(items)


def _leave_out_what_needs_linux(items: list[pytest.Item]) -> None:
    for item in items:
        if marker := item.get_closest_marker("linux"):
            item.add_marker(pytest.mark.skip(reason=f"needs Linux: {marker.args[0]}"))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run of all tests if none of them has used a golden file."""
    config = session.config
    whole = not (config.option.keyword or config.option.markexpr or any("::" in argument for argument in config.args))
    if exitstatus != 0 or not whole or config.option.collectonly or hasattr(config, "workerinput"):
        return
    if unused := golden.unused_files(config, config.rootpath):
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        assert reporter is not None
        reporter.write_line(f"golden files that no test uses: {', '.join(map(str, unused))}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(name="golden")
def golden_fixture(request: pytest.FixtureRequest) -> Iterator[Golden]:
    """The golden texts of this test; see tests/README.md."""
    stash = request.config.stash
    made = Golden(
        texts=golden.texts_of(request.path),
        test=golden.name_of(request.node),
        order=stash[golden.ORDERS][request.path],
        update=request.config.getoption(golden.UPDATE),
        used=stash.setdefault(golden.USED, set()),
    )
    yield made
    if not request.node.stash.get(FAILED, False):
        made.drop_unused()


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or not report.passed
    return report


@pytest.fixture(autouse=True)
def isolated_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Move HOME, our directories, Podman's and Docker's files below the test's temporary directory."""
    for name in (
        "CONTAINER_HOST", "CONTAINER_CONNECTION", "CONTAINER_SSHKEY", "CONTAINERS_CONF_OVERRIDE", "DOCKER_HOST",
        "MACHINE_ACCEL", "MACHINE_PATIENCE", "TZ",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    world = tmp_path / "world"
    world.mkdir()
    for name, value in world_environment(world).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory with a path short enough for sockets, unlike pytest's own."""
    directory = Path(tempfile.mkdtemp(prefix="b2p-", dir="/tmp"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)
