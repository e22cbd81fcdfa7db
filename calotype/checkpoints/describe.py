"""What is known about a model: name, purpose, size, licence, path. For the model lists of every front end."""

from typing import Any

from calotype.checkpoints.store import KINDS, Listed, ModelStore, known_name
from calotype.errors import CalotypeError, Remedy
from calotype.options import nearest


def find_listed(store: ModelStore, name: str) -> Listed:
    """The entry of a model by its name. Raises CalotypeError for an unknown name."""
    models = {entry.name: entry for entry in store.entries()}
    model = models.get(name) or models.get(known_name(name))
    if model is None:
        raise unknown_model(name, models)
    return model


def unknown_model(name: str, names: Any) -> CalotypeError:
    hint = nearest(name, names)
    return CalotypeError("no model is named {name}{hint}", name=name, hint=hint, remedy=Remedy("list_models"))


def describe(listed: Listed) -> dict[str, Any]:
    """A model as a dict; `state` is ships, fetched, to fetch, added, or added, but gone. `about` may be a Message."""
    facts = {
        "name": listed.name,
        "for": str(KINDS.get(listed.kind, listed.kind)),
        "path": listed.path and str(listed.path),
    }
    entry = listed.entry
    if entry is None:
        state = "added" if listed.path else "added, but gone"
        size = listed.path.stat().st_size if listed.path else 0
        return {**facts, "state": state, "licence": "", "size": size, "about": "your own"}
    state = "ships" if entry.ships else "fetched" if listed.path else "to fetch"
    more = {"licence": entry.licence, "commercial": entry.commercial, "size": entry.size, "about": entry.about}
    return {**facts, "state": state, **more, "scale": entry.scale, "url": entry.url, "sha256": entry.sha256}
