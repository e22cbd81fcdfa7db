"""Uploads, stored once by the hash of their content; each belongs to the owners who sent it."""

from typing import BinaryIO

from sqlalchemy import Connection, delete, select

from calotype.jobs.jobs import CANCELLED, DONE, Conflict, NotFound, StoredUpload, upload_ids
from calotype.jobs.rows import upsert
from calotype.jobs.schema import JOBS, UPLOADS
from calotype.jobs.store_part import StorePart

MAX_UPLOAD = 1 << 30  # bytes


class Uploads(StorePart):
    """The part of the store that keeps uploads."""

    def upload(self, owner: str, stream: BinaryIO, limit: int = MAX_UPLOAD) -> StoredUpload:
        """Stores a file; the same content is stored once. Raises TooLarge if it exceeds the limit."""
        received, stored = self.files.receive(stream, limit)
        try:
            with self.database.writing() as db:
                self.files.keep(received, stored.id)
                self._add_upload(db, owner, stored)
        finally:
            received.unlink(missing_ok=True)
        return stored

    def find_upload(self, owner: str, upload_id: str) -> StoredUpload:
        """An upload of this owner, with which it need not be sent again. Raises NotFound."""
        with self.database.writing() as db:
            stored = check_upload(db, owner, upload_id, "")
            self._add_upload(db, owner, stored)
            return stored

    def remove_upload(self, owner: str, upload_id: str) -> None:
        """Forgets an upload of this owner. Raises NotFound, or Conflict while a job of the owner needs it."""
        with self.database.writing() as db:
            check_upload(db, owner, upload_id, "")
            jobs = select(JOBS.c.files).where(JOBS.c.owner == owner, JOBS.c.state.not_in((DONE, CANCELLED)))
            if any(upload_id == needed for files in db.scalars(jobs) for _, needed in upload_ids(files)):
                raise Conflict("a job needs this upload; cancel or delete the job first")
            db.execute(delete(UPLOADS).where(UPLOADS.c.id == upload_id, UPLOADS.c.owner == owner))
        self._delete_unowned([upload_id])

    def _add_upload(self, db: Connection, owner: str, stored: StoredUpload) -> None:
        values = {"id": stored.id, "owner": owner, "size": stored.size, "used": self._clock()}
        upsert(db, UPLOADS, values, {"used": values["used"]})


def check_upload(db: Connection, owner: str, upload_id: str, option: str) -> StoredUpload:
    """An upload of this owner. Raises NotFound."""
    query = select(UPLOADS.c.size).where(UPLOADS.c.id == upload_id, UPLOADS.c.owner == owner)
    size = db.scalar(query) if isinstance(upload_id, str) else None
    if size is None:
        raise NotFound("there is no upload of this id; send the file first", option=option)
    return StoredUpload(upload_id, size)
