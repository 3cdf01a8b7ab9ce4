"""Makes pictures of pages small: 256 colours, of which those of the large areas are exact."""

from __future__ import annotations

import io

from PIL import Image

Colour = tuple[int, int, int]

EXACT = 64
"""So many colours, the most frequent ones, are kept as they are: a ground that is off by a little is seen."""


def small(png: bytes) -> bytes:
    """The same picture in 256 colours."""
    picture = opened(png)
    out = io.BytesIO()
    Palette(picture).reduced(picture).save(out, "PNG", optimize=True)
    return out.getvalue()


def opened(png: bytes) -> Image.Image:
    """The pixels, without transparency."""
    return Image.open(io.BytesIO(png)).convert("RGB")


class Palette:
    """256 colours for a picture, and for others like it."""

    def __init__(self, picture: Image.Image) -> None:
        frequent = [colour for _count, colour in sorted(_counted(picture), reverse=True)[:EXACT]]
        rest = picture.quantize(256 - len(frequent), method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        values = rest.getpalette() or []
        self._colours = [*frequent, *zip(values[0::3], values[1::3], values[2::3], strict=True)]
        self._places: dict[Colour, int] = {}

    def reduced(self, picture: Image.Image) -> Image.Image:
        """The picture, each pixel in the nearest of these colours. Pillow itself takes one that is only near."""
        for _count, colour in _counted(picture):
            if colour not in self._places:
                distances = [_distance(ours, colour) for ours in self._colours]
                self._places[colour] = distances.index(min(distances))
        values = iter(picture.tobytes())
        pixels = bytes(self._places[pixel] for pixel in zip(values, values, values, strict=True))
        out = Image.frombytes("P", picture.size, pixels)
        out.putpalette([value for colour in self._colours for value in colour])
        return out


def _counted(picture: Image.Image) -> list[tuple[int, Colour]]:
    return picture.getcolors(picture.width * picture.height) or []


def _distance(one: Colour, other: Colour) -> int:
    return (one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2 + (one[2] - other[2]) ** 2
