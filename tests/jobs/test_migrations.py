"""Every version of the tables is brought up to date when the store is opened, with its jobs."""

import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

pytest.importorskip("sqlalchemy", reason="the extra serve is not installed")

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from calotype.errors import CalotypeError
from calotype.jobs.chat import Chat, Terms
from calotype.jobs.database import MIGRATIONS, Database
from calotype.jobs.schema import METADATA
from calotype.jobs.store import JobStore
from calotype.jobs.users import Accounts

FIRST_JOB = {
    "id": "a" * 32, "owner": "ann", "account": "ann", "kind": "restore", "task": '{"scale": 2}', "files": "{}",
    "output": "{}", "models": "[]", "state": "done", "priority": 1, "position": 4, "created": 1.0, "queued": 1.0,
    "started": 2.0, "finished": 3.0, "cost": 1.5, "attempts": 1, "overtaken": 0, "is_favourite": True,
    "fingerprint": "f", "last_event": 2, "requested": "run", "is_daily": True,
}  # fmt: skip
FIRST_RESULT = {
    "id": "b" * 32, "job": "a" * 32, "number": 0, "name": "é.png", "media_type": "image/png", "size": 3,
    "sha256": "c" * 64, "facts": '{"seed": 7}',
}  # fmt: skip


def config(connection):
    made = Config()
    made.set_main_option("script_location", str(MIGRATIONS))
    made.attributes["connection"] = connection
    return made


def insert(db, table, row):
    names = ", ".join(f'"{name}"' for name in row)
    db.execute(text(f"INSERT INTO {table} ({names}) VALUES ({', '.join(':' + name for name in row)})"), row)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def new_url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'jobs.sqlite3'}"
    return request.getfixturevalue("empty_postgres")().replace("postgresql:", "postgresql+psycopg:")


def test_the_tables_are_those_of_the_migrations(new_url):
    database = Database(new_url)
    with database.reading() as db:
        context = MigrationContext.configure(db, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
    database.close()


def test_a_store_of_the_first_version_is_brought_up_to_date(new_url, tmp_path):
    engine = create_engine(new_url)
    with engine.begin() as db:
        command.upgrade(config(db), "0001")
        insert(db, "jobs", FIRST_JOB)
        insert(db, "events", {"job": "a" * 32, "number": 2, "created": 3.0, "data": '{"event": "state"}'})
        insert(db, "results", FIRST_RESULT)
    engine.dispose()
    store = JobStore(new_url, tmp_path)
    job = store.get("a" * 32)
    assert (job.owner, job.task, job.state, job.cost, job.is_favourite) == ("ann", {"scale": 2}, "done", 1.5, True)
    assert (job.results[0].name, job.results[0].facts) == ("é.png", {"seed": 7})
    assert store.events(job.id)[0].data == {"event": "state"}
    assert store.submit("ann", "restore", {}).state == "queued"
    with store.database.reading() as db:
        newest = ScriptDirectory.from_config(config(db)).get_current_head()
        assert MigrationContext.configure(db).get_current_revision() == newest
    store.close()


def member(db, id, seconds, **more):
    """A person of the chat with the account that was opened for them."""
    user = {"id": f"user{id}", "name": f"discord-{id}", "is_admin": False, "is_disabled": False, "seconds": seconds}
    insert(db, "users", user | {"max_running": 2, "max_queued": 50, "max_stored": 20.0, "created": 1.0})
    values = {"id": id, "user": f"user{id}", "is_own": True, "is_banned": False, "options": "{}", "created": 1.0}
    insert(db, "chat_members", values | more)


@pytest.mark.parametrize("version", ["0004", "0005"])
def test_what_people_of_the_chat_have_stays_and_their_roles_are_those_of_some_server(new_url, tmp_path, version):
    engine = create_engine(new_url)
    with engine.begin() as db:
        command.upgrade(config(db), version)
        for id, seconds in (("1", 300.0), ("2", 900.0), ("3", None), ("4", 600.0)):
            known = {"own_user": f"user{id}", "roles": '["5"]', "is_granted": seconds != 600, "granted": seconds}
            member(db, id, seconds, **(known if version == "0005" else {}))
    engine.dispose()
    store = JobStore(new_url, tmp_path)
    chat = Chat(store.database, Accounts(store.database))
    chat.settle(Terms(300))

    def seconds(daily):
        return [chat.visit(id, Terms(daily)).account.budget.seconds for id in "123"]

    assert seconds(300) == [300, 900, None] and seconds(50) == [50, 900, None]
    chat.grant_role("5", 2000, Terms(50))
    assert seconds(50) == ([2000, 2000, None] if version == "0005" else [50, 900, None])
    assert all(chat.member(id).is_own for id in "1234")
    store.close()


def test_a_store_of_a_newer_version_is_refused_unchanged(new_url, tmp_path):
    database = Database(new_url)
    with database.writing() as db:
        db.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(CalotypeError, match="a newer version of calotype has written the store"):
        JobStore(new_url, tmp_path)
    with database.reading() as db:
        assert db.scalar(text("SELECT version_num FROM alembic_version")) == "9999"
    database.close()


def test_programs_that_open_a_new_store_at_the_same_moment_create_it_once(tmp_path):
    program = "import sys; from pathlib import Path; from calotype.jobs.store import JobStore; "
    program += "JobStore('', Path(sys.argv[1])).submit('a', 'imagine', {})"
    running = [subprocess.Popen([sys.executable, "-c", program, tmp_path], stderr=subprocess.PIPE) for _ in range(3)]
    assert [(process.communicate()[1], process.returncode) for process in running] == [(b"", 0)] * 3
    assert JobStore("", tmp_path).counts() == {"queued": 3}


@pytest.mark.parametrize(
    "url, words",
    [
        ("mysql://localhost/x", "SQLite or PostgreSQL, not mysql"),
        ("nonsense", "address of the store is not valid"),
        ("postgresql://localhost:1/x?connect_timeout=2", "cannot be opened or written"),
        ("sqlite:////no/such/folder/jobs.sqlite3", "cannot be opened or written"),
        ("unknown://x", "SQLite or PostgreSQL"),
    ],
)
def test_a_wrong_address_is_a_sentence(url, words, tmp_path):
    if url.startswith("postgres"):
        pytest.importorskip("psycopg")
    with pytest.raises(CalotypeError, match=words) as caught:
        JobStore(url, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_a_sentence(tmp_path):
    (tmp_path / "jobs.sqlite3").write_bytes(b"no database " * 500)
    with pytest.raises(CalotypeError, match="the store is damaged"):
        JobStore("", tmp_path)


def test_a_backup_of_a_store_in_use_is_a_complete_store(tmp_path):
    store = JobStore("", tmp_path / "one")
    job = store.submit("ann", "imagine", {"prompt": "a"})
    (tmp_path / "two").mkdir()
    store.database.backup(tmp_path / "two" / "jobs.sqlite3")
    store.submit("ann", "imagine", {})
    assert JobStore("", tmp_path / "two").find() == [job]
    with closing(sqlite3.connect(tmp_path / "one" / "jobs.sqlite3")) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
