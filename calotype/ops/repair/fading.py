"""Fading and cast of a colour print: measured by what its darkest and lightest places have in common, and set right.

Dyes that fade let black rise, and tint it; paper that yellows lowers white, and tints it. Both are alike all over a
print, whatever it shows, so black and white are looked for in many windows, and count where several of them agree.
Where colour is gone too, black need not be lifted: a brown black, a yellow white and pale colours say it together.
No such figure tells a faded print from every picture: one of a brown motif has a brown white, fog has no black. Those
that are not clear are left, and said; whoever knows the print asks for the repair.

Levels are sRGB values of 0 to 255, of the light that the photo's own profile gives its samples.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np

from calotype.ops.color import max_value
from calotype.ops.resize import averaged

SIDE = 384  # longer side of the copy that is measured
SMALLEST = 48  # shorter side of a picture that is measured
WINDOWS, EXTREME, AGREEING = 8, 50, 6  # windows along a side; 1/50 of each; so many of them make a point
FRAME, FRAME_NOISE = (7.0, 248.0), 4.0  # levels of the scanner's lid around a print, and its standard deviation
LUMA = np.array([0.299, 0.587, 0.114])

LIFTED, LIFTED_TINT, LIFTED_RATIO, DEVIATION = 28.0, 8.0, 2.6, 4.0  # of the black of a faded print
YELLOW, MAX_WHITE = (14.0, 70.0), 250.0  # red over blue, and the highest level, of white on yellowed paper
BROWN, ABOVE_WHITE, PALE = 1.0, 6.0, 30.0  # levels, levels and chroma in Lab, of an aged print: see _is_aged
TINTED_BLACK, NEUTRAL = (25.0, 20.0), (12.0, 235.0)  # range of the channels and level: of black, and of white beside it
TONED, TINTED = 2.5, (2.0, 8.0)  # quantiles of the distance from one tint, in Lab
STAIN = 1 / 8  # of the longer side: a tint that changes more slowly is a stain, not a colour
SAME_HUE = 0.9  # length of their sum, of the sum of their lengths
MIN_WHITE = 195.0  # least level of the white of yellowed paper; below, it is a brown motif
WHITE_TINT = 60.0  # range of the channels of a white; more is a motif's colour
EXPONENTS = (1 / 3, 0.45, 0.6, 0.8, 1)  # of linear light: the first undoes what dyes lost, the last a cast of light
AGED = {"exponent": 0.8, "kept": 0.3, "saturation": 1.5}  # of an aged print without a known skin
MEDIAN = (90.0, 150.0)  # levels; of a photo whose median would lie outside, another exponent than the first is taken
DARK = 16.0  # highest level of a black whose tint is left: it can't be seen, and widened, it tints the shadows
DARKEST, WHITEST, RAISED = 8.0, 250.0, 0.5  # levels that black and white get; how far white is raised to it

CHEEK = 0.15  # half the side of the window on a cheek, of the distance of the eyes
SKIN = np.array([(7.0, 11.0), (22.0, 26.0)], np.float32)  # least and most (a, b) of Lab; half of 170 faces, and more
KEPT, SATURATIONS = np.linspace(0, 0.3, 4), np.linspace(1, 1.5, 6)  # what is tried
COST_KEPT, COST_SATURATION = 6.0, 2.0  # of all of either, in Lab


@dataclass(frozen=True, eq=False)
class Fading:
    """Black and white of a photo, and what they say.

    kind: "faded" (black is lifted and tinted), "yellowed" (white is yellow, black brown, colours pale), "tinted_black"
    (beside a neutral white: in a photo of people it has faded, elsewhere it may be the motif), "unclear" (a sign of
    fading, but not enough), "toned" (one tint over all tones, as sepia), "tinted" (a toned print with coloured parts),
    "grey", or "good".
    missing: what a "good", "unclear" or "tinted_black" photo lacks to be clear: "size", "lift" of black or a yellow
    white, "low_white", "agreement" of dark places, "tint" of black, "age" beside a yellow white, or "people".
    """

    kind: str
    black: np.ndarray  # (C,) levels
    white: np.ndarray  # (C,) levels
    exponent: float = EXPONENTS[0]
    kept: float = 0.0  # share of the tint of white that stays; all of it where white is a motif's
    saturation: float = 1.0  # factor of chroma
    missing: str = ""

    @property
    def level(self) -> float:
        """Luma of black."""
        return float(_luma(self.black))

    @property
    def tint(self) -> float:
        """The larger range of the channels in black and in white, levels; 0 of grey."""
        return float(max(np.ptp(self.black), np.ptp(self.white)))


def measure_fading(pixels: np.ndarray, light: np.ndarray, alpha: np.ndarray | None = None) -> Fading:
    """Looks for signs of fading.

    Args:
        pixels: (H, W, C) of 8 or 16 bits.
        light: (C, 256 or 65536), the linear light, 0 to 1, of each sample value.
        alpha: (H, W) of the same type; what it hides counts nowhere.
    """
    levels = _levels(_reduced(pixels), light)
    if alpha is not None:
        levels = _visible(levels, _reduced(alpha[..., None])[..., 0] > max_value(alpha.dtype) // 2)
    levels = _without_frame(levels)
    darkest, lightest = _extremes(levels)
    black, deviation = _point(darkest[np.argsort(_luma(darkest))][:AGREEING])
    white, _ = _point(lightest[np.argsort(-_luma(lightest))][:AGREEING])
    kind = _kind(levels, black, white, deviation)
    found = Fading(kind, black, white, missing=_missing(kind, levels, black, white, deviation))
    if found.kind == "yellowed":
        return replace(found, **AGED)
    sample = _light_of(levels.reshape(-1, levels.shape[2])[::5].T)

    def outside(exponent: float) -> float:
        median = np.median(_luma(_srgb(_corrected(sample, replace(found, exponent=exponent))).T))
        return float(abs(median - median.clip(*MEDIAN)))

    return replace(found, exponent=min(EXPONENTS, key=outside))


def measure_skin(pixels: np.ndarray, light: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """(3,) levels: the median of both cheeks, halfway between eyes and corners of the mouth; the middle where they lie
    beyond the picture's edge.

    Args:
        pixels, light: as of `measure_fading`.
        landmarks: (5, 2) x, y: eyes, nose, corners of the mouth.
    """
    first, second, _, *mouth = np.asarray(landmarks, float)
    radius = max(1, round(CHEEK * float(np.hypot(*(second - first)))))
    last = np.array(pixels.shape[1::-1]) - 1
    cheeks = [
        pixels[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1].reshape(-1, 1, pixels.shape[2])
        for x, y in np.rint((np.array([first, second]) + mouth) / 2).clip(0, last).astype(int)
    ]
    return np.median(_levels(np.concatenate(cheeks), light), (0, 1))


def suited_to_skin(fading: Fading, skins: np.ndarray) -> Fading:
    """With as much of paper's yellow left, and as much colour added, as the (N, 3) levels of skins need to stay skin,
    and little else changed.

    Black and white are no sure measure of what is grey: a corner that is darker than the rest makes the middle blue.
    The colour of skin is known, and what makes it grey or blue goes too far.
    """
    if not len(skins):
        return fading

    def cost(choice: Fading) -> float:
        levels = _srgb(_corrected(_light_of(skins.T), choice)).T @ _saturating(choice.saturation).T
        lab = _lab(levels)[:, 1:]
        outside = float(np.median(np.hypot(*(lab - lab.clip(*SKIN)).T)))
        changed = COST_KEPT * abs(choice.kept - fading.kept)
        return outside + changed + COST_SATURATION * abs(choice.saturation - fading.saturation)

    return min((replace(fading, kept=kept, saturation=factor) for kept in KEPT for factor in SATURATIONS), key=cost)


def remove_fading(pixels: np.ndarray, fading: Fading, light: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """Black and white made neutral, and set to nearly the ends of the range; grey and toned prints keep their tint.

    Args:
        light: as of `measure_fading`.
        strength: 0 leaves the photo, 1 corrects all of it.
    """
    values = np.arange(light.shape[1])
    table = np.empty(light.shape, pixels.dtype)
    for channel, corrected in enumerate(_corrected(light, fading)):
        samples = np.interp(corrected, light[channel], values)
        table[channel] = np.rint(values + strength * (samples - values))
    out = np.empty_like(pixels)
    for channel, samples in enumerate(table):
        for top in range(0, len(pixels), 1024):  # by bands, as the index is wide
            out[top : top + 1024, :, channel] = samples[pixels[top : top + 1024, :, channel]]
    factor = 1 + strength * (fading.saturation - 1)
    return out if factor == 1 or len(light) != 3 else cv2.transform(out, _saturating(factor))


def _saturating(factor: float) -> np.ndarray:
    """(3, 3) by which chroma grows and luma stays."""
    return factor * np.eye(3) + (1 - factor) * LUMA


def changes_of(fading: Fading) -> tuple[float, float]:
    """How many levels black or white is moved, and how much of the range of its channels is taken out, at full
    strength; the larger of both."""
    black, white, lowest, highest = _ends(fading)
    moves = (black, lowest), (white, highest)
    tones = max(float(abs(_luma(after) - _luma(before))) for before, after in moves)
    return tones, max(float(np.ptp(before) - np.ptp(after)) for before, after in moves)


def _corrected(light: np.ndarray, fading: Fading) -> np.ndarray:
    """(C, N) the light that each of (C, N) becomes."""
    low, high, to_low, to_high = (_light_of(levels)[:, None] ** fading.exponent for levels in _ends(fading))
    fraction = (light**fading.exponent - low) / np.maximum(high - low, 1e-3)
    return np.clip(to_low + fraction * (to_high - to_low), 0, 1) ** (1 / fading.exponent)


def _ends(fading: Fading) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(C,) levels each: black and white, and what they become."""
    black, white = fading.black, fading.white
    if fading.kind in ("toned", "tinted"):
        black, white = (np.repeat(_luma(point), len(point)) for point in (black, white))
    highest = white.max() + RAISED * (max(WHITEST, white.max()) - white.max())
    kept = 1.0 if np.ptp(white) > WHITE_TINT else fading.kept
    target = highest * (1 - kept * (1 - white / max(1.0, white.max())))
    lowest = black if black.max() <= DARK else np.full_like(black, min(DARKEST, black.min()))
    return black, white, lowest, target


