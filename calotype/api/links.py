"""Public copies of results."""

from calotype.api.service import Service
from calotype.jobs.files import new_id, open_stored
from calotype.jobs.jobs import StoredResult
from calotype.outputs.publish import publish


def public_copy(service: Service, result: StoredResult) -> tuple[str, str, str]:
    """Writes a copy without metadata. Returns the id of its file, suffix and media type."""
    link_id, files = new_id(), service.store.files
    target = files.link(link_id)
    target.parent.mkdir(exist_ok=True)
    open_stored(files.result(result.id)).close()
    return link_id, *publish(files.result(result.id), target, result.media_type, service.settings.max_pixels)
