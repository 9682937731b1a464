"""Procedural textures: two thresholded sums of plane waves over the surface's position.

    field_i(p) = bias_i + sum over k of amplitude_ik sin(w_ik . p + phase_ik)
    colour(p)  = mix(mix(c0, c1, step(field_0)), c2, step(field_1))

One wave gives stripes, two give a checker (sin a sin b is a sum of two waves), three axis waves
with a bias give dots, four oblique ones give blobs, one slow wave cuts the solid in halves. `step`
is a logistic of fixed steepness, so that edges are a pixel or two wide at 128 px.
"""

from __future__ import annotations

import colorsys

import numpy as np

FIELDS, WAVES = 2, 4
STEEPNESS = 12.0
_WAVE_SIZE = 5  # direction times frequency (3), phase, amplitude
_FIELD_SIZE = WAVES * _WAVE_SIZE + 1
TEXTURE_SIZE = FIELDS * _FIELD_SIZE + 9
"""Floats of one texture: the fields, then three RGB colours in 0..1."""


def _direction(rng: np.random.Generator) -> np.ndarray:
    d = rng.normal(size=3)
    return d / np.linalg.norm(d)


def _waves(rng: np.random.Generator, pattern: str) -> tuple[list[np.ndarray], list[float], float]:
    """(wave vectors, phases, bias) of a pattern; all amplitudes are 1 over the number of waves."""
    frequency = rng.uniform(2.5, 5.0)
    phase = lambda: float(rng.uniform(0, 2 * np.pi))
    if pattern == "stripes":
        axis = np.eye(3)[rng.integers(3)] if rng.random() < 0.6 else _direction(rng)
        return [axis * frequency], [phase()], 0.0
    if pattern == "checker":
        i, j = rng.permutation(3)[:2]
        a, b = np.eye(3)[i] * frequency, np.eye(3)[j] * frequency
        pa, pb = phase(), phase()
        return [a - b, a + b], [pa - pb + np.pi / 2, pa + pb - np.pi / 2], 0.0
    if pattern == "dots":
        return (
            [np.eye(3)[i] * frequency * 1.2 for i in range(3)],
            [phase() for _ in range(3)],
            -0.35,
        )
    if pattern == "blobs":
        waves = [_direction(rng) * rng.uniform(2, 4) for _ in range(WAVES)]
        return waves, [phase() for _ in waves], 0.0
    if pattern == "halves":
        return [_direction(rng) * 1.6], [float(rng.uniform(-0.4, 0.4))], 0.0
    return [np.zeros(3)], [0.0], -1.0


def _colours(rng: np.random.Generator) -> np.ndarray:
    """Three colours that differ: hues apart, or a light or dark neutral among them."""
    hue = rng.random()
    colours = []
    for i in range(3):
        if rng.random() < 0.2:
            colours.append([rng.choice([0.08, 0.9])] * 3)
        else:
            h = (hue + i * rng.uniform(0.25, 0.42)) % 1
            rgb = colorsys.hsv_to_rgb(h, rng.uniform(0.65, 1), rng.uniform(0.6, 1))
            colours.append(list(rgb))
    return np.asarray(colours)


def random_texture(rng: np.random.Generator) -> np.ndarray:
    """Parameters of a random texture, float32 [TEXTURE_SIZE]."""
    first = rng.choice(
        ["plain", "stripes", "checker", "dots", "blobs", "halves"],
        p=[0.25, 0.2, 0.08, 0.07, 0.15, 0.25],
    )
    second = rng.choice(
        ["plain", "stripes", "dots", "blobs", "halves"], p=[0.6, 0.1, 0.05, 0.05, 0.2]
    )
    fields = []
    for pattern in (first, second):
        vectors, phases, bias = _waves(rng, pattern)
        rows = np.zeros((WAVES, _WAVE_SIZE))
        for row, vector, phase in zip(rows, vectors, phases):
            row[:] = (*vector, phase, 1 / len(vectors))
        fields.append(np.append(rows.ravel(), bias))
    return np.concatenate([*fields, _colours(rng).ravel()]).astype(np.float32)


def colour(texture, position):
    """Colour of a texture at positions in the canonical frame.

    Args:
        texture: torch tensor [..., TEXTURE_SIZE].
        position: torch tensor [..., 3], broadcast against texture.

    Returns:
        RGB in 0..1, [..., 3].
    """
    steps = []
    for i in range(FIELDS):
        field = texture[..., i * _FIELD_SIZE : (i + 1) * _FIELD_SIZE]
        value = field[..., -1]
        for k in range(WAVES):
            wave = field[..., k * _WAVE_SIZE : (k + 1) * _WAVE_SIZE]
            angle = (wave[..., :3] * position).sum(-1) + wave[..., 3]
            value = value + wave[..., 4] * angle.sin()
        steps.append((STEEPNESS * value).sigmoid()[..., None])
    c0, c1, c2 = texture[..., -9:-6], texture[..., -6:-3], texture[..., -3:]
    mixed = c0 + (c1 - c0) * steps[0]
    return mixed + (c2 - mixed) * steps[1]