def _kind(levels: np.ndarray, black: np.ndarray, white: np.ndarray, deviation: float) -> str:
    if min(levels.shape[:2]) < SMALLEST:
        return "good"
    if levels.shape[2] == 1:
        return "grey"
    offset, has_single_hue = _offset_from_tint(levels)
    if has_single_hue and _is_toned(offset):
        return "grey" if max(np.ptp(black), np.ptp(white)) < LIFTED_TINT else "toned"
    is_yellow = _is_yellow(white)
    is_lifted = _is_lifted(black)
    median, top = np.quantile(np.hypot(*offset.T), (0.5, 0.97))
    if (is_lifted or is_yellow) and has_single_hue and median < TINTED[0] and top >= TINTED[1]:
        return "tinted"
    is_clear = deviation <= DEVIATION and (np.ptp(black) >= LIFTED_TINT or is_yellow)
    if is_lifted and is_clear and white.max() <= MAX_WHITE:
        return "faded"
    if white.max() >= MIN_WHITE and _is_aged(levels, black, white):
        return "yellowed"
    if deviation <= DEVIATION and _is_tinted_black(black, white):
        return "tinted_black"
    return "unclear" if is_lifted or is_yellow else "good"


def _missing(kind: str, levels: np.ndarray, black: np.ndarray, white: np.ndarray, deviation: float) -> str:
    if kind not in ("good", "unclear"):
        return "people" if kind == "tinted_black" else ""
    if min(levels.shape[:2]) < SMALLEST:
        return "size"
    if not _is_lifted(black):
        return "age" if kind == "unclear" else "lift"
    if white.max() > MAX_WHITE:
        return "low_white"
    return "agreement" if deviation > DEVIATION else "tint"


