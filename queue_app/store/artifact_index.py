"""What the store knows of artifacts: kind, name, size, and what was made from what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from queue_app.store.artifact_readings import ArtifactReadings
from queue_app.store.tables import artifacts, lineage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection, Table

    from queue_app.store.rows import Artifact


class ArtifactIndex(ArtifactReadings):
    """The table of artifacts and their lineage."""

    def add(self, artifact: Artifact, parents: Iterable[str]) -> None:
        """Add an artifact; the same content is the same artifact, and keeps its first entry."""
        with self.database.writing() as connection:
            is_new = _insert_once(connection, artifacts, artifact.model_dump())
            if not is_new and artifact.name is not None:
                connection.execute(artifacts.update().where(artifacts.c.id == artifact.id).values(name=artifact.name))
            for parent in sorted(set(parents) - {artifact.id}):
                _insert_once(connection, lineage, {"child_id": artifact.id, "parent_id": parent})


def _insert_once(connection: Connection, table: Table, row: dict[str, Any]) -> bool:
    """Insert a row unless its key is taken; another publisher may take it between the look and the insert."""
    if _is_there(connection, table, row):
        return False
    try:
        with connection.begin_nested():  # a savepoint: on PostgreSQL an error ends the transaction around it
            connection.execute(insert(table).values(row))
    except IntegrityError:
        if _is_there(connection, table, row):
            return False
        raise
    return True


def _is_there(connection: Connection, table: Table, row: dict[str, Any]) -> bool:
    key = [column == row[column.name] for column in table.primary_key]
    return connection.execute(select(*table.primary_key).where(*key)).first() is not None
