"""What readers ask of artifacts: which there are, which one is meant, what it was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from queue_app.errors import Invalid, NotFound
from queue_app.store.database import any_of, beginning
from queue_app.store.rows import Ancestor, Artifact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from queue_app.store.database import Database

SHORTEST_PREFIX = 4  # characters after `sha256:`


class ArtifactReadings:
    """Questions about artifacts and their lineage."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def has(self, artifact_id: str) -> bool:
        """Whether there is an artifact with this id."""
        return bool(self.database.ask("SELECT id FROM artifact WHERE id = :id", id=artifact_id))

    def find(self, ref: str) -> Artifact:
        """The artifact with this id, unique id prefix, or name (the newest of that name).

        Raises:
            NotFound: there is none
            Invalid: the prefix fits several
        """
        digest = ref.removeprefix("sha256:")
        is_prefix = (len(digest) >= SHORTEST_PREFIX or digest != ref) and set(digest) <= set("0123456789abcdef")
        question = (
            "SELECT * FROM artifact WHERE id = :ref OR name = :ref OR id LIKE :pattern ESCAPE '/' "
            "ORDER BY created_at DESC LIMIT 20"
        )
        pattern = beginning(f"sha256:{digest}") if is_prefix else ""
        found = [Artifact.model_validate(row) for row in self.database.ask(question, ref=ref, pattern=pattern)]
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
        names, values = any_of(kinds)
        wanted = f"WHERE kind IN ({names})" if kinds else ""
        found = self.database.ask(f"SELECT * FROM artifact {wanted} ORDER BY created_at DESC", **values)
        return [Artifact.model_validate(row) for row in found]

    def parents(self, artifact_id: str) -> list[str]:
        """The ids of what an artifact was made from."""
        found = self.database.ask("SELECT parent_id FROM lineage WHERE child_id = :id", id=artifact_id)
        return sorted(row["parent_id"] for row in found)

    def lineage(self, ids: Sequence[str]) -> list[Ancestor]:
        """These artifacts and everything they were made from, nearest first, with the job that made each."""
        question = (
            "SELECT artifact.id, artifact.kind, artifact.name, job.id AS job_id, job.kind AS made_by, "
            "run.name AS recipe FROM artifact LEFT JOIN job ON artifact.job_id = job.id "
            "LEFT JOIN run ON job.run_id = run.id WHERE artifact.id = :id"
        )
        found: dict[str, Ancestor] = {}
        waiting = list(ids)
        while waiting:
            artifact_id = waiting.pop(0)
            if artifact_id not in found:
                [row] = self.database.ask(question, id=artifact_id)
                found[artifact_id] = Ancestor.model_validate(row)
                waiting += self.parents(artifact_id)
        return list(found.values())
