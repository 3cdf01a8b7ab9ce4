"""A moving picture: a comment travels between two editors, from frames of two real windows."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Page, expect

from docs.pictures.palettes import Palette, opened
from docs.pictures.scenes import LANDING
from docs.pictures.stage import FONTS, Stage

WIDTH, HEIGHT, HEAD, GAP = 470, 780, 34, 14
QUESTION, ANSWER = "The new prices are in. Can it go live?", "Yes, tomorrow at nine."
KEYS_A_FRAME, KEYS_MS = 4, 160


class Frame(NamedTuple):
    """Both windows at one moment, and for how long that is shown."""

    left: bytes
    right: bytes
    milliseconds: int


def two_editors(running: Stage) -> bytes:
    """Alice asks, Bob sees it and answers. An animated PNG, which browsers show as they show any."""
    frames = [(_beside(frame), frame.milliseconds) for frame in _frames(running)]
    sheet = Image.new("RGB", (frames[0][0].width, frames[0][0].height * 2))
    for place, picture in enumerate((frames[0][0], frames[-1][0])):
        sheet.paste(picture, (0, place * picture.height))
    # One palette for all, so that what stays the same is the same in every frame, and costs nothing.
    palette = Palette(sheet)
    pictures = [palette.reduced(picture) for picture, _ in frames]
    out = io.BytesIO()
    pictures[0].save(
        out,
        "PNG",
        save_all=True,
        append_images=pictures[1:],
        duration=[shown for _, shown in frames],
        loop=0,
        optimize=True,
    )
    return out.getvalue()


def _frames(running: Stage) -> Iterator[Frame]:
    left, right = (_opened(running, user) for user in ("alice", "bob"))

    def now(milliseconds: int) -> Frame:
        return Frame(left.screenshot(caret="initial"), right.screenshot(caret="initial"), milliseconds)

    def typed(page: Page, text: str) -> Iterator[Frame]:
        page.get_by_role("textbox", name="Reply").click()
        yield now(500)
        for start in range(0, len(text), KEYS_A_FRAME):
            page.keyboard.type(text[start : start + KEYS_A_FRAME])
            yield now(KEYS_MS)

    yield now(900)
    yield from typed(left, QUESTION)
    left.keyboard.press("Control+Enter")
    expect(right.get_by_text(QUESTION)).to_be_visible()
    expect(left.locator(".body", has_text=QUESTION)).to_be_visible()
    yield now(1800)
    yield from typed(right, ANSWER)
    right.keyboard.press("Control+Enter")
    expect(left.get_by_text(ANSWER)).to_be_visible()
    expect(right.locator(".body", has_text=ANSWER)).to_be_visible()
    yield now(3000)


def _opened(running: Stage, user: str) -> Page:
    page = running.window(user, viewport={"width": WIDTH, "height": HEIGHT}).new_page()
    page.goto(f"{running.served.url}/{LANDING}")
    expect(page.get_by_role("textbox", name="Reply")).to_be_visible()
    expect(page.locator(".item").first).to_be_visible()
    page.locator(".conversation").evaluate("part => scrollTo(0, part.getBoundingClientRect().top + scrollY - 16)")
    return page


def _beside(frame: Frame) -> Image.Image:
    """Both windows, each under the name of who sits before it."""
    picture = Image.new("RGB", (WIDTH * 2 + GAP, HEIGHT + HEAD), "#dde2e9")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.truetype(str(next(FONTS.rglob("Inter-SemiBold.otf"))), 16)
    for place, (name, png) in enumerate((("Alice", frame.left), ("Bob", frame.right))):
        start = place * (WIDTH + GAP)
        draw.text((start + WIDTH / 2, HEAD / 2), name, fill="#1c2430", font=font, anchor="mm")
        picture.paste(opened(png), (start, HEAD))
    return picture
