"""`gadkit export`, and its page in a real browser: opened from a disk, it scores photographs as Python does."""

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
import torch
from PIL import Image

from chromium import PROGRAM, Chromium
from gadkit import factory, inspector, zoo
from gadkit.anomaly import export, fitted
from gadkit.anomaly.detectors import build
from gadkit.anomaly.tiles import Tiled
from gadkit.cli import main
from gadkit.data.folders import read_image

browser_needed = pytest.mark.skipif(not PROGRAM, reason="no Chromium is installed")
Kept = tuple[Path, Path, Path]


def keep(folder: Path, *options: str, few: bool = True) -> Kept:
    """A detector that was exported by the command: its file, if it was fitted on a `few` parts, its page and graph."""
    factory.export(folder, ("nut",), "fixture", seed=1, per_class=3, size=80)
    paths = tuple(folder / f"nut.{ending}" for ending in ("gad", "html", "onnx"))
    good, given = str(folder / "nut" / "train" / "good"), [str(paths[0])]
    if few:
        assert main(["fit", "--normal", good, *options, "--object", "nut", "--out", *given]) == 0
    else:
        given = [*options, "--object", "nut"]
    assert main(["export", *given, "--out", str(paths[1]), "--onnx", str(paths[2])]) == 0
    return paths


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return keep(tmp_path_factory.mktemp("kept"), "--detector", "patch-knn", "--backbone", "convnext")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Callable[..., Chromium]]:
    """A function that starts a browser, with options."""
    started: list[Chromium] = []

    def start(*options: str) -> Chromium:
        started.append(Chromium(tmp_path / f"profile {len(started)}", *options))
        return started[-1]

    yield start
    for each in started:
        each.close()


def photographs(folder: Path, count: int) -> list[Path]:
    """Parts in several formats and sizes: wide, tall, small, transparent, and turned by a tag."""
    files = []
    for i in range(count):
        image = factory.render("nut", torch.tensor([i]), 1, size=160).images[0].permute(1, 2, 0).numpy()
        picture = Image.fromarray(image).resize(((90, 160), (231, 150), (40, 40), (301, 199))[i % 4])
        kind = ("png", "jpg", "webp", "bmp")[i % 4]
        files.append(folder / f"part {i}.{kind}")
        if kind == "png":
            picture.putalpha(Image.linear_gradient("L").resize(picture.size))
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.save(files[-1], **({"exif": exif} if kind == "jpg" else {"lossless": True} if kind == "webp" else {}))
    return files


def dropped(page: Chromium, files: list[Path]) -> None:
    """Drop files on the page, as a hand with a mouse does: over it first, then let go."""
    held = [[file.name, base64.b64encode(file.read_bytes()).decode()] for file in files]
    page.run(
        f"""(held => {{
          const carried = new DataTransfer();
          for (const [name, bytes] of held) carried.items.add(new File([engine.bytes(bytes)], name));
          for (const type of ["dragover", "drop"]) {{
            const event = new DragEvent(type, {{dataTransfer: carried, bubbles: true, cancelable: true}});
            if ($("drop").dispatchEvent(event)) throw new Error(type + " would leave the page");
            window.over = [...(window.over || []), $("drop").classList.contains("over")];
          }}
        }})({json.dumps(held)})"""
    )


def scores(page: Chromium, files: list[Path], drop: bool = False) -> list[float]:
    """What the page finds for photographs that are chosen in it, or dropped on it."""
    dropped(page, files) if drop else page.choose("#files", files)
    page.wait(f"rows.length + document.querySelectorAll('#refused li').length === {len(files)}")
    assert page.run("rows.map(row => row.path)") == [file.name for file in files]
    assert not page.errors
    assert not [address for address in page.requests if not address.startswith(("file:", "blob:"))]
    return page.run("rows.map(row => row.score)")


def rgba(image: torch.Tensor) -> str:
    """A picture as the page has it, in JavaScript."""
    pixels = torch.cat([image, torch.full_like(image[:1], 255)]).permute(1, 2, 0).flatten().tolist()
    return f"{{data: new Uint8ClampedArray({pixels}), width: {image.shape[2]}, height: {image.shape[1]}}}"


def restored(kept: Kept) -> "tuple[fitted.Detector, fitted.Fitting]":
    state, fitting = fitted.read(kept[0])
    return fitted.restore(state, fitting, zoo.load(fitting.backbone, fitting.preset, "cpu")), fitting


