"""Choosing parts of a picture by their numbers: faces of a photo, regions of a grid."""

from contextlib import suppress

from calotype.api.service import Service
from calotype.bot.studio import faces_of, picture_of
from calotype.errors import CalotypeError
from calotype.jobs.jobs import Job
from calotype.outputs.numbered import numbered_faces, numbered_regions


def faces_picture(service: Service, job: Job) -> bytes | None:
    """The photo of a restoration with its faces numbered, as JPEG; None for one face or none, or a deleted photo."""
    from calotype.picture import read_record
    from calotype.record import Record

    if faces_of(job) < 2 or not isinstance(source := job.files.get("source"), str):
        return None
    files = service.store.files
    with suppress(CalotypeError, OSError):
        text = read_record(files.result(job.results[0].id))
        boxes = [(face.number, face.box) for face in Record.from_json(text or "").faces]
        return numbered_faces(files.upload(source.partition("/")[0]), boxes, service.settings.max_pixels)
    return None


def regions_picture(service: Service, job: Job, index: int) -> bytes:
    """A picture with its regions numbered, as JPEG. Raises CalotypeError if there is none of this number."""
    return numbered_regions(service.store.files.result(picture_of(job, index).id), service.settings.max_pixels)
