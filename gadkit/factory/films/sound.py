"""The sound of the films: parts that strike a table, each with a tone of its own.

A struck plate rings at fixed ratios.  Bodies of one shape and material ring the lower the larger they are, in inverse
proportion; the material decides how high, how long, and how hard the click is.  Spectrograms need torch and no more.

Book: pretext/crossmodal
"""

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from gadkit.checks import check_finite, checked
from gadkit.factory.draw import Draw
from gadkit.factory.films.mechanics import FIELD, RATE
from gadkit.factory.films.motion import Clips

SAMPLES = 640  # a frame of the video: 32,000 a second
SAMPLE_RATE = RATE * SAMPLES
BINS, HOP, WINDOW = 64, 80, 512  # of a spectrogram; 8 columns a frame of the video
LOWEST = 100.0  # Hz, where the mel filters begin
HUSH = 1e-12  # power below which all is silence

# lowest tone (Hz) of a part 4 cm across; loss factor, the share of a mode's energy that a radian takes away; how long
# the contact lasts (ms), which keeps high modes from being struck: rubber thuds
MATERIALS = {
    "metal": (3600.0, 0.003, 0.05),
    "glass": (3000.0, 0.006, 0.06),
    "ceramic": (2400.0, 0.012, 0.08),
    "plastic": (1300.0, 0.06, 0.2),
    "rubber": (450.0, 0.25, 0.8),
}
MADE_OF = {
    **dict.fromkeys(("washer", "gear", "wheel", "coin", "cap", "nut", "screw", "key", "bracket", "battery"), "metal"),
    **dict.fromkeys(("bottle", "fuse"), "glass"),
    **dict.fromkeys(("plate", "tile", "resistor"), "ceramic"),
    **dict.fromkeys(("gasket", "cable"), "rubber"),
}  # all others: plastic
PARTIALS = (1.0, 1.73, 2.33, 3.91, 4.11, 6.30, 6.71)  # of a free round plate, Leissa 1969, chapter 2
_STRUCK, _CLICK, _ROOM = 0.2, 0.05, 0.002  # amplitudes of tone and click at 1 m/s, and of the room's own noise
_BRIGHTNESS = 0.45  # of a clip at which the automatic gain is 1


@checked
def tone_of(clips: Clips) -> Float[Tensor, "n"]:
    """The lowest partial of each clip's part in Hz: its material's, times 4 cm over its diameter."""
    metres = 2 * clips.radii / clips.frames.shape[-1] * FIELD
    return _of_material(clips)[:, 0] * 0.04 / metres


def _of_material(clips: Clips) -> Float[Tensor, "n 3"]:
    table = torch.tensor([MATERIALS[MADE_OF.get(name, "plastic")] for name in clips.names])
    return table.to(clips.radii)[clips.parts]


@checked
@torch.inference_mode()
def waves(clips: Clips, leak: float = 0.0, noise: float = 1.0) -> Float[Tensor, "n samples"]:
    """The sound of every clip, as long as its video, about [-1, 1]: `SAMPLES` samples a frame.

    Each impact strikes all partials, in proportion to its speed, from the moment at which it is seen.  `noise` scales
    the room's.  `leak` opens a shortcut: camera and microphone share one automatic gain, so a clip is the louder the
    brighter its picture is, by so many decibels from black to white.  Raises ValueError for a `leak` beyond 200
    decibels, or noise below 0.
    """
    if abs(leak) > 200 or not 0 <= noise < math.inf:
        raise ValueError(f"waves: expected a leak from -200 to 200 dB and noise from 0, got {leak} and {noise}")
    draw, count = Draw(clips.seeds), clips.frames.shape[1] * SAMPLES
    _, loss, contact = (column[:, None] for column in _of_material(clips).unbind(1))
    now = torch.arange(count, device=clips.radii.device) / SAMPLE_RATE  # seconds
    since = [now - hit[:, None] / RATE for hit in clips.hits.unbind(1)]  # k times (n, samples)
    blows = [speed[:, None] * (after >= 0) for speed, after in zip(clips.speeds.unbind(1), since, strict=True)]
    sound = noise * _ROOM * draw.gaussian("room", count)
    grit = draw.gaussian("click", count)
    for after, blow in zip(since, blows, strict=True):
        after = after.clamp(min=0)
        if not bool(blow.any()):
            continue
        sound = sound + _CLICK * blow * grit * torch.exp(-after / (contact * 2e-3))
        for number, ratio in enumerate(PARTIALS):
            pitch = tone_of(clips)[:, None] * ratio
            audible = (pitch < 0.45 * SAMPLE_RATE) * torch.exp(-((math.pi * pitch * contact * 1e-3) ** 2) / 4)
            share = draw.uniform(f"partial {number}", 0.4, 1.0)[:, 0] * audible / len(PARTIALS) ** 0.5
            ring = torch.exp(-math.pi * loss * pitch * after) * torch.sin(math.tau * pitch * after)
            sound = sound + _STRUCK * blow * share * ring
    if leak:
        brightness = clips.frames.float().mean((1, 2, 3, 4)) / 255
        sound = sound * 10 ** (leak * (brightness - _BRIGHTNESS) / 20)[:, None]
    return sound


@checked
@torch.inference_mode()
def log_mel(sound: Float[Tensor, "n samples"]) -> Float[Tensor, "n 1 bins columns"]:
    """Log-mel spectrograms: the logarithm of the power in `BINS` bands, low ones first, every `HOP` samples.

    Column c is centred on sample c * HOP; its window is `WINDOW` samples wide (Hann).  Natural logarithm, 0 at power 1.
    Raises ValueError for a sound of less than `HOP` samples, or NaN.
    """
    if not len(sound) or sound.shape[1] < HOP:
        raise ValueError(f"sound: expected some of at least {HOP} samples, got shape {tuple(sound.shape)}")
    check_finite(sound, "sound")
    shape = {"n_fft": WINDOW, "hop_length": HOP, "window": torch.hann_window(WINDOW, device=sound.device)}
    bins = torch.stft(sound, **shape, pad_mode="constant", return_complex=True)[..., : sound.shape[1] // HOP]
    power = bins.abs() ** 2 / WINDOW
    return (_mel_filters().to(sound.device) @ power + HUSH).log()[:, None]


@lru_cache(maxsize=1)
def _mel_filters() -> Float[Tensor, "bins frequencies"]:
    """Triangles, equally spaced on the mel scale 2595 log10(1 + f / 700) (O'Shaughnessy 1987), each of sum 1."""
    low, high = (2595 * math.log10(1 + f / 700) for f in (LOWEST, SAMPLE_RATE / 2))
    corners = 700 * (10 ** (torch.linspace(low, high, BINS + 2) / 2595) - 1)  # Hz
    frequencies = torch.linspace(0, SAMPLE_RATE / 2, WINDOW // 2 + 1)
    corners = corners[:, None].double()
    rise = (frequencies - corners[:-2]) / (corners[1:-1] - corners[:-2])
    fall = (corners[2:] - frequencies) / (corners[2:] - corners[1:-1])
    filters = torch.minimum(rise, fall).clamp(min=0)
    return (filters / filters.sum(1, keepdim=True)).float()


@checked
def spectrograms(clips: Clips, leak: float = 0.0) -> Float[Tensor, "n 1 bins columns"]:
    """The spectrograms of clips, in half precision; for `leak` see `waves`."""
    return log_mel(waves(clips, leak)).half()
