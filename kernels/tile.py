"""What every kernel shares: int64 positions, masked tiles, products that never round to TF32."""

from cacheclip.kernels.launch import INTERPRET, jit, tl

UPCAST = tl.constexpr(INTERPRET)


@jit
def span(first, N: tl.constexpr):
    """The N positions from `first`, int64, so that no address overflows."""
    return tl.cast(first, tl.int64) + tl.arange(0, N)


@jit
def load(base, i, j, in_i, in_j, si, sj):
    """The tile at rows i and columns j with these strides, zero outside."""
    mask = in_i[:, None] & in_j[None, :]
    return tl.load(base + i[:, None] * si + j[None, :] * sj, mask=mask, other=0.0)


@jit
def store(base, i, j, in_i, in_j, si, sj, value):
    """Write the tile at rows i and columns j with these strides, rounded to the array's dtype."""
    mask = in_i[:, None] & in_j[None, :]
    at = base + i[:, None] * si + j[None, :] * sj
    tl.store(at, value.to(base.dtype.element_ty), mask=mask)


@jit
def dot(a, b, acc):
    """The sum acc + a b in float32; float32 factors in ieee precision.

    The interpreter multiplies bfloat16 bit patterns as integers, so it gets float32 factors; the
    products are the same, for those of 16-bit factors are exact in float32.
    """
    if UPCAST:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, acc, input_precision="ieee")
