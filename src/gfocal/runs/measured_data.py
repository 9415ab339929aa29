"""Which data a run is measured on, and whether they are still the same."""

from __future__ import annotations

from typing import TypedDict

from gfocal.data.fingerprint import fingerprint, images_fingerprint
from gfocal.data.index.data_index import DataIndex


class MeasuredData(TypedDict):
    """The data that a run is measured on: the file, and the fingerprints."""

    annotations: str
    data: str
    pictures: str


def measured_data(index: DataIndex | None) -> MeasuredData | None:
    """Of an index; None where nothing is measured."""
    if index is None:
        return None
    return MeasuredData(annotations=str(index.annotations), data=fingerprint(index), pictures=images_fingerprint(index))


def read_measured(content: object) -> MeasuredData | None:
    """Read back from plain data; None for what is none."""
    if not isinstance(content, dict):
        return None
    annotations, data, images = (content.get(key) for key in ("annotations", "data", "pictures"))
    if not (isinstance(annotations, str) and isinstance(data, str) and isinstance(images, str)):
        return None
    return MeasuredData(annotations=annotations, data=data, pictures=images)


def differ(before: MeasuredData | None, now: MeasuredData | None) -> bool:
    """Whether they are different images or boxes; where these lie does not count."""
    if before is None or now is None:
        return before is not now
    return (before["data"], before["pictures"]) != (now["data"], now["pictures"])
