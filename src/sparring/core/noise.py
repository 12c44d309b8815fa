"""Counter-based random numbers: every draw is a pure function of (seed, role, image, restart, step, draw, tag,
element).

Philox4x32-10 (Salmon et al., SC 2011, "Parallel random numbers: as easy as 1, 2, 3"). The global generators of
torch, numpy and Python are neither read nor advanced, so an image's noise does not depend on its batch-mates,
on batch size, order, sharding or resume, and no attack can re-align the noise of the defense it attacks.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

MASK32 = 0xFFFFFFFF
TILE = 1 << 14  # counters whose rounds are worked through at once on a CPU; measured
_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_FACTORS = np.array((_M0, _M1), np.uint64)
_MIX = (0xBF58476D1CE4E5B9 - (1 << 64), 0x94D049BB133111EB - (1 << 64))
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)


def philox(counter: tuple[Tensor, ...], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Ten rounds of Philox4x32. Words are int64 tensors holding 32-bit values, of shapes that broadcast; four words in, four words out."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # a product of two 32-bit words fills 64 bits: int64 wraps, and the mask recovers the unsigned high word
        p0, p1 = c0 * _M0, c2 * _M1
        c0, c2 = ((p1 >> 32) & MASK32) ^ c1 ^ k0, ((p0 >> 32) & MASK32) ^ c3 ^ k1
        c1, c3 = p1 & MASK32, p0 & MASK32
        k0, k1 = (k0 + _W0) & MASK32, (k1 + _W1) & MASK32
    return c0, c1, c2, c3


def philox_on_cpu(counter: tuple[Tensor, ...], key: tuple[Tensor, Tensor]) -> Tensor:
    """``philox`` of words that broadcast to (B,n), as one tensor (B,n,4), in numpy's unsigned numbers and in place: words 0 and 2 in one array and 1
    and 3 in another, tile by tile, so that the ten rounds stay in the cache.
    """
    c0, c1, c2, c3, k0, k1 = (words.numpy().view(np.uint64) for words in (*counter, *key))
    shape = np.broadcast(c0, c1, c2, c3, k0, k1).shape
    starts = [np.broadcast_to(words, shape) for words in (c0, c2, c1, c3)]
    # both keys are the same for all columns, so that a round's are (2,B,1)
    rounds = [np.stack([(k0 + i * _W0) & MASK32, (k1 + i * _W1) & MASK32]) for i in range(10)]
    out = np.empty((*shape, 4), np.uint32)
    width = min(shape[1], TILE)
    height = max(1, TILE // max(1, width))
    space = np.empty((3, 2, min(height, shape[0]), width), np.uint64)
    factors = _FACTORS.reshape(2, 1, 1)
    for top in range(0, shape[0], height):
        for left in range(0, shape[1], width):
            rows, columns = slice(top, top + height), slice(left, left + width)
            tile = out[rows, columns]
            even, odd, product = space[:, :, : tile.shape[0], : tile.shape[1]]
            crossed = product[::-1]
            even[0], even[1], odd[0], odd[1] = (words[rows, columns] for words in starts)
            for keys in rounds:
                np.multiply(even, factors, out=product)
                np.right_shift(crossed, 32, out=even)
                even ^= odd
                even ^= keys[:, rows]
                np.bitwise_and(crossed, MASK32, out=odd)
            tile[..., 0], tile[..., 1], tile[..., 2], tile[..., 3] = even[0], odd[0], even[1], odd[1]
    return torch.as_tensor(out.view(np.int32))


def _shift(value: Tensor, bits: int) -> Tensor:
    """Logical right shift of an int64 tensor."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def mix(value: Tensor, word: Tensor | int) -> Tensor:
    """Fold ``word`` into a 64-bit hash (the SplitMix64 finaliser); int64 arithmetic wraps as intended."""
    z = (value ^ word) + _GOLDEN
    z = (z ^ _shift(z, 30)) * _MIX[0]
    z = (z ^ _shift(z, 27)) * _MIX[1]
    return z ^ _shift(z, 31)


