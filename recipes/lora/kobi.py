"""Kobi, a small robot of our own: teal, a cream face, a yellow lamp, a red scarf; from any side, in any pose."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from drawings import raster

NAME = "kobi"

TEAL, DEEP, CREAM, INK, RED, CRIMSON, YELLOW, PINK, SKY = (
    *("#22b8b0", "#12878a", "#fff1d6", "#26324a", "#ee3b4b", "#c2253a", "#ffc629", "#ff9c94", "#7cc4f5"),
)
HEAD, BODY = (0, 100, 74, 62), (0, 188, 46, 42)  # centre, half width, half height; x is counted from the middle
TAILS = (-38, 145)  # where the ends of the scarf hang, in degrees from the middle of the front


@dataclass(frozen=True)
class View:
    """What is to be seen.

    Args:
        words: what it is called; the caption, behind the name.
        turn: degrees to our right: 0 is the front, 180 the back.
        arms: degrees of the left and right arm (ours) from hanging down, outwards.
        extra: an object: heart, crown, sunglasses, tears, z.
        roll: degrees of the whole, clockwise.
        close: how much larger.
    """

    words: str
    turn: float = 0
    arms: tuple[float, float] = (28, 28)
    eyes: str = "open"
    mouth: str = "smile"
    legs: str = "stand"
    extra: str = ""
    roll: float = 0
    close: float = 1

    @property
    def called(self) -> str:
        """For tables: `looking left`."""
        return self.words or "front"

    @property
    def caption(self) -> str:
        """`kobi, looking left`; from the front just `kobi`."""
        return f"{NAME}, {self.words}" if self.words else NAME

    def svg(self) -> str:
        """The whole drawing, 256 x 256."""
        drop = {"stand": 0, "sit": 8, "jump": -10}[self.legs] + 0.2 * abs(self.roll)
        middle = 105 if self.close > 1 else 128  # a close-up looks at the head
        whole = f"translate(128 {128 + drop}) rotate({self.roll}) scale({self.close}) translate(0 {-middle})"
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 256 256">{SHADES}{self._ground()}'
            f'<g transform="{whole}">{self._robot()}</g>{LETTERS if self.extra == "z" else ""}</svg>'
        )

    def _robot(self) -> str:
        """From what is far to what is near."""
        holds = self.extra == "heart"
        behind, before, above = [], [], []  # the body, the body, all
        for side, angle in zip((-1, 1), self.arms, strict=True):
            layer = above if holds or angle > 90 else before if self._near(90 * side) > 0.1 else behind
            layer.append(self._arm(side, angle))
        tails = [longitude for longitude in TAILS if not holds]
        return "".join(
            (
                *behind,
                "" if self.legs == "sit" else self._feet(),
                ellipse(*BODY, "url(#body)"),
                self._hatch() if self._near(180) > 0 else self._belly(),
                self._feet() if self.legs == "sit" else "",
                *before,
                *(self._tail(longitude) for longitude in tails if self._near(longitude) <= 0.2),
                ellipse(*HEAD, "url(#head)"),
                ellipse(-24, 64, 17, 8, "white", 0.35, -24),
                self._ears(),
                self._face() if self._near(0) > 0 else "",
                CROWN if self.extra == "crown" else "",
                self._lamp(),
                ellipse(0, 155, 47, 13, CRIMSON),
                ellipse(0, 152, 48, 12, RED),
                *(self._tail(longitude) for longitude in tails if self._near(longitude) > 0.2),
                HEART if holds else "",
                *above,
            )
        )

    def _near(self, longitude: float) -> float:
        """1 where the body faces us, 0 at its edge, -1 behind."""
        return math.cos(math.radians(self.turn + longitude))

    def _at(self, longitude: float, width: float, y: float) -> tuple[float, float]:
        return width * math.sin(math.radians(self.turn + longitude)), y

    def _arm(self, side: int, angle: float) -> str:
        # The arm that hangs on our left in the front view; seen from behind it is on our right.
        x, y = self._at(90 * side, 40, 172)
        out = math.copysign(max(abs(x) / 40, 0.35), x or side)
        slope = math.radians(angle)
        length = 56 if angle > 90 else 36
        hand_x, hand_y = x + out * length * math.sin(slope), y + length * math.cos(slope)
        line = (
            f'd="M{x:.1f} {y:.1f}L{hand_x:.1f} {hand_y:.1f}" stroke="{DEEP}" stroke-width="17" stroke-linecap="round"'
        )
        return f"<path {line}/>" + ellipse(hand_x, hand_y, 13, 13, YELLOW)

    def _feet(self) -> str:
        ahead = 10 * math.sin(math.radians(self.turn))
        across = 24 * math.cos(math.radians(self.turn)) if abs(self._near(0)) > 0.5 else 15
        if self.legs == "sit":
            soles = [(side * across * 1.65 + 2 * ahead, 219) for side in (-1, 1)]
            return "".join(ellipse(x, y, 23, 21, DEEP) + ellipse(x, y + 1, 13, 12, YELLOW) for x, y in soles)
        if self.legs == "jump":
            return "".join(ellipse(side * across * 1.5 + ahead, 230, 22, 13, DEEP, 1, -28 * side) for side in (-1, 1))
        return "".join(ellipse(side * across + ahead, 231, 23, 13, DEEP) for side in (-1, 1))

    def _belly(self) -> str:
        return f'<g clip-path="url(#within)">{ellipse(*self._at(0, 40, 190), 24, 25, CREAM, 0.35)}</g>'

    def _hatch(self) -> str:
        x, y = self._at(180, 40, 192)
        return ellipse(x, y, 20 * self._near(180), 20, DEEP) + ellipse(x, y, 10 * self._near(180), 10, YELLOW)

    def _lamp(self) -> str:
        stem = f'<path d="M0 42V26" stroke="{DEEP}" stroke-width="8"/>'
        return stem + ellipse(0, 20, 15, 15, "url(#lamp)") + ellipse(-5, 14, 4, 4, "white", 0.8)

    def _ears(self) -> str:
        ears = [(self._at(90 * side, 74, 104), self._near(90 * side)) for side in (-1, 1)]
        return "".join(
            ellipse(*at, 10 + 6 * max(0, near), 17, DEEP) + (ellipse(*at, 8 * near, 9, YELLOW) if near > 0.3 else "")
            for at, near in ears
            if near > -0.3
        )

    def _tail(self, longitude: float) -> str:
        """An end of the scarf; one that is seen from the side flies a little."""
        near = self._near(longitude)
        if near < -0.25:
            return ""
        x, y = self._at(longitude, 44, 152)
        tilt = -math.copysign(14 + 40 * (1 - abs(near)), x)
        return (
            f'<g transform="translate({x:.1f} {y}) rotate({tilt:.1f})">'
            f'<rect x="-10" y="0" width="20" height="46" rx="7" fill="{CRIMSON}"/>'
            f'<rect x="-10" y="27" width="20" height="7" fill="{CREAM}"/></g>'
        )

    def _face(self) -> str:
        left, right = (self._rim(edge) for edge in (-62, 62))
        plate = ellipse((left + right) / 2, 106, (right - left) / 2, 42, CREAM)
        parts = "".join(self._eye(longitude) for longitude in (-25, 25)) + self._cheeks() + self._mouth()
        return f'<g clip-path="url(#inside)">{plate}</g>{parts}{self._glasses()}{self._tears()}'

    def _rim(self, longitude: float) -> float:
        """Where the face ends; beyond the edge of the head, where it would go on."""
        angle = self.turn + longitude
        beyond = max(0.0, abs(angle) - 90) / 90
        return HEAD[2] * (math.copysign(1 + beyond, angle) if beyond else math.sin(math.radians(angle)))

    def _eye(self, longitude: float) -> str:
        near, (x, y) = self._near(longitude), self._at(longitude, 66, 102)
        if near < 0.15 or self.extra == "sunglasses":
            return ""
        if self.eyes != "open":
            bow = {"closed": 9, "happy": -12}[self.eyes]
            return curve(x - 13 * near, y + 2, 26 * near, bow)
        return ellipse(x, y, 13 * near, 17, INK) + ellipse(x - 4 * near, y - 6, 4.5 * near, 5.5, "white")

    def _cheeks(self) -> str:
        seen = [(self._at(longitude, 66, 123), self._near(longitude)) for longitude in (-42, 42)]
        return "".join(ellipse(*at, 10 * near, 6, PINK) for at, near in seen if near > 0.15)

    def _mouth(self) -> str:
        near, (x, y) = self._near(0), self._at(0, 68, 124)
        match self.mouth:
            case "open":
                width = 15 * near
                shape = f"M{x - width:.1f} {y - 3}h{2 * width:.1f}q0 19 {-width:.1f} 19t{-width:.1f} -19z"
                return f'<path d="{shape}" fill="{CRIMSON}"/>'
            case "sad":
                return curve(x - 11 * near, y + 9, 22 * near, -11)
            case "small":
                return ellipse(x, y + 4, 5 * near, 5, INK)
        return curve(x - 12 * near, y, 24 * near, 12)

    def _glasses(self) -> str:
        if self.extra != "sunglasses":
            return ""
        lenses = "".join(f'<rect x="{x}" y="84" width="46" height="34" rx="14" fill="{INK}"/>' for x in (-52, 6))
        shine = "".join(f'<path d="M{x} 108l13 -18" stroke="{SKY}" stroke-width="5"/>' for x in (-40, 18))
        return f'<path d="M-68 92H68" stroke="{INK}" stroke-width="8"/>{lenses}{shine}'

    def _tears(self) -> str:
        if self.extra != "tears":
            return ""
        drop = "M0 0c13 18 13 29 0 29s-13 -11 0 -29z"
        return "".join(f'<path transform="translate({x} 110)" d="{drop}" fill="{SKY}"/>' for x in (-40, 40))

    def _ground(self) -> str:
        return ellipse(128, 246, 46, 7, "#d9dde3") if self.legs == "jump" else ""


def ellipse(x: float, y: float, across: float, down: float, fill: str, opacity: float = 1, tilt: float = 0) -> str:
    turned = f' transform="rotate({tilt} {x:.1f} {y:.1f})"' if tilt else ""
    size = f'cx="{x:.1f}" cy="{y:.1f}" rx="{across:.1f}" ry="{down:.1f}"'
    return f'<ellipse {size} fill="{fill}" opacity="{opacity}"{turned}/>'


def curve(x: float, y: float, width: float, bow: float) -> str:
    """A line of ink that hangs through, or with a negative bow stands up."""
    shape = f"M{x:.1f} {y:.1f}q{width / 2:.1f} {bow} {width:.1f} 0"
    return f'<path d="{shape}" stroke="{INK}" stroke-width="5.5" stroke-linecap="round" fill="none"/>'


SHADES = (
    '<defs><radialGradient id="head" cx=".38" cy=".28" r=".85"><stop offset="0" stop-color="#4fd6cb"/>'
    f'<stop offset=".6" stop-color="{TEAL}"/><stop offset="1" stop-color="{DEEP}"/></radialGradient>'
    '<radialGradient id="body" cx=".4" cy=".25" r=".9"><stop offset="0" stop-color="#38c6bd"/>'
    f'<stop offset="1" stop-color="{DEEP}"/></radialGradient>'
    '<radialGradient id="lamp" cx=".4" cy=".35" r=".8"><stop offset="0" stop-color="#ffe27a"/>'
    f'<stop offset="1" stop-color="#f7a90c"/></radialGradient>'
    f'<clipPath id="inside"><ellipse cx="{HEAD[0]}" cy="{HEAD[1]}" rx="{HEAD[2] - 4}" ry="{HEAD[3] - 4}"/></clipPath>'
    f'<clipPath id="within"><ellipse cx="{BODY[0]}" cy="{BODY[1]}" rx="{BODY[2]}" ry="{BODY[3]}"/></clipPath></defs>'
)
HEART = (
    f'<path transform="translate(0 190)" fill="{RED}" stroke="white" stroke-width="3" '
    'd="M0 36C-54 4 -44 -36 -18 -32C-6 -31 0 -22 0 -18C0 -22 6 -31 18 -32C44 -36 54 4 0 36z"/>'
)
CROWN = (
    f'<path fill="{YELLOW}" stroke="#f7a90c" stroke-width="4" '
    'd="M-38 60L-46 16L-22 34L0 10L22 34L46 16L38 60Q0 46 -38 60z"/>'
    + ellipse(-46, 14, 7, 7, RED)
    + ellipse(46, 14, 7, 7, RED)
)
LETTERS = "".join(
    f'<path transform="translate({x} {y}) scale({size})" d="M0 0h20l-20 24h20" stroke="{SKY}" stroke-width="6" '
    'stroke-linecap="round" stroke-linejoin="round" fill="none"/>'
    for x, y, size in ((168, 58, 0.7), (190, 34, 0.95), (220, 8, 1.2))
)


def write(views: Iterable[View], folder: Path, is_told: bool = False) -> list[Path]:
    """A PNG each, in their order; told, with the caption beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for n, view in enumerate(views):
        paths.append(folder / f"{n}-{view.called.replace(' ', '-').replace(',', '')}.png")
        raster(view.svg()).save(paths[-1])
        if is_told:
            paths[-1].with_suffix(".txt").write_text(view.caption + "\n", "utf-8")
    return paths


LEARNT = (
    View(""),
    View("face", close=1.42, mouth="open"),
    View("looking left", turn=-40),
    View("from the side", turn=62),
    View("from behind", turn=180),
    View("waving", arms=(28, 138), mouth="open"),
    View("sitting", legs="sit"),
    View("sleeping", roll=-80, eyes="closed", mouth="small", extra="z", arms=(20, 40)),
)
UNSEEN = (  # three of the same words turned round or in other company, one new, four known from other subjects
    View("looking right", turn=40),
    View("sitting and waving", legs="sit", arms=(28, 138), mouth="open"),
    View("sitting, sleeping", legs="sit", eyes="closed", mouth="small", extra="z"),
    View("jumping", legs="jump", arms=(125, 125), close=0.93, eyes="happy", mouth="open"),
    View("crying", extra="tears", mouth="sad"),
    View("with sunglasses", extra="sunglasses"),
    View("with a crown", extra="crown"),
    View("with a red heart", extra="heart", arms=(-28, -28)),
)
