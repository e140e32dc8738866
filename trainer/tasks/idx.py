"""IDX files: the big-endian array format of the MNIST family, read with numpy."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trainer.part import Refused

UNSIGNED_BYTE = 0x08


def read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """An array of unsigned bytes from an IDX file, gzipped or not. Raises Refused when damaged.

    Format: two zero bytes, a type byte, the number of dimensions, each size as a big-endian
    uint32, then the values (Yann LeCun, "The MNIST database").
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zero, kind, dimensions = struct.unpack_from(">HBB", content)
        shape = struct.unpack_from(f">{dimensions}I", content, 4)
        # refuses sizes that are not those of what follows
        values = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except (OSError, EOFError, zlib.error, struct.error, ValueError) as error:
        raise Refused(f"{path} is damaged ({error}); delete it and fetch it again") from error
    if zero != 0 or kind != UNSIGNED_BYTE:
        raise Refused(f"{path} is no IDX file of unsigned bytes; delete it and fetch it again")
    return values
