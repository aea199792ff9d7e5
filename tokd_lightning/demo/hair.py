"""Hair, brows, beards and glasses of procedural faces; hair is drawn strand by strand."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tokd_lightning.demo.anatomy import Anatomy
from tokd_lightning.demo.canvas import Canvas, Plane, cloud

Curve = NDArray[np.float64]


def _bezier(start: Curve, bend: Curve, end: Curve) -> list[Curve]:
    """Return quadratic curves of 7 points from rows of control points, ``(K, 2)`` each."""
    t = np.linspace(0, 1, 7)[:, None]
    return [
        (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c
        for a, b, c in zip(start, bend, end, strict=True)
    ]


def _comb(canvas: Canvas, who: Anatomy, mask: Plane, curves: list[Curve], width: float) -> None:
    """Paint strands of lighter and darker hair inside a mask."""
    for part, tone in enumerate((0.68, 1.35, 0.84, 1.18)):
        cover = canvas.strands(curves[part::4], width)
        canvas.paint(np.clip(who.hair * tone + 4 * tone, 0, 255), cover * mask * 0.5)


def paint_hair_behind(canvas: Canvas, who: Anatomy, rng: np.random.Generator) -> None:
    """Paint the hair behind the neck, or a bun; nothing for short hair."""
    x, y, rough = canvas.x, canvas.y, 0.012 * cloud(rng, canvas.size, 24, 3)
    if who.hair_style == "bun":
        radius = rng.uniform(0.16, 0.22)
        ball = radius - np.hypot(x - rng.uniform(-0.1, 0.1), y - who.crown - 0.02) + rough
        canvas.paint(who.hair * 0.8, canvas.inside(ball, 2))
    if who.hair_style not in ("long", "fringe", "parted") or who.masculine > 0.5:
        return
    end = rng.uniform(who.chin - 0.1, who.chin + 0.45)
    wide = who.half_width + 0.06 + 0.12 * np.clip((y - who.crown) / (end - who.crown), 0, 1)
    wave = 0.02 * np.sin(y * rng.uniform(6, 14))
    mass = np.minimum(wide + wave - abs(x), end + 0.06 * np.cos(x * 7) - y)
    middle = who.eye_y + 0.02
    reach = np.where(y < middle, (y - middle) / (who.crown - 0.05 - middle), 0)
    dome = (who.half_width + 0.05) * (1 - np.hypot(x / (who.half_width + 0.05), reach))
    mask = canvas.inside(np.where(y < middle, dome + 0.06 * np.clip(1 - reach * 3, 0, 1), 1), 2)
    mask = mask * canvas.inside(mass + rough, 2)
    canvas.paint(who.hair * 0.6, mask)
    top = np.stack([rng.uniform(-0.62, 0.62, 300), np.full(300, who.crown + 0.2)], 1)
    low = top * [1.08, 0] + np.stack([rng.normal(0, 0.04, 300), np.full(300, end)], 1)
    sway = (top + low) / 2 + np.stack([rng.normal(0, 0.05, 300), np.zeros(300)], 1)
    _comb(canvas, who, mask, _bezier(top, sway, low), 1)


def paint_hair(canvas: Canvas, who: Anatomy, light: float, rng: np.random.Generator) -> None:
    """Paint the hair over forehead and skull according to the style."""
    size, x, y = canvas.size, canvas.x, canvas.y
    style = who.hair_style
    volume = {"bald": -0.03, "crop": 0.015, "curly": rng.uniform(0.09, 0.2)}.get(style, 0.055)
    brow = who.brow_y
    hairline = brow - (0.05 if style == "fringe" else who.hairline * rng.uniform(0.75, 1.0))
    part = float(rng.uniform(-0.22, 0.22))
    middle = who.eye_y + 0.02
    reach = np.where(y < middle, (y - middle) / (who.crown - volume - middle), 0)
    skull = who.half_width + volume * 0.7
    outer = skull * (1 - np.hypot(x / skull, reach))
    side = np.clip(abs(x) / who.half_width, 0, 1)
    drop = {"crop": 2.6, "parted": 1.8, "long": 1.9, "fringe": 5.0}.get(style, 2.3)
    edge = hairline + (middle + 0.02 - hairline) * side**drop
    if style in ("parted", "long"):
        edge = edge - 0.07 * np.exp(-(((x - part) / 0.1) ** 2)) + 0.04
    ears = middle + (0.10 if who.masculine > 0.5 else 0.03)
    inner = np.minimum(edge - y, np.where(abs(x) > who.half_width * 0.8, ears - y, 1))
    rough = cloud(rng, size, 40, 2) * (0.024 if style == "curly" else 0.010)
    mask = canvas.inside(np.minimum(outer, inner) + rough, 3.0)
    if style == "bald":
        canvas.paint(who.hair * 0.7 + who.skin * 0.3, mask * np.float32(rng.uniform(0, 0.25)))
        return
    shadow = canvas.inside(np.minimum(outer, inner + 0.035) + rough, 9.0)
    canvas.shade([0.80, 0.75, 0.72], np.clip(shadow - mask, 0, 1))
    sheen = 0.75 + 0.45 * np.exp(-(((reach - 0.72) / 0.16) ** 2)) + 0.2 * light * x
    texture = 1 + (0.25 if style == "curly" else 0.1) * cloud(rng, size, 30, 3)
    canvas.paint(np.clip(who.hair * (sheen * texture)[..., None], 0, 255), mask)
    if style == "curly":
        centre = rng.uniform([-0.7, who.crown - 0.2], [0.7, who.eye_y + 0.1], (260, 2))
        turn = np.linspace(0, 5, 8)
        ring = np.stack([np.cos(turn), np.sin(turn)], 1) * rng.uniform(0.015, 0.035)
        curls = [c + ring * rng.uniform(0.6, 1.3) for c in centre]
        _comb(canvas, who, mask, curls, 1)
        return
    count = 160 if style == "crop" else 420
    angle = rng.uniform(-1.15, 1.15, count) * np.pi / 2
    end = np.stack([np.sin(angle) * skull, middle - np.cos(angle) * (middle - hairline) * 0.9], 1)
    end[:, 1] += 0.1 * np.abs(np.sin(angle)) + rng.normal(0, 0.02, count)
    start = np.stack([part + rng.normal(0, 0.05, count), np.full(count, who.crown - volume)], 1)
    start += (end - start) * rng.uniform(0, 0.5, count)[:, None]
    bend = (start + end) / 2 + np.stack([0.22 * np.sin(angle), np.full(count, -0.06)], 1)
    _comb(canvas, who, mask, _bezier(start, bend + rng.normal(0, 0.02, (count, 2)), end), 1)


def paint_brows(canvas: Canvas, who: Anatomy, rng: np.random.Generator) -> None:
    """Paint both brows as a soft shadow and short hairs that lean outwards."""
    count = int(90 + 60 * who.masculine)
    for side in (-1, 1):
        t = rng.random(count)
        x = who.eye_x - who.eye_width * 1.05 + t * who.eye_width * 2.35
        spread = who.brow_thickness * (1 - 0.55 * t) * rng.uniform(-0.5, 0.5, count)
        y = who.brow(t) + spread
        lean = np.stack([side * rng.uniform(0.02, 0.045, count), 0.03 * (t - 0.75)], 1)
        root = np.stack([side * x, y], 1)
        along = (side * canvas.x - who.eye_x + who.eye_width * 1.05) / (who.eye_width * 2.35)
        fade = np.clip(np.minimum(along, 1.05 - along) * 6, 0, 1)
        middle = who.brow(np.clip(along, 0, 1))
        width = who.brow_thickness * (0.75 - 0.4 * np.clip(along, 0, 1))
        soft = np.exp(-(((canvas.y - middle) / width) ** 2)) * fade
        canvas.paint(who.hair * 0.8, (0.6 * soft).astype(np.float32))
        hairs = canvas.strands(_bezier(root, root + lean / 2, root + lean), 1)
        canvas.paint(who.hair * 0.6, hairs * 0.55)


def paint_beard(canvas: Canvas, who: Anatomy, rng: np.random.Generator) -> None:
    """Paint stubble, a full beard, a goatee or a moustache, if the face has one."""
    if who.beard == "none":
        return
    x, y = canvas.x, canvas.y
    width = who.outline(y)
    upper, _, lower = who.lips(x)
    lips = canvas.inside(np.minimum(np.minimum(y - upper, lower - y), who.mouth_width - abs(x)), 3)
    lip_top = who.mouth_y - who.upper_lip
    moustache = np.minimum(
        np.minimum(y - who.nose_y - 0.02 - 0.25 * abs(x), who.mouth_y + 0.03 - y),
        who.mouth_width + 0.03 - abs(x),
    )
    cheeks = y - (who.eye_y + 0.16 + (lip_top - who.eye_y - 0.18) * (1 - abs(x / who.half_width)))
    face = np.minimum(width + 0.012 - abs(x), who.chin + 0.015 - y)
    jaw = np.minimum(face, np.maximum(cheeks - 0.03, moustache))
    chin = np.minimum(np.minimum(0.13 - abs(x), y - who.mouth_y - who.lower_lip), face)
    area = {"moustache": moustache, "goatee": np.maximum(chin, moustache)}.get(who.beard, jaw)
    rough = 0.012 * cloud(rng, canvas.size, 40, 2)
    mask = canvas.inside(area + rough, 9) * (1 - lips)
    if who.beard == "stubble":
        grain = np.clip(0.5 + 0.25 * cloud(rng, canvas.size, 110, 1), 0, 1)
        canvas.paint(who.hair * 0.7 + who.skin * 0.2, mask * grain * np.float32(0.5))
        return
    canvas.paint(who.hair * 0.75, mask * np.float32(0.8))
    root = rng.uniform([-0.55, who.nose_y], [0.55, who.chin + 0.02], (700, 2))
    lean = np.stack([0.05 * np.sign(root[:, 0]) * rng.random(700), rng.uniform(0.02, 0.06, 700)], 1)
    _comb(canvas, who, mask, _bezier(root, root + lean / 2, root + lean), 1)


def paint_glasses(canvas: Canvas, who: Anatomy, rng: np.random.Generator) -> None:
    """Paint glasses with a faint reflection, if the face wears them."""
    if who.glasses == "none":
        return
    x, y = canvas.x, canvas.y
    power = 2.0 if who.glasses == "round" else rng.uniform(3, 5)
    half = np.array([who.eye_x * 0.78, rng.uniform(0.105, 0.13)])
    thick = 0.022 if who.glasses == "thick" else 0.010
    colour = rng.choice(np.array([[18, 16, 18], [70, 40, 24], [120, 118, 116], [96, 20, 30]]))
    cy = who.eye_y + 0.02
    frame = np.zeros_like(canvas.picture[..., 0])
    for side in (-1, 1):
        u, v = np.abs((x - side * who.eye_x) / half[0]), np.abs((y - cy) / half[1])
        ring = ((u**power + v**power) ** (1 / power) - 1) * half.min()
        frame = np.maximum(frame, canvas.inside(thick / 2 - np.abs(ring), 1.2))
        glare = canvas.inside(-ring, 1.2) * (0.03 + 0.10 * (np.abs(u - v - 0.3) < 0.12))
        canvas.paint([235, 240, 245], glare.astype(np.float32))
    gap = who.eye_x - half[0]
    bridge = np.minimum(thick * 0.6 - np.abs(y - cy + 0.04 - 0.5 * x**2), gap + 0.01 - np.abs(x))
    arms = np.minimum(thick * 0.6 - np.abs(y - cy + 0.03), np.abs(x) - who.eye_x - half[0])
    arms = np.minimum(arms, who.outline(y) - np.abs(x))
    frame = np.maximum(frame, canvas.inside(np.maximum(bridge, arms), 1.2))
    canvas.shade(0.8, np.roll(frame, max(1, canvas.size // 85), axis=0) * np.float32(0.5))
    canvas.paint(colour, frame)