def _is_lifted(black: np.ndarray) -> bool:
    return bool(black.min() >= LIFTED and black.max() <= LIFTED_RATIO * black.min())


def _is_tinted_black(black: np.ndarray, white: np.ndarray) -> bool:
    is_neutral = np.ptp(white) <= NEUTRAL[0] and white.min() >= NEUTRAL[1]
    return bool(is_neutral and np.ptp(black) >= TINTED_BLACK[0] and _luma(black) >= TINTED_BLACK[1])


def _is_yellow(white: np.ndarray) -> bool:
    """As paper yellows: least red, most blue is lost."""
    red_green, green_blue = white[0] - white[1], white[1] - white[2]
    is_tinted = YELLOW[0] <= red_green + green_blue <= YELLOW[1] and white.max() <= MAX_WHITE
    return bool(is_tinted and red_green >= 3 and green_blue >= 0.6 * red_green)


def _is_aged(levels: np.ndarray, black: np.ndarray, white: np.ndarray) -> bool:
    """Whether black is brown, white yellow, nothing beyond white, and colours are pale even with both made neutral."""
    if not _is_yellow(white) or np.diff(black).max() > -BROWN:
        return False
    colours = levels.reshape(-1, 3)
    corrected = _srgb(_corrected(_light_of(colours[::5].T), Fading("faded", black, white)))
    chroma = np.percentile(np.hypot(*_lab(corrected.T)[:, 1:].T), 97)
    return bool((np.percentile(colours, 99.5, axis=0) - white).max() <= ABOVE_WHITE and chroma <= PALE)