def word(text: str) -> int:
    """A stable 63-bit number for a name."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def image_keys(ids: Sequence[str]) -> Tensor:
    """(N,) int64 keys of image ids: the noise of an image follows its id, not its position."""
    return torch.tensor([word(i) for i in ids], dtype=torch.int64)


@dataclass(frozen=True)
class Noise:
    """A keyed source of noise for a batch of rows. Cheap to derive from; holds no state.

    key (B,) int64, step (B,) int64, draw (B,) int64 (which Monte-Carlo draw), image (B,) int64 (the image's own key, which
    no role or restart has touched), path: the names on the way here. exhaustive: a ``choice`` goes through its alternatives draw by draw.
    """

    key: Tensor
    step: Tensor
    draw: Tensor
    image: Tensor
    path: str = ""
    exhaustive: bool = False

    @classmethod
    def of(cls, seed: int, role: str, keys: Tensor, restart: Tensor | int = 0) -> Noise:
        """Noise for images with ``keys`` (B,) in a role ("attack", "defense-in-attack", "select", "judge", ...)."""
        key = mix(mix(mix(torch.full_like(keys, seed & 0x7FFFFFFFFFFFFFFF), word(role)), keys), restart)
        zero = torch.zeros_like(keys)
        return cls(key, zero, zero, keys)

    def at(self, index: Tensor) -> Noise:
        """The noise of the rows in ``index``."""
        return replace(self, key=self.key[index], step=self.step[index], draw=self.draw[index], image=self.image[index])

    def on(self, step: Tensor) -> Noise:
        """The same rows at iteration ``step`` (B,)."""
        return replace(self, step=step)

    def child(self, name: str) -> Noise:
        """An independent stream under ``name``: one per stage, call or purpose."""
        return replace(self, path=f"{self.path}/{name}")

    def repeat(self, draws: int, first: int = 0) -> Noise:
        """Rows repeated for ``draws`` independent Monte-Carlo draws, draw-major within a row: (B*draws,)."""
        offset = torch.arange(first, first + draws, device=self.key.device).repeat(len(self.key))
        key, step, draw, image = (t.repeat_interleave(draws) for t in (self.key, self.step, self.draw, self.image))
        # a vote inside an EOT draw nests: 16 bits each keep the pairs apart
        return replace(self, key=key, step=step, draw=(draw << 16) + offset, image=image)

    def to(self, device: torch.device) -> Noise:
        """The same streams on another device."""
        key, step, draw, image = (t.to(device) for t in (self.key, self.step, self.draw, self.image))
        return replace(self, key=key, step=step, draw=draw, image=image)

    def bits(self, tag: str, count: int) -> Tensor:
        """(B,count) int64 of uniform 32-bit words."""
        return self._words(tag, count).long() & MASK32

    def _words(self, tag: str, count: int) -> Tensor:
        """(B,count) of uniform 32-bit words: int32 that hold them as they are, or int64."""
        stream = word(f"{self.path}:{tag}")
        key = mix(self.key, stream)[:, None]
        counter = (
            torch.arange((count + 3) // 4, device=key.device).expand(len(key), -1),
            self.step[:, None],
            (self.draw & MASK32)[:, None],
            torch.tensor([[stream & MASK32]], device=key.device),
        )
        halves = key & MASK32, _shift(key, 32)
        cpu = key.device.type == "cpu"
        words = philox_on_cpu(counter, halves) if cpu else torch.stack(philox(counter, halves), -1)
        return words.flatten(1)[:, :count]

    def _fraction(self, tag: str, count: int) -> Tensor:
        """(B,count) float32 of the upper 24 bits of a word: 0 to 2^24 - 1."""
        return (self._words(tag, count) >> 8).bitwise_and_(0xFFFFFF).float()

    def uniform(self, tag: str, shape: Sequence[int]) -> Tensor:
        """(B,*shape) float32, uniform in [0,1) with 24 bits."""
        count = math.prod(shape)
        return self._fraction(tag, count).mul_(2**-24).reshape(-1, *shape)

    def normal(self, tag: str, shape: Sequence[int]) -> Tensor:
        """(B,*shape) float32, standard normal (Box-Muller)."""
        count = math.prod(shape)
        half = (count + 1) // 2
        u = self._fraction(tag, 2 * half).add_(0.5).mul_(2**-24)
        radius = u[:, :half].log().mul_(-2).sqrt_()
        angle = u[:, half:].mul_(2 * math.pi)
        return torch.cat([angle.cos().mul_(radius), angle.sin().mul_(radius)], 1)[:, :count].reshape(-1, *shape)

    def laplace(self, tag: str, shape: Sequence[int]) -> Tensor:
        """(B,*shape) float32, Laplace with scale 1 (standard deviation sqrt 2)."""
        count = math.prod(shape)
        u = self._fraction(tag, count).add_(0.5).mul_(2**-24).sub_(0.5)
        return (-u.sign() * torch.log1p(-2 * u.abs())).reshape(-1, *shape)

    def sign(self, tag: str, shape: Sequence[int]) -> Tensor:
        """(B,*shape) float32, -1 or 1 with equal chance."""
        return self.uniform(tag, shape).lt_(0.5).mul_(2).sub_(1)

    def choice(self, tag: str, count: int) -> Tensor:
        """(B,) int64, one of ``count`` alternatives, uniform; or, where draws are exhaustive, the draw's number modulo count."""
        if self.exhaustive:
            return (self.draw & 0xFFFF) % count
        return self.integers(tag, count, (1,))[:, 0]

    def integers(self, tag: str, high: int, shape: Sequence[int]) -> Tensor:
        """(B,*shape) int64, uniform on 0..high-1 (bias below high / 2^32)."""
        return (self.bits(tag, math.prod(shape)) * high >> 32).reshape(-1, *shape)


def signs(noise: Noise, count: int, like: Tensor) -> Tensor:
    """(B,count,C,H,W) of +-1 in the dtype of ``like`` (B,C,H,W): one random bit each, 32 from one word."""
    words = noise.bits("sign", -(-count // 32) * like[0].numel() if len(like) else 0)
    words = words.reshape(len(like), -1, *like.shape[1:])
    return torch.stack([2 * ((words[:, i // 32] >> (i % 32)) & 1) - 1 for i in range(count)], 1).to(like.dtype)