@browser_needed
def test_the_page_scores_as_python_does(kept: Kept, tmp_path: Path, browser: Callable[..., Chromium]) -> None:
    detector, fitting = restored(kept)
    files, page = photographs(tmp_path, 3), browser()
    page.open(kept[1])
    found = scores(page, files)
    assert found == pytest.approx([float(detector.score(read_image(f)[None]).scores) for f in files], abs=1e-4)
    line = max(fitting.scores)
    assert page.run("line") == pytest.approx(line)
    head, *lines = page.run("table()").splitlines()
    assert head == "path,score,threshold,verdict"
    verdicts = {name: verdict for name, _, _, verdict in (text.split(",") for text in lines)}
    assert verdicts == {f.name: "anomalous" if s > line else "normal" for f, s in zip(files, found, strict=True)}
    page.run("$('line').value = 9; $('line').dispatchEvent(new Event('input'))")
    assert page.run("$('verdicts').textContent").startswith("0 of 3 photographs above 9, and 0 of 3 good parts")
    (tmp_path / "torn.png").write_bytes(b"no picture")
    page.choose("#files", [tmp_path / "torn.png"])
    page.wait("!$('refused').hidden")
    assert page.run("$('refused').innerText").endswith("torn.png: no picture that this browser can read")
    for width in (1200, 420):
        page.look(width)
        assert page.run("document.documentElement.scrollWidth <= innerWidth"), width


@browser_needed
def test_tiles_and_their_blended_map_are_those_of_python(
    kept: Kept, tmp_path: Path, browser: Callable[..., Chromium]
) -> None:
    graph = onnx.load(kept[2])
    facts = json.loads(graph.metadata_props[0].value)
    graph.metadata_props[0].value = json.dumps(facts | {"tiles": {"size": 64, "overlap": 0.3}})
    (tmp_path / "tiled.html").write_text(inspector.page(graph.SerializeToString()), encoding="utf-8")
    files, page = photographs(tmp_path, 2), browser()
    page.open(tmp_path / "tiled.html")
    detector = Tiled(restored(kept)[0], 64, 0.3)
    result = [detector.score(read_image(file)[None]) for file in files]
    assert scores(page, files) == pytest.approx([float(r.scores) for r in result], abs=1e-4)
    page.run(
        "loaded().then(run => { window.heat = (async picture => (await engine.inspect(run, picture, facts)).map)})"
    )
    heat = page.run(f"heat({rgba(read_image(files[1]))}).then(map => [...map.data])")
    torch.testing.assert_close(torch.tensor(heat).view(result[1].maps[0].shape), result[1].maps[0], atol=1e-4, rtol=0)


@browser_needed
def test_photographs_that_are_dropped_score_as_those_that_are_chosen(
    kept: Kept, tmp_path: Path, browser: Callable[..., Chromium]
) -> None:
    files, page = photographs(tmp_path, 2), browser()
    page.open(kept[1])
    by_hand = scores(page, files, drop=True)
    assert page.run("over") == [True, False]  # the frame says where to let go
    page.run("$('clear').click()")
    assert by_hand == scores(page, files)


