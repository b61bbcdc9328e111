"""The factory's benchmark renders scenes, as many as it says."""

from types import SimpleNamespace

import pytest

from benchmarks import factory
from gadkit.factory import scenes


def test_scenes_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered, ticks = [], iter((0.0, 9.0, 10.0, 14.0, 20.0, 23.0, 30.0, 36.0))
    monkeypatch.setattr(factory, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    render = scenes.render
    monkeypatch.setattr(
        factory.scenes, "render", lambda count, seed: rendered.append(len(render(count, seed))) or rendered[-1]
    )
    assert factory._scenes(2) == pytest.approx(60 * 2 / 3)  # the best of three, without the first
    assert rendered == [2] * 4
