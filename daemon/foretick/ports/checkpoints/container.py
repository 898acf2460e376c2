"""The bytes of a checkpoint: a safetensors file whose last tensor is a checksum of everything before it.

    8 bytes     length of the header, little-endian
    header      JSON: name -> dtype, shape, offsets of each array; in `__metadata__` one entry `foretick`, itself JSON
    arrays      one after another, widest elements first, so that each is aligned
    32 bytes    checksum of all that stands before them; the header calls them the array `checksum`

The checksum is BLAKE2b of the CRC-32 of each MiB: so a container of a gigabyte is read at the speed of the CRC, five
times that of BLAKE2b alone, which sealed earlier containers and is still taken.

Nothing in here can run code when it is read. The checksum is compared before anything is parsed, and every length is
compared with the bytes that are there before it is used.
"""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from foretick.errors import CheckpointUnsound

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

SCHEMA = 2  # goes up when the meaning of what is stored changes; other ones are refused
HEADER_MAX_BYTES = 32 << 20  # the positions of 100,000 streams take about 15 MB
PIECE_BYTES = 1 << 20  # written at a time, so that a stop is noticed in between; and summed at a time
CHECKSUM = "checksum"
_CHECKSUM_BYTES = 32
_LENGTH_BYTES = 8
_DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_DIMENSIONS_MAX = 8  # ours have four at most


