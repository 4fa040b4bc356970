"""Data sets: a name or a path goes in, ``Transitions`` come out."""

from synther.datasets.convert import as_transitions
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
    "as_transitions",
    "dataset_info",
    "list_datasets",
    "load_dataset",
]
