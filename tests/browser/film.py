"""A short film of the page, made of real screenshots."""

from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image


class Film:
    """Pictures of a page, each with the seconds it stands still."""

    def __init__(self, page: Any) -> None:
        self._page = page
        self._pictures: list[Image.Image] = []
        self._seconds: list[float] = []

    @property
    def seconds(self) -> float:
        return sum(self._seconds)

    async def shoot(self, seconds: float) -> None:
        self._pictures.append(Image.open(BytesIO(await self._page.screenshot())).convert("RGB"))
        self._seconds.append(seconds)

    def develop(self, path: Path) -> None:
        """Write an animated WebP."""
        first, *others = self._pictures
        durations = [round(1000 * seconds) for seconds in self._seconds]
        first.save(path, save_all=True, append_images=others, duration=durations, loop=0, quality=80, method=3)
