"""Sounds begin when parts land, ring lower the larger they are, and longer the harder."""

from dataclasses import replace

import pytest
import torch

from gadkit.factory.films import mechanics, motion, sound


@pytest.fixture(scope="module")
def landing() -> motion.Clips:
    return motion.clips(18, seed=1, actions=mechanics.AUDIBLE)


def test_sound_lasts_as_long_as_the_film(landing: motion.Clips) -> None:
    waves = sound.waves(landing)
    assert waves.shape == (18, 8 * sound.SAMPLES)
    assert 0.02 < waves.abs().max() < 1
    assert sound.log_mel(waves).shape == (18, 1, 64, 64)
    assert sound.spectrograms(landing).dtype == torch.float16
    assert sound.SAMPLE_RATE / sound.SAMPLES == mechanics.RATE


def test_the_tone_falls_with_the_size(landing: motion.Clips) -> None:
    """The loudest low peak of the spectrum is the lowest partial, and doubling the part halves it."""
    ringing = torch.tensor([sound.MADE_OF.get(name, "plastic") in ("metal", "glass") for name in landing.names])
    rows = ringing[landing.parts].nonzero()[:, 0][:6]
    assert len(rows) >= 4
    tones = []
    for factor in (1.0, 2.0):
        larger = replace(landing, radii=landing.radii * factor)
        waves = sound.waves(larger, noise=0.0)[rows]
        start = (landing.hits[rows, 0] * sound.SAMPLES + 200).long()  # after the click
        for i, wave in enumerate(waves):
            spectrum = torch.fft.rfft(wave[start[i] :] * torch.hann_window(len(wave) - int(start[i])), 1 << 16).abs()
            tone = sound.tone_of(larger)[rows[i]]
            band = slice(0, int(1.4 * tone / sound.SAMPLE_RATE * (1 << 16)))
            tones.append(spectrum[band].argmax() * sound.SAMPLE_RATE / (1 << 16))
            assert tones[-1] == pytest.approx(float(tone), rel=0.03)
    small, large = torch.stack(tones).view(2, -1)
    assert torch.allclose(small / large, torch.tensor(2.0), rtol=0.05)


def test_the_sound_begins_with_the_contact(landing: motion.Clips) -> None:
    waves = sound.waves(landing, noise=0.0)
    for wave, hit in zip(waves, landing.hits[:, 0], strict=True):
        first = (wave.abs() > 1e-6).nonzero()[0, 0]
        assert first == pytest.approx(float(hit) * sound.SAMPLES, abs=3)
    column = (sound.log_mel(sound.waves(landing))[:, 0].mean(1).diff(dim=1)).argmax(1)  # the steepest rise
    assert ((column - landing.hits[:, 0] * 8).abs() < 6).float().mean() > 0.9


def test_harder_blows_are_louder_and_silence_is_silent(landing: motion.Clips) -> None:
    soft = replace(landing, speeds=landing.speeds / 2)
    assert torch.allclose(sound.waves(landing, noise=0.0), 2 * sound.waves(soft, noise=0.0), atol=1e-6)
    quiet = motion.clips(2, actions=("spin",))
    assert not sound.waves(quiet, noise=0.0).any()
    assert sound.waves(quiet).any()


def test_metal_rings_and_rubber_thuds() -> None:
    one = motion.clips(6, actions=("fall",), parts=("coin", "gasket"))
    late = {}
    for number, name in enumerate(one.names):
        speeds = one.speeds * torch.tensor([1.0, 0.0, 0.0, 0.0])  # the first impact alone
        clip = replace(one, parts=torch.full_like(one.parts, number), speeds=speeds)
        waves = sound.waves(clip, noise=0.0)
        after = (clip.hits[:, 0] * sound.SAMPLES).long()
        energy = [(w[a + 1280 :].square().sum() / w[a:].square().sum()) for w, a in zip(waves, after, strict=True)]
        late[name] = torch.stack(energy)  # the share that is left 40 ms after the contact
    assert (late["coin"] > 0.01).all()
    assert (late["gasket"] < 1e-6).all()


def test_a_pure_tone_lies_in_its_band() -> None:
    time = torch.arange(5120) / sound.SAMPLE_RATE
    bands = []
    for hertz in (300.0, 1000.0, 4000.0, 12000.0):
        mel = sound.log_mel(0.3 * torch.sin(6.2832 * hertz * time)[None])[0, 0, :, 10:50].mean(1)
        bands.append(mel.argmax())
        low, high = (2595 * torch.log10(torch.tensor(1 + f / 700)) for f in (sound.LOWEST, sound.SAMPLE_RATE / 2))
        place = (2595 * torch.log10(torch.tensor(1 + hertz / 700)) - low) / (high - low) * 65 - 1
        assert bands[-1] == pytest.approx(float(place), abs=1)
    assert sorted(bands) == bands


def test_bands_cover_all_frequencies_and_constant_power_is_flat() -> None:
    filters = sound._mel_filters()
    assert torch.allclose(filters.sum(1), torch.ones(64))
    assert (filters.sum(0)[5:-1] > 0).all()


def test_a_shared_gain_makes_bright_clips_loud_and_nothing_else(landing: motion.Clips) -> None:
    bright = landing.frames.float().mean((1, 2, 3, 4)) / 255
    plain, leaky = sound.log_mel(sound.waves(landing)), sound.log_mel(sound.waves(landing, leak=60.0))
    change = (leaky - plain).flatten(1)
    assert torch.allclose(change.mean(1), 6.0 * (bright - 0.45) * 2.302585, atol=0.05)
    assert change.std(1).max() < 0.1  # the same in every band, at every moment
