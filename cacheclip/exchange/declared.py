"""What the headers of a .npz file say of its arrays, before any of these is in memory.

A file of a megabyte can hold zeros that unpack to gigabytes, and a header can say anything.
"""

import math
import tokenize
import zipfile
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

RATIO = 1032  # the most bytes that one byte of a deflated file unpacks to
LONGEST = 10_000  # bytes of a header that NumPy reads


def declared(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """An array as its header has it: its shape and type, and no memory for its values.

    Raises:
        ValueError: there is no such header, or it says more than the file can hold.
        zipfile.BadZipFile: the archive is damaged.
    """
    member = archive.getinfo(name)
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("it is packed in another way than NumPy's")
    with archive.open(member) as file:
        try:
            shape, _, dtype = header(file)
        except (tokenize.TokenError, RecursionError, MemoryError, SyntaxError) as error:
            raise ValueError(f"its header is none: {error}") from None
    if any(size < 0 for size in shape):
        raise ValueError("negative dimensions are not allowed")
    packed = member.compress_size
    held = packed if member.compress_type == zipfile.ZIP_STORED else RATIO * packed
    held, wanted = min(held, member.file_size), math.prod(shape) * dtype.itemsize
    if wanted > held and not dtype.hasobject:
        raise ValueError(
            f"its header says {list(shape)} of {dtype}, {wanted:,} bytes, and the file holds "
            f"{held:,} at most"
        )
    return np.broadcast_to(np.zeros((), dtype), shape)


def header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and type of a .npy file, which is read on from its values.

    Raises:
        ValueError: there is no such header.
    """
    version = npy.read_magic(file)
    size = 2 if version == (1, 0) else 4
    start = file.read(size)
    if int.from_bytes(start, "little") > LONGEST:
        raise ValueError(f"its header is longer than {LONGEST:,} bytes")
    file.seek(npy.MAGIC_LEN)
    # Version 3 differs from 2 in the letters that the names of fields may have.
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    return read(file)
