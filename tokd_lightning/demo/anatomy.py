"""Anatomy of a procedural face: randomly drawn proportions, colours and style, and 68 points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tokd_lightning.data.blending.points import Points

Colour = NDArray[np.float64]
Row = NDArray[np.floating]

_SKIN = np.array(
    [[246, 214, 196], [232, 190, 162], [208, 157, 122], [162, 110, 78], [112, 74, 54], [76, 50, 38]]
)
_HAIR = np.array(
    [
        *([26, 22, 22], [44, 31, 26], [72, 48, 34], [108, 74, 46], [168, 128, 80], [205, 172, 118]),
        *([126, 56, 30], [150, 148, 146], [206, 204, 200], [58, 54, 54]),
    ]
)
_IRIS = np.array([[84, 54, 34], [58, 38, 28], [96, 116, 138], [104, 112, 76], [128, 96, 56]])


@dataclass(frozen=True)
class Anatomy:
    """One face: lengths in half picture sides from the centre, y down; colours in 0..255."""

    half_width: float
    crown: float
    cheek: float
    chin: float
    taper: float
    squareness: float
    eye_x: float
    eye_y: float
    eye_width: float
    eye_height: float
    eye_tilt: float
    iris_radius: float
    brow_y: float
    brow_arch: float
    brow_thickness: float
    nose_y: float
    nose_width: float
    nose_bridge: float
    mouth_y: float
    mouth_width: float
    upper_lip: float
    lower_lip: float
    smile: float
    masculine: float
    age: float
    hairline: float
    skin: Colour
    hair: Colour
    iris: Colour
    hair_style: str
    beard: str
    glasses: str

    def outline(self, y: Row) -> Row:
        """Return the half width of the head at each height; 0 beyond crown and chin."""
        below = np.clip((y - self.cheek) / (self.chin - self.cheek), 0, 1)
        above = np.clip((self.cheek - y) / (self.cheek - self.crown), 0, 1)
        jaw = (1 - self.taper * below**1.5) * np.sqrt(1 - below**self.squareness)
        skull = np.sqrt(1 - above**2.4)
        return np.asarray(self.half_width * np.where(y > self.cheek, jaw, skull))

    def lids(self, along: Row) -> tuple[Row, Row]:
        """Return the heights of the upper and the lower lid at -1 (inner) .. 1 (outer corner)."""
        bend = np.sqrt(np.clip(1 - along**2, 0, 1))
        full = np.clip(1 - along**2, 0, 1)
        return -self.eye_height * (0.6 * bend + 0.4 * full) * 0.9, self.eye_height * 0.75 * full

    def lips(self, x: Row) -> tuple[Row, Row, Row]:
        """Return the heights of the upper lip's edge, the lip line and the lower lip's edge."""
        along = np.clip(x / self.mouth_width, -1, 1)
        line = self.mouth_y + (0.5 - along**2) * self.smile - 0.006 * np.cos(along * 6)
        bow = 1 - 0.28 * np.exp(-((along / 0.16) ** 2))
        upper = line - self.upper_lip * (1 - along**2) ** 0.8 * bow
        return upper, line, line + self.lower_lip * np.sqrt(1 - along**2) * (1 - 0.2 * along**2)

    def brow(self, along: Row) -> Row:
        """Return the height of a brow's centre line at 0 (inner end) .. 1 (outer end)."""
        arch = self.brow_arch * (np.sin(np.pi * along**1.3) - 0.7 * along**3)
        return np.asarray(self.brow_y - arch)

    def points(self) -> Points:
        """Return the 68 points in half picture sides from the centre, ``(68, 2)``."""
        turn = np.linspace(0, np.pi, 17)
        jaw_y = self.eye_y + 0.02 + (self.chin - self.eye_y - 0.02) * np.sin(turn)
        jaw = np.stack([-np.sign(np.cos(turn)) * self.outline(jaw_y), jaw_y], 1)
        jaw[8] = 0, self.chin
        ends = np.linspace(1, 0, 5)
        reach = self.eye_x - self.eye_width * 1.05 + ends * self.eye_width * 2.35
        brow = np.stack([-reach, self.brow(ends) - self.brow_thickness / 2], 1)
        bridge_y = np.linspace(self.eye_y, self.nose_y - 0.05, 4)
        bridge = np.stack([np.zeros(4), bridge_y], 1)
        wings = np.array([-1, -0.5, 0, 0.5, 1]) * self.nose_width
        base = np.stack([wings, self.nose_y + np.array([0, 0.012, 0.022, 0.012, 0])], 1)
        along = np.array([1, 0.4, -0.4, -1, -0.4, 0.4])
        upper, lower = self.lids(along)
        height = np.where(np.arange(6) < 4, upper, lower) + along * self.eye_tilt * self.eye_width
        eye = np.stack([-self.eye_x - along * self.eye_width, self.eye_y + height], 1)
        x = np.array([-1, -0.62, -0.27, 0, 0.27, 0.62, 1, 0.62, 0.27, 0, -0.27, -0.62])
        top, _, bottom = self.lips(x * self.mouth_width)
        outer = np.stack([x * self.mouth_width, np.where(np.arange(12) < 7, top, bottom)], 1)
        x = np.array([-0.9, -0.4, 0, 0.4, 0.9, 0.4, 0, -0.4]) * self.mouth_width
        inner = np.stack([x, self.lips(x)[1]], 1)
        mirror = np.array([-1.0, 1.0])
        other_eye = (eye * mirror)[[3, 2, 1, 0, 5, 4]]
        brows = [brow, (brow * mirror)[::-1]]
        return np.concatenate([jaw, *brows, bridge, base, eye, other_eye, outer, inner])


