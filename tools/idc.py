"""Where public series lie: the index of the Imaging Data Commons (IDC).

The package `idc-index-data` carries it as parquet tables of 79 MB, so it is an optional extra; what
the project needs of it stands in `data_manifests/`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

import pandas as pd

from medlib.errors import DataError

VERSION = "25.0.5"  # of idc-index-data; another one may list other copies
INSTALL = f"pip install 'idc-index-data=={VERSION}' pyarrow"


def index_path() -> Path | None:
    """Return the main table of the installed package, or None where it is not installed."""
    spec = importlib.util.find_spec("idc_index_data")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "idc_index.parquet"
        if path.is_file() and importlib.util.find_spec("pyarrow"):
            return path
    return None


def ct_series(collection_id: str) -> pd.DataFrame:
    """Return a row a CT series of a collection, which IDC writes as ``"lidc_idri"``.

    `idc_version` is the release in which the series last changed, `aws_url` a folder:
    ``s3://bucket/folder``.

    Raises
    ------
    DataError
        If the package is not installed, is another version, or does not know the collection.
    """
    path = index_path()
    if path is None:
        raise DataError(f"the index of the Imaging Data Commons is not installed; run {INSTALL}")
    found = importlib.metadata.version("idc-index-data")
    if found != VERSION:
        raise DataError(f"idc-index-data is {found}, expected {VERSION}; run {INSTALL}")
    table = pd.read_parquet(
        path, filters=[("collection_id", "=", collection_id), ("Modality", "=", "CT")]
    )
    if table.empty:
        raise DataError(f"IDC {VERSION} has no CT of a collection {collection_id!r}")
    # The table gives megabytes with six digits: whole bytes.
    table["size_bytes"] = (table["series_size_MB"] * 1e6).round().astype("int64")
    names = {
        "SeriesInstanceUID": "series_instance_uid",
        "PatientID": "patient_id",
        "StudyInstanceUID": "study_instance_uid",
        "Manufacturer": "manufacturer",
        "ManufacturerModelName": "model",
        "instanceCount": "n_files",
        "size_bytes": "size_bytes",
        "license_short_name": "licence",
        "source_DOI": "source_doi",
        "series_revised_idc_version": "idc_version",
    }
    series = table[list(names)].rename(columns=names)
    # `series_aws_url` ends in "/*", which is s5cmd's way to say all files.
    series["aws_url"] = table["series_aws_url"].str.removesuffix("/*")
    return series.set_index("series_instance_uid").sort_index()
