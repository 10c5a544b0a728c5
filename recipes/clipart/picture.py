"""One drawing as a small square picture: cropped to its content, on white, 96 pixels."""

from __future__ import annotations

from PIL import Image

SIDE = 96


def square(image: Image.Image, side: int = SIDE) -> Image.Image:
    """Gives the drawing as an RGB picture of `side` x `side` pixels.

    The transparent border is cut off, what stays transparent becomes white, and white bars make it
    square. Opaque pictures are never cropped: the white of a flag is content.

    Args:
        image: A drawing in any mode that Pillow converts to RGBA.
        side: Width and height of the result in pixels.
    """
    rgba = image.convert("RGBA")
    content = rgba.getchannel("A").getbbox()
    if content is not None:
        rgba = rgba.crop(content)
    flat = Image.new("RGB", rgba.size, "white")
    flat.paste(rgba, mask=rgba.getchannel("A"))
    scale = side / max(flat.size)
    width, height = (max(1, round(length * scale)) for length in flat.size)
    small = flat.resize((width, height), Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (side, side), "white")
    canvas.paste(small, ((side - width) // 2, (side - height) // 2))
    return canvas