def draw_anatomy(rng: np.random.Generator, kin: np.random.Generator) -> Anatomy:
    """Draw one face at random; traits are correlated (beards on masculine faces, grey on old).

    Args:
        rng: Generator of this face.
        kin: Generator of what the two faces of a pair share: complexion, sex, roughly their age.
    """
    masculine = 0.5 * int(kin.random() < 0.5) + 0.5 * float(rng.random())
    age = float(np.clip(kin.random() + rng.normal(0, 0.1), 0, 1))
    tone = np.clip(kin.beta(1.0, 1.2) + rng.normal(0, 0.03), 0, 1) * (len(_SKIN) - 1.001)
    low = int(tone)
    skin = _SKIN[low] + (tone - low) * (_SKIN[low + 1] - _SKIN[low])
    skin = skin * rng.normal(1, [0.03, 0.025, 0.04])
    grey = age > 0.75 and rng.random() < 0.7
    natural = rng.integers(0, 7 if tone < 2 else 2 if tone > 3 else 4)
    hair = _HAIR[rng.integers(7, 10) if grey else natural] * rng.uniform(0.8, 1.15)
    iris = _IRIS[rng.integers(0, 5 if tone < 2 else 2)] * rng.uniform(0.8, 1.2)
    man = masculine > 0.5
    styles = ["short", "short", "crop", "parted", "bald", "curly"] if man else []
    styles = styles or ["long", "long", "parted", "bun", "fringe", "curly", "short"]
    beards = ["none", "none", "stubble", "full", "goatee", "moustache"] if man else ["none"]
    half_width = rng.uniform(0.41, 0.48)
    chin = rng.uniform(0.58, 0.70)
    eye_y = rng.uniform(-0.10, -0.03)
    face = chin - eye_y
    nose_y = eye_y + face * rng.uniform(0.43, 0.51)
    mouth_y = nose_y + (chin - nose_y) * rng.uniform(0.36, 0.42)
    fullness = rng.uniform(0.7, 1.3) * (1.15 - 0.35 * masculine)
    return Anatomy(
        half_width=half_width,
        crown=eye_y - rng.uniform(0.62, 0.72),
        cheek=eye_y + 0.06,
        chin=chin,
        taper=rng.uniform(0.12, 0.34) - 0.1 * masculine,
        squareness=rng.uniform(2.2, 2.9) + 0.7 * masculine,
        eye_x=half_width * rng.uniform(0.43, 0.49),
        eye_y=eye_y,
        eye_width=half_width * rng.uniform(0.205, 0.245),
        eye_height=rng.uniform(0.032, 0.050),
        eye_tilt=rng.uniform(-0.18, 0.06),
        iris_radius=rng.uniform(0.043, 0.05),
        brow_y=eye_y - rng.uniform(0.105, 0.15),
        brow_arch=rng.uniform(0.0, 0.05) * (1.2 - masculine),
        brow_thickness=rng.uniform(0.018, 0.035) + 0.014 * masculine,
        nose_y=nose_y,
        nose_width=half_width * rng.uniform(0.19, 0.27) + 0.01 * masculine,
        nose_bridge=rng.uniform(0.6, 1.3),
        mouth_y=mouth_y,
        mouth_width=half_width * rng.uniform(0.34, 0.44),
        upper_lip=0.030 * fullness,
        lower_lip=0.044 * fullness * rng.uniform(0.85, 1.15),
        smile=rng.uniform(-0.006, 0.028),
        masculine=masculine,
        age=age,
        hairline=rng.uniform(0.26, 0.36) + (0.08 * age if man else 0),
        skin=np.clip(skin, 20, 250),
        hair=np.clip(hair, 12, 230),
        iris=np.clip(iris, 20, 200),
        hair_style=str(rng.choice(styles)),
        beard=str(rng.choice(beards)),
        glasses=str(rng.choice(["none", "none", "none", "thin", "round", "thick"])),
    )