@browser_needed
def test_a_photograph_of_the_camera(kept: Kept, browser: Callable[..., Chromium]) -> None:
    page = browser("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    page.open(kept[1])
    page.run("camera()")
    page.wait("document.querySelector('video').videoWidth > 0")
    page.run("shoot()")
    page.wait("rows.length === 1")
    assert page.run("rows[0].path") == "camera 1"
    page.run("off()")
    assert page.run("$('live').hidden && document.querySelector('video').srcObject === null")


@browser_needed
def test_where_there_is_no_webassembly_the_page_says_so(kept: Kept, browser: Callable[..., Chromium]) -> None:
    page = browser()
    page("Page.addScriptToEvaluateOnNewDocument", source="delete globalThis.WebAssembly")
    page.open(kept[1])
    assert "no WebAssembly" in page.run("$('missing').innerText")
    assert page.run("$('drop').hidden")


@pytest.mark.slow
@browser_needed
@pytest.mark.parametrize("name", ["subspace", "patch-knn"])
def test_thirty_photographs_through_the_real_eyes(name: str, tmp_path: Path, browser: Callable[..., Chromium]) -> None:
    kept = keep(tmp_path / "kept", "--detector", name)
    detector, _ = restored(kept)
    files, page = photographs(tmp_path, 30), browser()
    page.open(kept[1])
    expected = [float(detector.score(read_image(file)[None]).scores) for file in files]
    assert scores(page, files) == pytest.approx(expected, abs=1e-4)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return keep(tmp_path_factory.mktemp("words"), "--detector", "anomalyclip", few=False)


@browser_needed
def test_thirty_photographs_read_by_learnt_prompts(
    words: Kept, tmp_path: Path, browser: Callable[..., Chromium]
) -> None:
    detector, files, page = (
        build("anomalyclip", zoo.load("clip", device="cpu")).fit(),
        photographs(tmp_path, 30),
        browser(),
    )
    page.open(words[1])
    results = [detector.score(read_image(file)[None]) for file in files]
    assert scores(page, files) == pytest.approx([float(result.scores) for result in results], abs=1e-4)
    assert page.run("line === null && $('verdicts').textContent.startsWith('No threshold yet')")
    assert "No good part was seen before" in page.run("document.body.innerText")
    page.run(
        "loaded().then(run => { window.heat = (async (picture, width, height) => "
        "engine.enlarged((await engine.inspect(run, picture, facts)).map, width, height))})"
    )
    image = read_image(files[3])
    height, width = image.shape[1:]
    heat = page.run(f"heat({rgba(image)}, {width}, {height}).then(map => [...map])")
    torch.testing.assert_close(torch.tensor(heat).view(height, width), results[3].maps[0], atol=1e-4, rtol=0)


@pytest.mark.slow
@browser_needed
@pytest.mark.parametrize("few", [False, True])
def test_thirty_photographs_read_by_windows_and_sentences(
    few: bool, tmp_path: Path, browser: Callable[..., Chromium]
) -> None:
    kept = keep(tmp_path / "kept", "--detector", "winclip", few=few)
    detector = restored(kept)[0] if few else build("winclip", zoo.load("clip", device="cpu"), "nut").fit()
    files, page = photographs(tmp_path, 30), browser()
    page.open(kept[1])
    expected = [float(detector.score(read_image(file)[None]).scores) for file in files]
    assert scores(page, files) == pytest.approx(expected, abs=1e-4)


def test_what_cannot_be_exported_is_named(kept: Kept, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.html").write_text("my page")
    (tmp_path / "mine.onnx").write_text("my graph")
    bad = {
        ("export", kept[0]): "expected --out PAGE.html, --onnx GRAPH.onnx or both, got neither",
        ("export", kept[0], "--out", tmp_path / "a.txt"): "--out: expected a name that ends in .html",
        ("export", kept[0], "--onnx", tmp_path / "a.html"): "--onnx: expected a name that ends in .onnx",
        ("export", kept[0], "--out", tmp_path / "mine.html"): "got another file",
        ("export", kept[0], "--onnx", tmp_path / "mine.onnx"): "got another file",
        ("export", kept[0], "--out", tmp_path / "a.html", "--threshold", "nan"): "expected a finite number, got nan",
        ("export", kept[1], "--out", tmp_path / "a.html"): "expected a file that `gadkit fit` wrote",
        ("export", kept[0], "--out", tmp_path / "a.html", "--object", "nut"): "expected it without --object",
        ("export", "--out", tmp_path / "a.html", "--detector", "subspace"): "subspace has to see good parts, got none",
        ("export", "--out", tmp_path / "a.html", "--detector", "inctrl"): "one of winclip, patch-knn, subspace, anom",
        ("export", "--out", tmp_path / "a.html", "--detector", "winclip"): "--object: expected a text such as",
    }
    for command, message in bad.items():
        assert main([*map(str, command)]) == 2
        assert message in capsys.readouterr().err
    fitting = fitted.read(kept[0])[1]
    assert export.facts_of(kept[2].read_bytes())["threshold"] == max(fitting.scores)
    with pytest.raises(ValueError, match="expected a graph that `gadkit export` wrote"):
        inspector.page(b"none")
    assert inspector.is_page(kept[1].read_bytes())
    assert (tmp_path / "mine.html").read_text() == "my page"


def test_the_runtime_is_the_one_that_npm_publishes() -> None:
    from base64 import b64decode
    from gzip import decompress
    from hashlib import sha256

    held = {name: b64decode(text) for name, text in inspector.runtime().items()}
    assert b"ONNX Runtime Web v1.30.0" in held["module"][:100]
    sums = {"module": sha256(held["module"]).hexdigest(), "wasm": sha256(decompress(held["wasm"])).hexdigest()}
    assert sums == {  # of dist/ort.wasm.bundle.min.mjs and dist/ort-wasm-simd-threaded.wasm in onnxruntime-web 1.30.0
        "module": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
        "wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    }
