"""What the store knows of artifacts: kind, name, size, and what was made from what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, or_, select

from queue_app.errors import Invalid, NotFound
from queue_app.store.tables import Artifact, artifacts, lineage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from queue_app.store.database import Database

SHORTEST_PREFIX = 4  # characters after `sha256:`


class ArtifactIndex:
    """The table of artifacts and their lineage."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def add(self, artifact: Artifact, parents: Iterable[str]) -> None:
        """Add an artifact; the same content is the same artifact, and keeps its first entry."""
        with self.database.writing() as connection:
            known = connection.execute(select(artifacts.c.id).where(artifacts.c.id == artifact.id)).first()
            if known is None:
                connection.execute(insert(artifacts).values(artifact.model_dump()))
            elif artifact.name is not None:
                connection.execute(artifacts.update().where(artifacts.c.id == artifact.id).values(name=artifact.name))
            here = lineage.c.child_id == artifact.id
            old = set(connection.execute(select(lineage.c.parent_id).where(here)).scalars())
            for parent in sorted(set(parents) - old - {artifact.id}):
                connection.execute(insert(lineage).values(child_id=artifact.id, parent_id=parent))

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
            raise NotFound(f'there is no artifact, name or path "{ref}"; `tuneyard models ls` lists the models')
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

    def drop(self, artifact_id: str) -> None:
        """Take an artifact out of the index."""
        with self.database.writing() as connection:
            connection.execute(
                delete(lineage).where(or_(lineage.c.child_id == artifact_id, lineage.c.parent_id == artifact_id))
            )
            connection.execute(delete(artifacts).where(artifacts.c.id == artifact_id))
