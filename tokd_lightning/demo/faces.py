"""Procedural faces: a lit height field with eyes, lips and skin painted on."""

from __future__ import annotations

import cv2
import numpy as np

from tokd_lightning.demo.anatomy import Anatomy, draw_anatomy
from tokd_lightning.demo.canvas import Canvas, Plane, cloud
from tokd_lightning.demo.clips import Portrait
from tokd_lightning.demo.hair import (
    paint_beard,
    paint_brows,
    paint_glasses,
    paint_hair,
    paint_hair_behind,
)
from tokd_lightning.demo.scenery import paint_bust, paint_room

_SHADOW_HUE = np.array([1.0, 1.14, 1.24], np.float32)


def draw_face(rng: np.random.Generator, kin: np.random.Generator, size: int) -> Portrait:
    """Paint a portrait of a person who does not exist.

    Args:
        rng: Generator of the individual traits.
        kin: Generator of the traits shared with the pair's other face, see :func:`draw_anatomy`.
        size: Side of the square picture, pixels.
    """
    who = draw_anatomy(rng, kin)
    canvas = Canvas.blank(size, zoom=float(rng.uniform(1.08, 1.28)))
    light = float(rng.uniform(-0.8, 0.8))
    paint_room(canvas, rng)
    paint_hair_behind(canvas, who, rng)
    paint_bust(canvas, who, light, rng)
    _paint_ears(canvas, who, light)
    _paint_skin(canvas, who, light, rng)
    for side in (-1, 1):
        _paint_eye(canvas, who, side, light, rng)
    _paint_mouth(canvas, who, rng)
    paint_brows(canvas, who, rng)
    paint_beard(canvas, who, rng)
    paint_hair(canvas, who, light, rng)
    paint_glasses(canvas, who, rng)
    picture = np.clip(np.rint(canvas.picture), 0, 255).astype(np.uint8)
    return Portrait(picture, canvas.pixels(who.points()))


