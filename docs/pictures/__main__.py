"""Photographs every page, light and dark, narrow and wide, into docs/img/.

    python -m docs.pictures [--only bell --only item] [--into FOLDER] [--whole]

Needs Chromium, nginx, and the extra `pictures`. To look at a change before and after, give another folder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.processes import ROOT
from docs.pictures.moving import two_editors
from docs.pictures.palettes import small
from docs.pictures.scenes import MOVING, SCENES, SIZES, THEMES, Themes, prepare
from docs.pictures.stage import Stage, stage


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", choices=(MOVING, *SCENES), help="only this; may be repeated")
    parser.add_argument("--into", type=Path, default=ROOT / "docs" / "img", metavar="FOLDER")
    parser.add_argument("--whole", action="store_true", help="whole pages, beyond what a window shows of them")
    parser.add_argument("--light", action="store_true", help="no dark ones")
    arguments = parser.parse_args()
    arguments.into.mkdir(parents=True, exist_ok=True)
    with stage() as running:
        names = arguments.only or [MOVING, *SCENES]
        # First, for it is about the demo content as it is.
        if MOVING in names:
            written(arguments.into / f"{MOVING}.png", two_editors(running))
        prepare(running)
        for name in (name for name in names if name != MOVING):
            for variant, png in photographs(running, name, whole=arguments.whole, themes=THEMES[: 2 - arguments.light]):
                written(arguments.into / f"{name}-{variant}.png", small(png))
    return 0


def photographs(running: Stage, name: str, *, whole: bool, themes: Themes = THEMES) -> Iterator[tuple[str, bytes]]:
    """One scene in all its variants."""
    for size, (width, height) in SIZES.items():
        window = running.window("bob", viewport={"width": width, "height": height})
        page = SCENES[name](running, window)
        for theme in themes:
            page.emulate_media(color_scheme=theme)
            yield (
                f"{size}-{theme}",
                page.screenshot(full_page=whole and name != "api", animations="disabled", caret="hide"),
            )
        window.set_offline(False)
        page.close()
        window.close()


def written(path: Path, png: bytes) -> None:
    """Keep a picture, and say so."""
    path.write_bytes(png)
    print(f"{path.name}: {len(png):,} bytes", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
