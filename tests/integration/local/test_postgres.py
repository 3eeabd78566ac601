from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest
from sqlalchemy.engine import make_url

from deploy.local.directory import DirectoryInUseError
from deploy.local.postgres import EmbeddedPostgres
from deploy.local.processes import StackError
from tests.integration.local.owners import are_gone, owner

if TYPE_CHECKING:
    from collections.abc import Iterator

OWNER = """
    import pathlib, sys
    from deploy.local.postgres import EmbeddedPostgres
    server = EmbeddedPostgres(pathlib.Path({directory!r}))
    server.start()
    print(server.pid, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    # Made once for most tests: making one is the slow part.
    directory = Path(tempfile.mkdtemp(prefix="trunkline-test-"))
    with EmbeddedPostgres(directory):
        pass
    yield directory
    shutil.rmtree(directory)


def remember(server: EmbeddedPostgres, note: str) -> None:
    with psycopg.connect(server.url()) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS notes (note text PRIMARY KEY)")
        connection.execute("INSERT INTO notes VALUES (%s) ON CONFLICT DO NOTHING", (note,))


def notes(server: EmbeddedPostgres) -> set[str]:
    with psycopg.connect(server.url()) as connection:
        return {row[0] for row in connection.execute("SELECT note FROM notes")}


def setting(server: EmbeddedPostgres, name: str) -> str:
    with psycopg.connect(server.url()) as connection:
        row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return str(row[0])


def test_data_survives_stop_kill_and_restart(cluster: Path) -> None:
    with EmbeddedPostgres(cluster) as server:
        url = server.url()
        remember(server, "before stop")
        server.stop()
        assert not server.alive
        server.start()
        remember(server, "before kill")
        server.kill()
        assert server.exit_code == -signal.SIGKILL
        server.start()
        server.restart()
        assert notes(server) >= {"before kill", "before stop"}
        assert server.url() == url


def test_kill_leaves_no_process_behind(cluster: Path) -> None:
    with EmbeddedPostgres(cluster) as server, psycopg.connect(server.url()):
        family = [p.pid for p in psutil.Process(server.pid).children(recursive=True)]
        assert len(family) > 1
        server.kill()
        assert are_gone(family)


def test_starts_although_only_the_main_process_was_killed(cluster: Path) -> None:
    with EmbeddedPostgres(cluster) as server, psycopg.connect(server.url()):
        remember(server, "kept")
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        assert are_gone([server.pid])
        server.start()
        assert "kept" in notes(server)


def test_a_long_path_gets_a_short_socket(state_dir: Path) -> None:
    server = EmbeddedPostgres(state_dir / "a-long-name" / ("x" * 60) / ("y" * 60))
    with server:
        remember(server, "kept")
        socket_dir = str(make_url(server.url()).query["host"])
        assert len(socket_dir) < 80
        server.restart()
        assert "kept" in notes(server)
    assert not os.path.lexists(socket_dir)


@pytest.mark.parametrize(
    "stale",
    ["1\n/nowhere\n1700000000\n5432\n/nowhere\n\n  1 1\nready\n", "not a number\n", ""],
    ids=["somebody else's", "broken", "empty"],
)
def test_starts_over_a_stale_process_id(cluster: Path, stale: str) -> None:
    server = EmbeddedPostgres(cluster)
    with server:
        remember(server, "kept")
    (cluster / "cluster" / "postmaster.pid").write_text(stale)
    with server:
        assert "kept" in notes(server)


def test_is_durable_unless_told_otherwise(cluster: Path) -> None:
    with EmbeddedPostgres(cluster) as server:
        assert setting(server, "fsync") == setting(server, "synchronous_commit") == "on"
        assert setting(server, "max_connections") == "200"
        assert setting(server, "shared_buffers") == "128MB"
        assert setting(server, "listen_addresses") == ""
    with EmbeddedPostgres(cluster, fsync=False) as server:
        assert setting(server, "fsync") == "off"


def test_databases_come_from_templates_and_go_under_their_clients(cluster: Path) -> None:
    with EmbeddedPostgres(cluster, fsync=False) as server:
        server.create_database("template")
        with psycopg.connect(server.url("template")) as connection:
            connection.execute("CREATE TABLE inherited ()")
        server.create_database("copy", template="template")
        assert server.has_database("copy")
        with psycopg.connect(server.url("copy"), autocommit=True) as connection:
            connection.execute("SELECT * FROM inherited")
            server.drop_database("copy")
        server.drop_database("copy")
        assert not server.has_database("copy")


def test_two_owners_are_refused(cluster: Path) -> None:
    late = EmbeddedPostgres(cluster)
    with (
        EmbeddedPostgres(cluster),
        pytest.raises(DirectoryInUseError, match=str(os.getpid())),
    ):
        late.start()


@pytest.mark.parametrize(
    "number",
    [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, None],
    ids=["SIGKILL", "SIGTERM", "SIGINT", "exit"],
)
def test_ends_with_its_owner_and_starts_again(cluster: Path, number: signal.Signals | None) -> None:
    with owner(OWNER.format(directory=str(cluster))) as (process, pids):
        if number is None:
            process.communicate("end\n")
        else:
            process.send_signal(number)
        assert are_gone(pids)
    with EmbeddedPostgres(cluster) as server:
        remember(server, "after")


def test_takes_over_from_an_owner_that_was_killed_this_moment(cluster: Path) -> None:
    with owner(OWNER.format(directory=str(cluster))) as (process, pids):
        process.kill()
        process.wait()
        with EmbeddedPostgres(cluster) as server:
            remember(server, "after")
            assert server.pid not in pids


def test_the_error_tells_which_part_why_and_what_to_do(state_dir: Path) -> None:
    server = EmbeddedPostgres(state_dir)
    with server:
        pass
    (state_dir / "cluster" / "global" / "pg_control").write_bytes(b"broken")
    with pytest.raises(StackError) as caught, server:
        pass
    assert "postgres ended with exit code" in str(caught.value)
    assert "pg_control" in str(caught.value)
    assert f"delete the directory {server.data_dir}" in str(caught.value)
