"""The checksum of TensorFlow's files: CRC-32C, masked. numpy only.

A byte at a time is hopeless for 660 MB in Python. So the bytes are cut into lanes of equal length, the registers of
all lanes advance together, and the lanes are joined: a CRC is linear, so that the register of `ab` is that of `a`
followed by as many zero bytes as `b` has, plus (exclusive or) that of `b` begun at zero.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

POLYNOMIAL = 0x82F63B78  # reversed
MASK_DELTA = 0xA282EAD8
MAX_LANES = 1 << 16


def masked_crc32c(data: memoryview | bytes | np.ndarray) -> int:
    """The checksum as TensorFlow stores it: turned by 15 bits and moved, so that it can stand in what it checks."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + MASK_DELTA) & 0xFFFFFFFF


def crc32c(data: memoryview | bytes | np.ndarray) -> int:
    """CRC-32C (Castagnoli) of bytes.

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    content = np.frombuffer(data, np.uint8)
    lanes = 1
    while lanes < MAX_LANES and content.size // lanes > 256:
        lanes *= 2
    length = content.size // lanes
    body, rest = content[: lanes * length].reshape(lanes, length), content[lanes * length :]
    registers = np.zeros(lanes, np.uint32)
    registers[0] = 0xFFFFFFFF
    for column in body.T:
        registers = _advance(registers, column)
    while registers.size > 1:  # neighbours are joined; the right one is `length` bytes long
        registers = _apply(_zero_bytes(length), registers[0::2]) ^ registers[1::2]
        length *= 2
    for byte in rest:
        registers = _advance(registers, byte)
    return int(registers[0]) ^ 0xFFFFFFFF


@lru_cache(maxsize=1)
def _byte_table() -> np.ndarray:
    """(256,): what a byte in the register's low end becomes after eight steps."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(POLYNOMIAL), table >> 1).astype(np.uint32)
    return table


def _advance(registers: np.ndarray, byte: np.ndarray) -> np.ndarray:
    return registers >> 8 ^ _byte_table()[(registers ^ byte) & 0xFF]


def _apply(matrix: np.ndarray, registers: np.ndarray) -> np.ndarray:
    """A linear map of registers over GF(2): `matrix` (32,) holds the image of each bit."""
    result = np.zeros_like(registers)
    for bit in range(32):
        result ^= np.where(registers >> bit & 1, matrix[bit], np.uint32(0))
    return result


def _zero_bytes(count: int) -> np.ndarray:
    """(32,): what `count` zero bytes make of each bit of a register, by repeated squaring."""
    power = _advance(np.uint32(1) << np.arange(32, dtype=np.uint32), np.uint32(0))  # one zero byte
    result = np.uint32(1) << np.arange(32, dtype=np.uint32)
    while count:
        if count & 1:
            result = _apply(power, result)
        power, count = _apply(power, power), count >> 1
    return result
