"""What the store knows of artifacts: kind, name, size, and what was made from what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, or_, select
from sqlalchemy.exc import IntegrityError

from queue_app.errors import Invalid, NotFound
from queue_app.store.tables import Artifact, artifacts, lineage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection, Table

    from queue_app.store.database import Database

SHORTEST_PREFIX = 4  # characters after `sha256:`


class ArtifactIndex:
    """The table of artifacts and their lineage."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(self, artifact: Artifact, parents: Iterable[str]) -> None:
        """Add an artifact; the same content is the same artifact, and keeps its first entry."""
        with self.database.writing() as connection:
            is_new = _insert_once(connection, artifacts, artifact.model_dump())
            if not is_new and artifact.name is not None:
                connection.execute(artifacts.update().where(artifacts.c.id == artifact.id).values(name=artifact.name))
            for parent in sorted(set(parents) - {artifact.id}):
                _insert_once(connection, lineage, {"child_id": artifact.id, "parent_id": parent})

    def has(self, artifact_id: str) -> bool:
        """Whether there is an artifact with this id."""
        with self.database.reading() as connection:
            return _is_there(connection, artifacts, {"id": artifact_id})

    def find(self, ref: str) -> Artifact:
        """The artifact with this id, unique id prefix, or name (the newest of that name).

        Raises:
            NotFound: there is none
            Invalid: the prefix fits several
        """
        digest = ref.removeprefix("sha256:")
        conditions = [artifacts.c.id == ref, artifacts.c.name == ref]
        if (len(digest) >= SHORTEST_PREFIX or digest != ref) and set(digest) <= set("0123456789abcdef"):
            conditions.append(artifacts.c.id.startswith(f"sha256:{digest}", autoescape=True))
        query = select(artifacts).where(or_(*conditions)).order_by(artifacts.c.created_at.desc()).limit(20)
        with self.database.reading() as connection:
            found = [Artifact.model_validate(dict(row)) for row in connection.execute(query).mappings()]
        named = [a for a in found if ref in (a.id, a.name)]
        if named:
            return named[0]
        if len(found) > 1:
            raise Invalid(f'"{ref}" fits {len(found)} artifacts; give more of the id')
        if not found:
            raise NotFound(
                f'there is no artifact, name or path "{ref}"; `tuneyard models ls` and `tuneyard data ls` show '
                "what there is, `tuneyard models pull` gets a base model"
            )
        return found[0]

    def ls(self, kinds: Sequence[str] = ()) -> list[Artifact]:
        """All artifacts, newest first, of the given kinds or of all."""
        query = select(artifacts).order_by(artifacts.c.created_at.desc())
        if kinds:
            query = query.where(artifacts.c.kind.in_(kinds))
        with self.database.reading() as connection:
            return [Artifact.model_validate(dict(row)) for row in connection.execute(query).mappings()]

    def parents(self, artifact_id: str) -> list[str]:
        """The ids of what an artifact was made from."""
        with self.database.reading() as connection:
            query = select(lineage.c.parent_id).where(lineage.c.child_id == artifact_id)
            return sorted(connection.execute(query).scalars())


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
