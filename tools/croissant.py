"""Data set descriptions that machines read: Croissant 1.0, https://mlcommons.org/croissant."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from medlib.cohorts.collections import TABLES, Collection
from medlib.files import sha256_of, write_file
from medlib.paths import MANIFESTS

CONTEXT_FILE = Path(__file__).with_name("croissant_context.json")
CONFORMS_TO = "http://mlcommons.org/croissant/1.0"
VERSION = "1.0.0"
_MEDIA_TYPES = {".csv": "text/csv", ".json": "application/json"}


def columns(folder: Path = MANIFESTS) -> dict[str, dict[str, tuple[str, str]]]:
    """Read, by kind of table and column, a column's schema.org type and its meaning."""
    kinds = tomllib.loads((folder / "columns.toml").read_text(encoding="utf-8"))
    return {
        kind: {name: (str(of_type), str(meaning)) for name, (of_type, meaning) in named.items()}
        for kind, named in kinds.items()
    }


def describe(collection: Collection) -> dict[str, Any]:
    """Return the Croissant description of a collection, as JSON-LD.

    A file object, with its checksum, a file; a record set a table, with a field a column.
    """
    return {
        "@context": json.loads(CONTEXT_FILE.read_text(encoding="utf-8")),
        "@type": "sc:Dataset",
        "name": collection.name,
        "alternateName": collection.title,
        "description": collection.description,
        "conformsTo": CONFORMS_TO,
        "license": collection.licence_url,
        "url": collection.url,
        "citeAs": collection.citation,
        "datePublished": collection.published,
        "version": VERSION,
        "distribution": [_file(collection.folder / name) for name in collection.files.values()],
        "recordSet": [_record_set(collection, kind) for kind in collection.files if kind in TABLES],
    }


def description_name(collection: Collection) -> str:
    """Return the name of the file with the description."""
    return f"{collection.name}.croissant.json"


def write_description(collection: Collection) -> Path:
    """Write the description beside the collection's files."""
    path = collection.folder / description_name(collection)
    write_file(path, json.dumps(describe(collection), indent=1, ensure_ascii=False) + "\n")
    return path


def _file(path: Path) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": path.name,
        "name": path.name,
        "contentUrl": path.name,
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": _MEDIA_TYPES[path.suffix],
        "sha256": sha256_of(path),
    }


def _record_set(collection: Collection, kind: str) -> dict[str, Any]:
    known = columns(collection.folder)[kind]
    fields = [
        {
            "@type": "cr:Field",
            "@id": f"{kind}/{name}",
            "name": name,
            "description": known[name][1],
            "dataType": f"sc:{known[name][0]}",
            "source": {"fileObject": {"@id": collection.files[kind]}, "extract": {"column": name}},
        }
        for name in collection.table(kind).columns
    ]
    key = "nodule_id" if kind == "nodules" else "series_instance_uid"
    return {
        "@type": "cr:RecordSet",
        "@id": kind,
        "name": kind,
        "key": {"@id": f"{kind}/{key}"},
        "field": fields,
    }