def _offset_from_tint(levels: np.ndarray) -> tuple[np.ndarray, bool]:
    """(H, W, 2) from the usual tint of each tone, (a, b) of Lab; and whether usual tints are of one hue, or none."""
    lab = _lab(levels.reshape(-1, 3))
    tone = (lab[:, 0] / 5.001).astype(int)
    usual = np.zeros((20, 2), np.float32)
    for n in np.unique(tone):
        usual[n] = np.median(lab[tone == n, 1:], 0)
    counts = np.bincount(tone, minlength=20)
    length, aligned = counts @ np.hypot(*usual.T), np.hypot(*(counts @ usual))
    offset = (lab[:, 1:] - usual[tone]).reshape(*levels.shape[:2], 2)
    return offset, bool(aligned >= SAME_HUE * length or length < 2 * len(lab))


def _is_toned(offset: np.ndarray) -> bool:
    """Whether hardly a place differs from the usual tint, apart from grain and stains."""
    height, width = offset.shape[:2]
    small = cv2.resize(offset, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    small -= cv2.GaussianBlur(small, (0, 0), STAIN * max(small.shape[:2]))
    return bool(np.quantile(np.hypot(*small.T), 0.9) < TONED)


def _lab(levels: np.ndarray) -> np.ndarray:
    """(N, 3) float32 of (N, 3)."""
    return cv2.cvtColor(np.float32(levels.clip(0, 255) / 255)[None], cv2.COLOR_RGB2LAB)[0]


def _extremes(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, C) each: the darkest and the lightest colour of every window."""
    rows, columns = (np.linspace(0, side, min(WINDOWS, side) + 1).astype(int) for side in levels.shape[:2])
    darkest, lightest = [], []
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            window = levels[top:bottom, left:right].reshape(-1, levels.shape[2])
            window = window[np.argsort(_luma(window), kind="stable")]
            count = max(1, len(window) // EXTREME)
            darkest.append(np.median(window[:count], 0))
            lightest.append(np.median(window[-count:], 0))
    return np.array(darkest), np.array(lightest)


def _point(colours: np.ndarray) -> tuple[np.ndarray, float]:
    """The median of colours, and how much their tints differ from its: levels."""
    median = np.median(colours, 0)
    tints = colours - colours.mean(1, keepdims=True)
    return median, float(np.abs(tints - (median - median.mean())).mean())


def _visible(levels: np.ndarray, is_visible: np.ndarray) -> np.ndarray:
    """(H', W, C) without what is hidden: each row's visible pixels are repeated to fill it; all of it if none is."""
    width = levels.shape[1]
    places = [(y, np.flatnonzero(row)) for y, row in enumerate(is_visible) if row.any()]
    rows = [levels[y, at[np.arange(width) * len(at) // width]] for y, at in places]
    return np.stack(rows) if rows else levels


def _without_frame(levels: np.ndarray) -> np.ndarray:
    """Without the rows and columns of the scanner's lid, white or black, around a print."""

    def is_frame(line: np.ndarray) -> bool:
        mean = line.mean()
        return bool(line.std(0).max() < FRAME_NOISE and not FRAME[0] < mean < FRAME[1])

    for _ in range(4):
        while len(levels) > SMALLEST and is_frame(levels[0]):
            levels = levels[1:]
        levels = np.rot90(levels)
    return levels


def _reduced(pixels: np.ndarray) -> np.ndarray:
    factor = SIDE / max(pixels.shape[:2])
    if factor >= 1:
        return pixels
    height, width = (max(1, round(side * factor)) for side in pixels.shape[:2])
    return averaged(pixels, height, width)


def _levels(pixels: np.ndarray, light: np.ndarray) -> np.ndarray:
    """(H, W, C) float64, sRGB values of 0 to 255."""
    tables = _srgb(light)
    return np.stack([tables[channel][pixels[..., channel]] for channel in range(pixels.shape[2])], 2)


def _srgb(light: np.ndarray) -> np.ndarray:
    """Levels of linear light, by sRGB's curve."""
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _light_of(levels: np.ndarray) -> np.ndarray:
    """The inverse of sRGB's curve."""
    values = np.asarray(levels) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _luma(colours: np.ndarray) -> np.ndarray:
    """(...) of (..., C)."""
    return colours @ LUMA if colours.shape[-1] == 3 else colours[..., 0]