def _height(canvas: Canvas, who: Anatomy, width: Plane) -> Plane:
    """Return the depth of the face towards the viewer, canvas units."""
    x, y, blob = canvas.x, canvas.y, canvas.blob
    dome = np.sqrt(np.clip(1 - (x / np.maximum(width, 1e-3)) ** 2, 0, 1)) * width
    z = 0.75 * dome + 0.12 * np.sqrt(np.clip(width / who.half_width, 0, 1))
    along = np.clip((y - who.eye_y + 0.04) / (who.nose_y - who.eye_y), 0, 1)
    fall = 1 / (1 + np.exp(np.clip((y - who.nose_y + 0.015) / 0.014, -30, 30)))
    ridge = np.exp(-((x / (0.045 + 0.035 * along)) ** 2))
    z += 0.085 * who.nose_bridge * along**0.8 * ridge * fall
    z += 0.045 * blob(0, who.nose_y - 0.05, 0.065, 0.05)
    for side in (-1, 1):
        z += 0.038 * blob(side * who.nose_width * 0.8, who.nose_y - 0.025, 0.038, 0.036)
        z -= 0.045 * blob(side * who.eye_x * 0.95, who.eye_y - 0.01, 0.13, 0.065)
        z += 0.020 * blob(side * who.eye_x, who.eye_y, 0.08, 0.05)
        z += 0.030 * blob(side * who.half_width * 0.6, who.eye_y + 0.2, 0.15, 0.12)
        fold = side * (who.nose_width + (y - who.nose_y) * 0.45) - x
        reach = np.exp(-(((y - (who.nose_y + who.mouth_y) / 2) / 0.10) ** 2))
        z -= (0.004 + 0.010 * who.age) * np.exp(-((fold / 0.022) ** 2)) * reach
    z += (0.01 + 0.02 * who.masculine) * blob(0, who.brow_y, 0.32, 0.05)
    z += 0.025 * blob(0, who.mouth_y, 0.2, 0.1)
    upper, line, lower = who.lips(x)
    inside = np.abs(x) < who.mouth_width
    for edge, other in ((upper, line), (lower, line)):
        middle, half = (edge + other) / 2, np.abs(edge - other) / 2 + 1e-3
        z += 0.016 * np.exp(-(((y - middle) / half) ** 2)) * inside
    z -= 0.018 * blob(0, float(lower[0, lower.shape[1] // 2]) + 0.025, 0.1, 0.025)
    z += 0.03 * blob(0, who.chin - 0.09, 0.11, 0.07)
    z -= 0.006 * blob(0, (who.nose_y + who.mouth_y) / 2 - 0.01, 0.016, 0.05)
    return np.asarray(z, np.float32)


def _paint_skin(canvas: Canvas, who: Anatomy, light: float, rng: np.random.Generator) -> None:
    size, x, y = canvas.size, canvas.x, canvas.y
    width = who.outline(y).astype(np.float32)
    z = cv2.GaussianBlur(_height(canvas, who, width), (0, 0), 1.2 * size / 256)
    slope_y, slope_x = np.gradient(z, 1 / canvas.unit)
    normal = np.stack([-slope_x, -slope_y, np.ones_like(z)], -1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
    sun = np.array([light, rng.uniform(-0.75, -0.35), rng.uniform(0.7, 1.1)])
    sun /= np.linalg.norm(sun)
    ambient = rng.uniform(0.38, 0.62)
    lit = np.clip((normal @ sun + 0.25) / 1.25, 0, 1)
    shade = ambient + (1.12 - ambient) * lit
    half = sun + np.array([0, 0, 1])
    gloss = np.clip(normal @ (half / np.linalg.norm(half)), 0, 1) ** rng.uniform(18, 40)
    blob = canvas.blob
    shade *= 1 - 0.35 * blob(0, who.nose_y + 0.02, who.nose_width * 0.9, 0.016)
    for side in (-1, 1):
        nostril = blob(side * who.nose_width * 0.52, who.nose_y + 0.002, 0.022, 0.011)
        shade *= 1 - 0.55 * nostril
        shade *= 1 - 0.20 * blob(side * (who.eye_x - 0.06), who.eye_y, 0.05, 0.05)
        shade *= 1 - (0.04 + 0.1 * who.age) * blob(side * who.eye_x, who.eye_y + 0.085, 0.1, 0.025)
    forehead = np.sin((y - who.brow_y) * 90 + 2 * x) * blob(0, who.brow_y - 0.17, 0.25, 0.08)
    shade *= 1 - 0.05 * max(0, who.age - 0.5) * 2 * forehead

    blush = sum(blob(s * who.half_width * 0.6, who.eye_y + 0.22, 0.15, 0.11) for s in (-1, 1))
    blush = blush + 0.8 * blob(0, who.nose_y - 0.03, 0.08, 0.06)
    red = rng.uniform(0.02, 0.10) * blush + 0.012 * cloud(rng, size, 12, 3)
    skin = who.skin.astype(np.float32) * (1 + red[..., None] * np.array([0.6, -0.9, -0.7]))
    if rng.random() < 0.3:
        spots = np.clip(cloud(rng, size, 70, 1) - 1.4, 0, 1) * (blush > 0.25)
        skin = skin * (1 - 0.35 * spots[..., None] * np.array([0.5, 0.9, 1.0]))
    skin = skin * (1 + 0.018 * cloud(rng, size, 48, 3)[..., None])
    for _ in range(rng.integers(0, 4)):
        mx, my = rng.uniform([-0.35, who.eye_y], [0.35, who.chin - 0.1])
        skin = skin * (1 - 0.55 * blob(mx, my, 0.012, 0.012)[..., None])
    colour = skin * shade[..., None].astype(np.float32) ** _SHADOW_HUE
    colour = colour + 255 * rng.uniform(0.04, 0.2) * gloss[..., None]
    steep = np.sqrt(1 + np.gradient(width[:, 0], 1 / canvas.unit) ** 2)[:, None]
    canvas.paint(
        np.clip(colour, 0, 255), canvas.inside((width - np.abs(x)) / steep, 1.6) * (width > 0)
    )


def _paint_ears(canvas: Canvas, who: Anatomy, light: float) -> None:
    for side in (-1, 1):
        cx = side * (float(who.outline(np.array(who.eye_y + 0.08))) + 0.012)
        u = (canvas.x - cx) / 0.055
        v = (canvas.y - who.eye_y - 0.08 + 0.12 * side * (canvas.x - cx)) / 0.125
        radius = np.hypot(u, v)
        rim = 0.72 + 0.2 * np.exp(-(((radius - 0.8) / 0.2) ** 2)) + 0.14 * light * side
        tone = rim[..., None] ** np.array([0.9, 1.25, 1.3])
        canvas.paint(np.clip(who.skin * tone, 0, 255), canvas.inside((1 - radius) * 0.06, 1.5))


def _paint_eye(
    canvas: Canvas, who: Anatomy, side: int, light: float, rng: np.random.Generator
) -> None:
    along = side * (canvas.x - side * who.eye_x) / who.eye_width
    y = canvas.y - who.eye_y - who.eye_tilt * who.eye_width * along
    upper, lower = who.lids(along)
    within = np.minimum(np.minimum(y - upper, lower - y), (1 - abs(along)) * who.eye_width)
    cover = canvas.inside(within, 1.2)
    x = canvas.x - side * who.eye_x
    depth = np.clip((y - upper) / (who.eye_height * 1.2), 0, 1)
    white = np.array([232, 226, 220]) * (0.62 + 0.36 * np.minimum(1, 2.2 * depth))[..., None]
    white = white * (1 - 0.25 * np.abs(along) ** 3)[..., None]
    canvas.paint(white, cover)
    gaze = rng.uniform(-0.006, 0.006)
    radius = np.hypot(x - gaze, y + 0.004) / who.iris_radius
    fibres = 1 + 0.15 * np.sin(np.arctan2(y + 0.004, x - gaze) * 17 + 3 * radius)
    tone = np.clip((1.15 - 0.6 * radius**3) * fibres, 0.2, 1.4) * (0.55 + 0.45 * depth)
    disc = canvas.inside((1 - radius) * who.iris_radius, 1.4)
    canvas.paint(np.clip(who.iris * tone[..., None], 0, 255), disc * cover)
    canvas.paint([12, 10, 10], canvas.inside((0.42 - radius) * who.iris_radius, 1.4) * cover)
    glint = canvas.blob(side * who.eye_x + 0.016 * np.sign(light), who.eye_y - 0.02, 0.009, 0.009)
    canvas.paint([250, 250, 250], np.clip(1.4 * glint, 0, 1) * cover)

    near = np.abs(along) < 1.08
    thick = 0.010 + 0.006 * (1 - who.masculine) * np.clip(along + 1, 0, 2)
    lash = np.exp(-(((y - upper) / thick) ** 2)) * near
    dark = who.hair * 0.35 * 0.5 + 8
    canvas.paint(dark, np.asarray(0.85 * np.clip(lash, 0, 1), np.float32))
    canvas.shade(0.72, np.exp(-(((y - lower) / 0.007) ** 2)) * near)
    crease = np.exp(-(((y - upper * 1.25 + 0.028) / 0.010) ** 2)) * near
    canvas.shade([0.72, 0.66, 0.62], (crease * (1 - 0.4 * np.abs(along))).astype(np.float32))


def _paint_mouth(canvas: Canvas, who: Anatomy, rng: np.random.Generator) -> None:
    x, y = canvas.x, canvas.y
    upper, line, lower = who.lips(x)
    near = (who.mouth_width - abs(x)) * 0.6
    tint = np.array([0.86, 0.62, 0.62]) * rng.uniform(0.9, 1.05)
    if who.masculine < 0.5 and rng.random() < 0.5:
        tint = tint * [1.0, 0.72, 0.78]
    top = canvas.inside(np.minimum(np.minimum(y - upper, line - y), near), 2.0)
    bottom = canvas.inside(np.minimum(np.minimum(y - line, lower - y), near), 2.0)
    canvas.shade(tint * 0.9, top * 0.9)
    canvas.shade(tint * 1.05, bottom * 0.85)
    wet = canvas.blob(0.02, float(line[0, line.shape[1] // 2]) + who.lower_lip * 0.45, 0.07, 0.01)
    canvas.picture += (28 * wet * bottom)[..., None]
    seam = np.exp(-(((y - line) / 0.008) ** 2)) * np.clip(near / 0.02, 0, 1)
    canvas.shade([0.38, 0.28, 0.28], seam.astype(np.float32))
    for side in (-1, 1):
        corner = float(line[0, int(np.argmin(np.abs(x[0] - side * who.mouth_width)))])
        canvas.shade(0.75, canvas.blob(side * who.mouth_width, corner, 0.02, 0.014))
