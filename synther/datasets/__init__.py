"""Data sets: a name or a path goes in, ``Transitions`` come out."""

from synther.datasets.download import DownloadError
from synther.datasets.load import (
    DatasetInfo,
    DatasetNotFoundError,
    dataset_info,
    list_datasets,
    load_dataset,
)

__all__ = [
    "DatasetInfo",
    "DatasetNotFoundError",
    "DownloadError",
    "dataset_info",
    "list_datasets",
    "load_dataset",
]
