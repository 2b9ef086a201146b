"""A picture from somebody unknown: looked at before it is decoded, so that a small file cannot become a huge picture.

Formats: PNG (ISO/IEC 15948, 5.2 and 11.2), JPEG (ITU-T T.81, annex B), WebP (RFC 9649).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset([0x01, *range(0xD0, 0xD9)])
_MOST_SCANS = 100


class PictureRefused(Exception):
    """In one line. `too_large`: a size is beyond its limit, else the file is wrong."""

    def __init__(self, reason: str, too_large: bool = False) -> None:
        super().__init__(reason)
        self.too_large = too_large


def picture_from_upload(data: bytes, max_megapixels: float) -> NDArray[np.uint8]:
    """(H, W, 3) BGR, upright. Decodes only what its header says is small enough. Raises PictureRefused."""
    width, height = size_wh(data)
    if width * height > max_megapixels * 1e6:
        raise PictureRefused(f"a picture of {width} x {height}: wanted at most {max_megapixels:g} megapixels", too_large=True)
    try:
        picture = cv2.imdecode(np.frombuffer(_critical_chunks(data) if data.startswith(_PNG) else data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise PictureRefused("a picture that cannot be decoded") from error
    if picture is None or picture.dtype != np.uint8 or sorted(picture.shape[:2]) != sorted((height, width)):
        raise PictureRefused("a picture that cannot be decoded")
    return picture.astype(np.uint8, copy=False)


def size_wh(data: bytes) -> tuple[int, int]:
    """What the header says. Raises PictureRefused."""
    try:
        if data.startswith(_PNG):
            size = _png_size(data)
        elif data.startswith(b"\xff\xd8\xff"):
            size = _jpeg_size(data)
        elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            size = _webp_size(data)
        else:
            raise PictureRefused("no picture: wanted the bytes of a JPEG, PNG or WebP file")
    except (struct.error, IndexError) as error:
        raise PictureRefused("a picture whose header is cut short") from error
    if min(size) < 1:
        raise PictureRefused(f"a picture of {size[0]} x {size[1]}")
    return size


def _png_size(data: bytes) -> tuple[int, int]:
    kind, width, height = struct.unpack_from(">4sII", data, 12)
    if kind != b"IHDR":
        raise PictureRefused("a PNG picture without its header")
    return width, height


def _critical_chunks(data: bytes) -> bytes:
    """A PNG file without what is not its picture: texts and profiles are compressed too, and animations many pictures."""
    kept, at = [_PNG], len(_PNG)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind in _PNG_KEPT:
            kept.append(data[at : at + 12 + length])
        at += 12 + length
    return b"".join(kept)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Every scan of a progressive file goes over all of its pixels, so their number is limited; 10 are usual."""
    scans = data.count(b"\xff\xda")
    if scans > _MOST_SCANS:
        raise PictureRefused(f"a JPEG picture of {scans} scans: wanted at most {_MOST_SCANS}", too_large=True)
    for marker, at in _jpeg_segments(data):
        if marker in _FRAME_HEADERS:
            height, width = struct.unpack_from(">HH", data, at + 3)
            return width, height
    raise PictureRefused("a JPEG picture without a frame header")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """(marker, where its length stands) up to the first scan. What stands between segments is skipped, as decoders do."""
    at = 2
    while True:
        at = data.find(b"\xff", at)
        while at >= 0 and data[at] == 0xFF:
            at += 1
        if at < 0 or data[at] == 0xDA:
            return
        marker, at = data[at], at + 1
        if marker in _ALONE or marker == 0:
            continue
        yield marker, at
        at += struct.unpack_from(">H", data, at)[0]


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise PictureRefused("a WebP picture without its size")
