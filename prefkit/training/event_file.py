"""TensorBoard's event file, written without TensorBoard: scalars only.

The format is a sequence of TFRecords (length, its checksum, bytes, their checksum) of protocol
buffer messages ``tensorflow.Event`` (tensorboard/compat/proto/event.proto and summary.proto). It is
small and stable, and writing it here spares a trainer the server's dependencies; `tensorboard`
itself is only needed to look.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

# TensorBoard takes every file with "tfevents" in its name for one of a run; the end is our own.
EVENTS = "events.out.tfevents.{}.prefkit"
_POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), reflected
_VERSION = b"brain.Event:2"
_LARGEST = 3.4028234663852886e38  # of single precision; a KL that overflowed is drawn there


class EventFile:
    """Appends scalars to one new event file in ``folder``; every call is flushed.

    Close it, or use it in a ``with`` block. OSError where the disk does not take it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        started = time.time()
        self.path = folder / EVENTS.format(f"{started:.6f}")
        self._file = open(self.path, "xb")  # noqa: SIM115 closed by close()
        self._append(_double(1, started) + _bytes(3, _VERSION))

    def scalars(self, step: int, values: Mapping[str, float], *, at: float | None = None) -> None:
        """Write ``values`` by tag for ``step``; ``at`` is the wall time in seconds, now if None."""
        summary = b"".join(
            _bytes(1, _bytes(1, tag.encode()) + _float(2, value)) for tag, value in values.items()
        )
        moment = time.time() if at is None else at
        self._append(_double(1, moment) + _varint(2 << 3) + _varint(step) + _bytes(5, summary))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> EventFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _append(self, event: bytes) -> None:
        length = struct.pack("<Q", len(event))
        self._file.write(length + _checksum(length) + event + _checksum(event))
        self._file.flush()


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | 1) + struct.pack("<d", value)


def _float(field: int, value: float) -> bytes:
    return _varint(field << 3 | 5) + struct.pack("<f", max(-_LARGEST, min(_LARGEST, value)))


def _checksum(data: bytes) -> bytes:
    """CRC-32C, rotated and shifted as the record format wants it ("masked")."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _table() -> tuple[int, ...]:
    found: list[int] = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (_POLYNOMIAL if byte & 1 else 0)
        found.append(byte)
    return tuple(found)


_TABLE = _table()
