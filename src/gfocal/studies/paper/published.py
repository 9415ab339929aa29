"""What the paper prints, in percent (arXiv 2006.04388, Tables 1-3: ResNet-50, COCO minival, 12 epochs)."""

from __future__ import annotations

from typing import Literal, get_args

Column = Literal["AP", "AP50", "AP75", "APs", "APm", "APl"]
COLUMNS: tuple[Column, ...] = get_args(Column)

Figures = dict[str, float]


def _six(text: str) -> Figures:
    """Figures in the order of :data:`COLUMNS`; tables 1c and 3 print the first three."""
    return dict(zip(COLUMNS, map(float, text.split()), strict=False))


TABLE_1A: dict[str, Figures] = {
    "fcos-none": _six("37.8 56.2 40.8 21.2 42.1 48.2"),
    "fcos-centerness": _six("38.5 56.8 41.6 22.4 42.4 49.1"),
    "fcos-iou": _six("38.7 56.7 42.0 21.6 43.0 50.3"),
    "fcos-centerness_guided": _six("37.9 56.7 40.7 21.2 42.1 49.4"),
    "fcos-iou_guided": _six("38.2 57.0 41.1 22.5 42.2 48.9"),
    "fcos-joint": _six("39.0 57.8 41.9 22.0 43.1 51.0"),
    "atss-none": _six("38.0 56.5 40.7 20.6 42.1 49.1"),
    "atss-centerness": _six("39.2 57.4 42.2 23.0 42.8 51.1"),
    "atss-iou": _six("39.6 57.6 43.0 23.3 43.7 51.2"),
    "atss-centerness_guided": _six("38.2 56.2 41.0 21.5 41.9 49.7"),
    "atss-iou_guided": _six("38.9 57.4 41.8 22.8 42.4 50.6"),
    "atss-joint": _six("39.9 58.5 43.0 22.4 43.9 52.7"),
}
TABLE_1B: dict[str, Figures] = {
    "foveabox": _six("36.4 55.8 38.8 19.4 40.4 47.7"),
    "foveabox-joint": _six("37.0 55.7 39.6 20.2 41.2 48.8"),
    "retinanet": _six("35.6 55.5 38.1 20.1 39.4 46.8"),
    "retinanet-joint": _six("36.4 56.3 39.1 20.4 40.0 48.7"),
    "ssd": _six("29.4 49.1 30.6 11.4 34.1 44.9"),
    "ssd-joint": _six("30.2 50.3 31.7 13.3 34.4 45.5"),
}
TABLE_1C: dict[str, Figures] = {
    "beta-0": _six("37.6 55.4 40.3"),
    "beta-1": _six("39.0 58.1 41.7"),
    "beta-2": _six("39.9 58.5 43.0"),
    "beta-2.5": _six("39.7 58.1 42.7"),
    "beta-4": _six("38.2 55.4 41.6"),
}
TABLE_2A: dict[str, Figures] = {
    "fcos-dirac": _six("38.5 56.8 41.6 22.4 42.4 49.1"),
    "fcos-gaussian": _six("38.6 56.5 41.6 21.7 42.5 50.0"),
    "fcos-general": _six("38.8 56.6 42.0 22.5 42.9 49.8"),
    "fcos-general_dfl": _six("39.0 57.0 42.3 22.6 43.0 50.6"),
    "atss-dirac": _six("39.2 57.4 42.2 23.0 42.8 51.1"),
    "atss-gaussian": _six("39.3 57.0 42.4 23.6 42.9 51.0"),
    "atss-general": _six("39.3 57.1 42.5 23.5 43.0 51.2"),
    "atss-general_dfl": _six("39.5 57.3 42.8 23.6 43.2 51.2"),
}
TABLE_2B: dict[str, Figures] = {
    "n-12": _six("40.1 58.4 43.1 23.1 43.8 52.5"),
    "n-14": _six("40.2 58.3 43.6 23.3 44.2 52.2"),
    "n-16": _six("40.2 58.6 43.4 23.0 44.3 53.0"),
    "n-18": _six("40.1 58.1 43.1 22.6 43.9 52.6"),
}
TABLE_2C: dict[str, Figures] = {
    "delta-0.5": _six("40.2 58.4 43.0 22.3 43.8 53.1"),
    "delta-1": _six("40.2 58.6 43.4 23.0 44.3 53.0"),
    "delta-2": _six("39.9 58.3 42.9 22.5 43.8 51.8"),
    "delta-4": _six("39.8 58.5 42.8 22.8 43.4 52.3"),
}
TABLE_3: dict[str, Figures] = {
    "atss": _six("39.2 57.4 42.2") | {"fps": 19.4},
    "atss-qfl": _six("39.9 58.5 43.0") | {"fps": 19.4},
    "atss-dfl": _six("39.5 57.3 42.8") | {"fps": 19.4},
    "gfl": _six("40.2 58.6 43.4") | {"fps": 19.4},
}