class Packed:
    """Arrays and values, laid out as bytes but not copied yet.

    Args:
        arrays: by name; they must not change until the last piece is taken.
        facts: JSON values; the schema is added, where they name none.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
        self._arrays = sorted(arrays.items(), key=lambda item: -item[1].dtype.itemsize)
        self._header = _header(self._arrays, {"schema": SCHEMA, **facts})
        self.size_bytes = len(self._header) + sum(array.nbytes for _, array in self._arrays) + _CHECKSUM_BYTES

    def pieces(self) -> Iterator[memoryview]:
        """The bytes in order, some at a time; the checksum is computed on the way."""
        checksum = Checksum()
        for part in (memoryview(self._header), *(_bytes_of(array) for _, array in self._arrays)):
            for begin in range(0, len(part), PIECE_BYTES):
                piece = part[begin : begin + PIECE_BYTES]
                checksum.add(piece)
                yield piece
        yield memoryview(checksum.digest())


class Checksum:
    """Of bytes that come in pieces of any size: damage goes unnoticed once in 2^32 times."""

    def __init__(self) -> None:
        self._sums = hashlib.blake2b(digest_size=_CHECKSUM_BYTES)
        self._crc = 0
        self._summed = 0  # bytes of the MiB that is not full yet

    def add(self, piece: memoryview) -> None:
        """Take in the next bytes."""
        while piece:
            part, piece = piece[: PIECE_BYTES - self._summed], piece[PIECE_BYTES - self._summed :]
            self._crc = zlib.crc32(part, self._crc)
            self._summed += len(part)
            if self._summed == PIECE_BYTES:
                self._sums.update(self._crc.to_bytes(4, "little"))
                self._crc = self._summed = 0

    def digest(self) -> bytes:
        """The checksum; nothing can be added any more."""
        self._sums.update(self._crc.to_bytes(4, "little"))
        return self._sums.digest()


@dataclass(frozen=True, slots=True)
class Contents:
    """What a checkpoint holds.

    Attributes:
        arrays: by name, read-only views of its bytes.
        facts: JSON values.
    """

    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Any]


def unpack(raw: bytes | bytearray | memoryview, schema: int = SCHEMA, kind: str | None = None) -> Contents:
    """The contents of a checkpoint, or of another kind of file of this form, with a schema of its own.

    Raises:
        CheckpointUnsound: these bytes are of another kind, damaged, or of another schema.
    """
    raw = memoryview(raw).toreadonly()
    if len(raw) < _LENGTH_BYTES + _CHECKSUM_BYTES:
        raise CheckpointUnsound(f"it is cut off: {len(raw)} bytes")
    body = raw[:-_CHECKSUM_BYTES]
    if not _is_whole(body, raw[-_CHECKSUM_BYTES:]):
        raise CheckpointUnsound("its checksum does not fit: it is cut off or damaged")
    length = int.from_bytes(raw[:_LENGTH_BYTES], "little")
    if length > min(HEADER_MAX_BYTES, len(body) - _LENGTH_BYTES):
        raise CheckpointUnsound(f"its header is said to be {length} bytes long")
    tensors = _json(bytes(raw[_LENGTH_BYTES : _LENGTH_BYTES + length]))
    metadata = tensors.pop("__metadata__", None)
    if not isinstance(metadata, dict) or not isinstance(metadata.get("foretick"), str):
        raise CheckpointUnsound("it was not written by foretick")
    facts = _json(metadata["foretick"])
    if (found := facts.get("kind")) != kind:
        raise CheckpointUnsound("it is a checkpoint" if found is None else f"it holds {found!r:.20}")
    _check_schema(facts.get("schema"), schema)
    return Contents(_arrays(tensors, raw[_LENGTH_BYTES + length :]), facts)


def _is_whole(body: memoryview, expected: memoryview) -> bool:
    checksum = Checksum()
    checksum.add(body)
    return checksum.digest() == expected or hashlib.blake2b(body, digest_size=_CHECKSUM_BYTES).digest() == expected


def _check_schema(schema: object, ours: int) -> None:
    if schema != ours or isinstance(schema, bool):
        age = "a newer" if isinstance(schema, int) and schema > ours else "an older or unknown"
        raise CheckpointUnsound(f"it has {age} schema ({schema!r:.20}); this foretick reads {ours}")


def _header(arrays: list[tuple[str, NDArray[Any]]], facts: dict[str, Any]) -> bytes:
    tensors: dict[str, Any] = {"__metadata__": {"foretick": json.dumps(facts, separators=(",", ":"))}}
    offset = 0
    for name, array in arrays:
        end = offset + array.nbytes
        tensors[name] = {"dtype": _NAMES[array.dtype], "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    end = offset + _CHECKSUM_BYTES
    tensors[CHECKSUM] = {"dtype": "U8", "shape": [_CHECKSUM_BYTES], "data_offsets": [offset, end]}
    text = json.dumps(tensors, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > HEADER_MAX_BYTES:
        raise ValueError(f"a header of {len(text)} bytes could not be read again")
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def _bytes_of(array: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _json(text: bytes | str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointUnsound(f"its header is no JSON: {error}"[:200]) from error
    if not isinstance(value, dict):
        raise CheckpointUnsound("its header is no JSON object")
    return value


def _arrays(tensors: dict[str, Any], raw: memoryview) -> dict[str, NDArray[Any]]:
    """The arrays, which have to lie one behind the other and fill the bytes to the last."""
    found: dict[str, NDArray[Any]] = {}
    end = 0
    for name, entry in tensors.items():
        dtype, shape, begin, stop = _entry(name, entry)
        if begin != end or stop > len(raw) or math.prod(shape) * dtype.itemsize != stop - begin:
            raise CheckpointUnsound(f"its array {name!r:.80} does not lie where it should")
        found[name] = np.frombuffer(raw[begin:stop], dtype).reshape(shape)
        end = stop
    if end != len(raw) or CHECKSUM not in found:
        raise CheckpointUnsound(f"{len(raw) - end} bytes belong to none of its arrays")
    del found[CHECKSUM]
    return found


def _entry(name: str, entry: object) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(begin), int(stop)]} if (
            dtype in _DTYPES
            and len(shape) <= _DIMENSIONS_MAX
            and all(isinstance(n, int) and n >= 0 for n in shape)
            and 0 <= begin <= stop
        ):
            return _DTYPES[dtype], tuple(shape), begin, stop
    raise CheckpointUnsound(f"its array {name!r:.80} is described wrongly")
