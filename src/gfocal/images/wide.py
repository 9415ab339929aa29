"""Pixels of more than 8 bits a channel from Pillow, which shows colours of 16 bits as 8; and what TIFF files hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gfocal.images.depth import DepthError
from gfocal.images.file_types import Foreign
from gfocal.images.orientation import ORIENTATION, TIFF_HEADS, tiff_entries

if TYPE_CHECKING:
    from PIL import Image

# For each way in which Pillow reads 16-bit colours, the way that gives the other byte of each value instead: Pillow
# keeps the upper one alone. ("N", of libtiff, is the order of the machine: the lower byte first wherever torch runs.)
_OTHER_BYTE = {
    f"{mode};16{order}": f"{mode};16{'L' if order == 'B' else 'B'}"
    for mode in ("RGB", "RGBA", "RGBX")
    for order in "BLN"
}
_BITS, _SAMPLES, _FORMAT, _XMP = 258, 277, 339, 700  # tags of TIFF
_FORMATS = {2: "signed ", 3: "floating-point ", 5: "complex ", 6: "complex "}
_XMP_NAME = b"tiff:Orientation"


def grey_values(image: Image.Image) -> np.ndarray | None:
    """(H, W) uint16, int32, uint32 or float32 values of a grey image with more than 8 bits; None of others."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode == "I":
        unsigned = raw_modes(image) == {"I;32N"}
        pixels = np.asarray(image)
        # Pillow brings PGM files to 16 bits, whatever their largest value; older ones opened such PNG files so, too.
        if image.format in ("PNG", "PPM"):
            return pixels.astype(np.uint16)
        return pixels.view(np.uint32) if unsigned else pixels
    return np.asarray(image) if image.mode == "F" else None


def has_wide_colours(image: Image.Image) -> bool:
    """Whether an image that is not loaded yet has colours, or grey and alpha, of 16 bits."""
    return image.mode[0] not in "IF" and any(";16" in raw and not raw.startswith("BGR") for raw in raw_modes(image))


def wide_colours(image: Image.Image, again: Image.Image) -> np.ndarray:
    """The 16-bit values of an image of which :func:`has_wide_colours` is true.

    Args:
        image, again: one file, opened twice and not loaded.

    Returns:
        (H, W, 3) uint16 RGB, or (H, W) grey; alpha is dropped.

    Raises:
        DepthError: Pillow gives only the upper bytes of this form.
    """
    raw = raw_modes(image)
    if raw == {"LA;16B"}:  # Read as four channels of 8 bits: both bytes of grey, both bytes of alpha.
        _set_raw_mode(image, "RGBA")
        four = np.asarray(image).astype(np.uint16)
        return four[..., 0] << 8 | four[..., 1]
    other = _OTHER_BYTE.get(raw.pop()) if len(raw) == 1 else None
    if other is None:
        raise DepthError("has 16-bit colours of a kind that is only read with data.range=type")
    _set_raw_mode(again, other)
    upper, lower = (np.asarray(one)[..., :3].astype(np.uint16) for one in (image, again))
    return upper << 8 | lower


def raw_modes(image: Image.Image) -> set[str]:
    """How Pillow will read the parts of an image that it has not loaded yet, in its words; empty once it is loaded."""
    arguments = [tile[3] for tile in getattr(image, "tile", None) or () if tile[0] in ("raw", "zip", "libtiff")]
    return {args if isinstance(args, str) else str(args[0]) for args in arguments if args}


def _set_raw_mode(image: Image.Image, raw: str) -> None:
    # Plain tuples do for every version of Pillow.
    image.tile = [  # type: ignore[attr-defined]
        (*tile[:3], raw if isinstance(tile[3], str) else (raw, *tile[3][1:]))
        for tile in image.tile  # type: ignore[attr-defined]
    ]


def as_stored(data: bytes) -> bytes:
    """The content of a TIFF file without orientation, since Pillow turns TIFF files, and no others; others as given."""
    if data[:4] not in TIFF_HEADS:
        return data
    try:
        entries = tiff_entries(data, (ORIENTATION, _XMP))
    except ValueError:
        return data
    if not entries:
        return data
    changed = bytearray(data)
    if (entry := entries.get(ORIENTATION)) is not None and (size := entry.size):
        changed[entry.offset : entry.offset + size] = (1).to_bytes(size, entry.order)
    if (entry := entries.get(_XMP)) is not None:
        end = entry.offset + entry.length
        changed[entry.offset : end] = bytes(changed[entry.offset : end]).replace(_XMP_NAME, _XMP_NAME.swapcase())
    return bytes(changed)


def unread_tiff(data: bytes) -> Foreign | None:
    """What a TIFF file that Pillow does not open holds, as far as its directory says."""
    if data[:4] not in TIFF_HEADS:
        return None
    try:
        entries = tiff_entries(data, (_BITS, _SAMPLES, _FORMAT))
    except ValueError:
        return None
    if _BITS not in entries:
        return None
    bits = entries[_BITS].number(data)
    channels = entries[_SAMPLES].number(data) if _SAMPLES in entries else 1
    kind = _FORMATS.get(entries[_FORMAT].number(data), "") if _FORMAT in entries else ""
    many = "1 channel" if channels == 1 else f"{channels} channels"
    advice = "save it with 8 or 16 bits a channel, or grey with 32"
    return Foreign(f"a TIFF picture with {many} of {bits} {kind}bits", advice)
