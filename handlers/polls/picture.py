"""The picture of a result: a bar for each option, with numbers only, so that it needs no font for any script."""

from collections.abc import Sequence
from io import BytesIO

WIDTH, LINE, MARGIN = 960, 64, 24
NUMBERS, AMOUNTS = 64, 200
"""Room for the options' numbers on the left, and for the amounts on the right, in pixels."""

INK, BLUE, PALE = "#1b1b1b", "#1d5fa8", "#e6ecf3"


def bars(amounts: Sequence[int]) -> bytes:
    """A PNG with one bar for each amount, numbered from 1; the words stand in the message it comes with."""
    from PIL import Image, ImageDraw, ImageFont  # only whoever draws pays for it: 10 MiB

    font = ImageFont.load_default(size=30)
    image = Image.new("RGB", (WIDTH, 2 * MARGIN + LINE * len(amounts)), "white")
    draw = ImageDraw.Draw(image)
    left, right, most = MARGIN + NUMBERS, WIDTH - MARGIN - AMOUNTS, max(*amounts, 1)
    for place, amount in enumerate(amounts):
        top = MARGIN + LINE * place
        middle = top + LINE // 2
        draw.text((MARGIN, middle), f"{place + 1}", fill=INK, font=font, anchor="lm")
        draw.rectangle((left, top + 10, right, top + LINE - 10), fill=PALE)
        if amount:
            end = left + max(4, round((right - left) * amount / most))
            draw.rectangle((left, top + 10, end, top + LINE - 10), fill=BLUE)
        draw.text((right + 16, middle), f"{amount}", fill=INK, font=font, anchor="lm")
    file = BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()
