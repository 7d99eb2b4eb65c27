"""CatBoost's hash of a category: the low 32 bits of CityHash64, version 1.0, of the text in UTF-8.

The algorithm is Google's (Geoff Pike and Jyrki Alakuijala, 2011). Later versions give other numbers.
"""

from __future__ import annotations

MASK = 2**64 - 1
K0 = 0xC3A5C85C97CB3127
K1 = 0xB492B66FBE98F273
K2 = 0x9AE16A3B2F90404F
K3 = 0xC949D7C7509E6557
MULTIPLIER = 0x9DDFEA08EB382D69


def category_hash(text: str) -> int:
    """CatBoost's 32-bit hash of a category's text."""
    return city64(text.encode()) & 0xFFFFFFFF


def fetch64(s: bytes, at: int) -> int:
    return int.from_bytes(s[at : at + 8], "little")


def fetch32(s: bytes, at: int) -> int:
    return int.from_bytes(s[at : at + 4], "little")


def rotate(value: int, shift: int) -> int:
    """64-bit rotation to the right; only the low 64 bits of `value` count."""
    value &= MASK
    return ((value >> shift) | (value << (64 - shift))) & MASK


def shift_mix(value: int) -> int:
    value &= MASK
    return value ^ (value >> 47)


def join(u: int, v: int) -> int:
    """64 bits from 128."""
    a = shift_mix((u ^ v) * MULTIPLIER)
    b = shift_mix((v ^ a) * MULTIPLIER)
    return b * MULTIPLIER & MASK


def weak(s: bytes, at: int, a: int, b: int) -> tuple[int, int]:
    """A quick hash of the 32 bytes from `at` with two seeds."""
    w, x, y, z = (fetch64(s, at + 8 * i) for i in range(4))
    a += w
    b = rotate(b + a + z, 21)
    c = a
    a += x + y
    b += rotate(a, 44)
    return (a + z) & MASK, (b + c) & MASK


def to_16(s: bytes) -> int:
    """Of at most 16 bytes."""
    n = len(s)
    if n > 8:
        b = fetch64(s, n - 8)
        return join(fetch64(s, 0), rotate(b + n, n)) ^ b
    if n >= 4:
        return join(n + (fetch32(s, 0) << 3), fetch32(s, n - 4))
    if n == 0:
        return K2
    y = s[0] + (s[n >> 1] << 8)
    z = n + (s[-1] << 2)
    return shift_mix(y * K2 & MASK ^ z * K3 & MASK) * K2 & MASK


def to_32(s: bytes) -> int:
    """Of 17 to 32 bytes."""
    n = len(s)
    a = fetch64(s, 0) * K1
    b = fetch64(s, 8)
    c = fetch64(s, n - 8) * K2
    d = fetch64(s, n - 16) * K0
    return join(
        (rotate(a - b, 43) + rotate(c, 30) + d) & MASK,
        (a + rotate(b ^ K3, 20) - c + n) & MASK,
    )


def half(s: bytes, a: int, z: int, at: int) -> tuple[int, int]:
    """One of the two sums over 33 to 64 bytes: the values at `at` and `at` + 8 go into `a`."""
    b = rotate(a + z, 52)
    c = rotate(a, 37)
    a += fetch64(s, at)
    c += rotate(a, 7)
    a += fetch64(s, at + 8)
    return a + z, b + rotate(a, 31) + c


def to_64(s: bytes) -> int:
    """Of 33 to 64 bytes."""
    n = len(s)
    v = half(s, fetch64(s, 0) + (n + fetch64(s, n - 16)) * K0, fetch64(s, 24), 8)
    w = half(s, fetch64(s, 16) + fetch64(s, n - 32), fetch64(s, n - 8), n - 24)
    r = shift_mix((v[0] + w[1]) * K2 + (w[0] + v[1]) * K0)
    return shift_mix(r * K0 + v[1]) * K2 & MASK


def city64(s: bytes) -> int:
    """CityHash64, version 1.0."""
    n = len(s)
    if n <= 16:
        return to_16(s)
    if n <= 32:
        return to_32(s)
    if n <= 64:
        return to_64(s)
    x = fetch64(s, 0)
    y = fetch64(s, n - 16) ^ K1
    z = fetch64(s, n - 56) ^ K0
    v = weak(s, n - 64, n, y)
    w = weak(s, n - 32, n * K1, K0)
    z = (z + shift_mix(v[1]) * K1) & MASK
    x = rotate(z + x, 39) * K1
    y = rotate(y, 33) * K1
    for at in range(0, (n - 1) & ~63, 64):
        x = rotate(x + y + v[0] + fetch64(s, at + 16), 37) * K1 & MASK
        y = rotate(y + v[1] + fetch64(s, at + 48), 42) * K1 & MASK
        x ^= w[1]
        y ^= v[0]
        z = rotate(z ^ w[0], 33)
        v = weak(s, at, v[1] * K1, x + w[0])
        w = weak(s, at + 32, z + w[1], y)
        z, x = x, z
    return join(
        (join(v[0], w[0]) + shift_mix(y) * K1 + z) & MASK,
        (join(v[1], w[1]) + x) & MASK,
    )
