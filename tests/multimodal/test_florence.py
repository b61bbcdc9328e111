"""Florence-2: a small one that learnt one scene by heart answers all tasks, and the library parses what it writes."""

import json
from pathlib import Path

import pytest
import torch
from layouts import LAYOUTS, rewrite
from torch import Tensor
from transformers import Florence2Config, Florence2ForConditionalGeneration

from gadkit import weights, zoo
from gadkit.backbones.tiny import EYES
from gadkit.factory import scenes
from gadkit.multimodal import florence
from gadkit.multimodal.florence import CAPTION, OBJECTS, REGION, SEGMENT, WORDS, Florence2
from gadkit.multimodal.florence_network import FlorenceConfig, build, processor_for, save
from gadkit.multimodal.florence_words import PROMPTS, learn_words
from gadkit.multimodal.protocols import Reader
from gadkit.multimodal.training import florence_lessons as taught
from gadkit.weights import Weights

CPU = torch.device("cpu")
SMALL = FlorenceConfig(image_size=64, width=48, layers=1, context=64, answer=48, stem="davit")


def source(**options: object) -> Weights:
    return Weights("gadkit", "florence2", "MIT", None, "", "", "florence2", options)


@pytest.fixture(scope="module")
def shown() -> scenes.Scenes:
    """The scene that is learnt."""
    return scenes.render(1, 0, 64, "seen", parts=(3, 3))


@pytest.fixture(scope="module")
def lessons(shown: scenes.Scenes) -> list[taught.Lesson]:
    """One lesson of each task on the scene as it is."""
    drawn = [lesson for seed in range(8) for lesson in taught.of_scenes(shown, seed) if lesson.image == 0]
    drawn.append(taught.Lesson(CAPTION, 0, "", "a photo of three parts"))
    found = {lesson.task: lesson for lesson in reversed(drawn) if lesson.answer}
    return list(found.values())


@pytest.fixture(scope="module")
def words(lessons: list[taught.Lesson]) -> str:
    said = [text for lesson in lessons for text in (lesson.asked, lesson.answer) if text and "<" not in text]
    nouns = [*scenes.object_categories("seen")]
    return learn_words([*said, *nouns, *PROMPTS] * 3, 700)


@pytest.fixture(scope="module")
def learnt(shown: scenes.Scenes, lessons: list[taught.Lesson], words: str) -> Florence2:
    """A small Florence-2 that knows these lessons by heart."""
    torch.manual_seed(0)
    model = Florence2(build(SMALL, words), processor_for(SMALL, words), florence.TASKS, 47)
    asked = [lesson.task + lesson.asked for lesson in lessons]
    given = model._prepare(asked, shown.images.expand(len(asked), -1, -1, -1))
    answers = model.processor.tokenizer([one.answer for one in lessons], padding=True, return_tensors="pt")
    labels = answers["input_ids"].masked_fill(answers["attention_mask"] == 0, -100)
    optimiser = torch.optim.AdamW(model.model.parameters(), lr=4e-3)
    for _ in range(100):
        loss = model.model(**given, labels=labels).loss
        optimiser.zero_grad(), loss.backward(), optimiser.step()
    assert loss < 0.05
    return model


def test_it_is_a_reader(learnt: Florence2, shown: scenes.Scenes) -> None:
    assert isinstance(learnt, Reader)
    assert learnt.caption(shown.images) == ["a photo of three parts"]
    with pytest.raises(ValueError, match="questions: expected a task that Florence-2 has, one of <CAPTION>, <OD>"):
        learnt.answer(shown.images, ["is the gear damaged?"])


def test_objects_are_boxes_with_names(learnt: Florence2, shown: scenes.Scenes) -> None:
    (parsed,) = learnt.run(OBJECTS, shown.images)
    things = sorted(shown.things[0], key=lambda thing: thing.box[:2])
    assert parsed[OBJECTS]["labels"] == [taught.noun(thing) for thing in things]
    true = torch.tensor([thing.box for thing in things])
    assert (torch.tensor(parsed[OBJECTS]["bboxes"]) - true).abs().max() <= 64 / 2000 + 1e-4
    (named,) = learnt.objects(shown.images)
    assert sorted(named.names) == sorted(parsed[OBJECTS]["labels"])
    assert named.scores.tolist() == sorted(named.scores.tolist(), reverse=True)
    (boxes,), said = florence.labelled([named])
    assert tuple(said[place] for place in boxes.labels) == named.names
    assert florence.labelled([]) == ([], [])
    (wide,) = learnt.run(OBJECTS, shown.images.repeat_interleave(2, 3))  # places are shares of the sides
    assert torch.allclose(torch.tensor(wide[OBJECTS]["bboxes"])[:, 0], 2 * true[:, 0], atol=0.2)


def test_a_score_is_the_probability_of_the_name(learnt: Florence2, shown: scenes.Scenes) -> None:
    (row,), (sure,) = learnt._write([OBJECTS], shown.images)
    given = learnt._prepare([OBJECTS], shown.images)
    labels = torch.tensor([[0, *row, 2]])
    with torch.no_grad():
        steps = learnt.model(**given, labels=labels).logits.softmax(2)[0]
    chance = steps.gather(1, labels[0][:, None])[1:-1, 0]
    torch.testing.assert_close(torch.tensor(sure), chance, atol=1e-4, rtol=1e-3)
    text, spans = learnt.processor.post_processor.decode_with_spans(row)
    named = [i for i, (start, end) in enumerate(spans) if "<loc_" not in text[start:end]]
    expected = [float(chance[run].prod()) for run in _apart(named)]
    assert learnt._scores(row, sure) == pytest.approx(expected, abs=1e-3)
    assert len(expected) == len(shown.things[0])


def _apart(places: list[int]) -> list[list[int]]:
    """Runs of neighbouring numbers."""
    found: list[list[int]] = []
    for place in places:
        if found and found[-1][-1] == place - 1:
            found[-1].append(place)
        else:
            found.append([place])
    return found


def test_an_expression_gives_an_outline(learnt: Florence2, shown: scenes.Scenes, lessons: list[taught.Lesson]) -> None:
    (lesson,) = [one for one in lessons if one.task == SEGMENT]
    (parsed,) = learnt.run(SEGMENT, shown.images, [lesson.asked])
    assert learnt.write(SEGMENT, shown.images, [lesson.asked]) == [lesson.answer]
    outlines = parsed[SEGMENT]["polygons"][0]
    said = lesson.answer.count("<loc_")
    assert sum(map(len, outlines)) == said
    assert all(0 <= number <= 64 for outline in outlines for number in outline)


def test_a_region_is_described_and_a_word_is_found(
    learnt: Florence2, shown: scenes.Scenes, lessons: list[taught.Lesson]
) -> None:
    (lesson,) = [one for one in lessons if one.task == REGION]
    (thing,) = [t for t in shown.things[0] if learnt.region(t.box, (64, 64)) == lesson.asked]
    assert learnt.run(REGION, shown.images, [lesson.asked]) == [{REGION: taught.described(thing)}]
    (asked,) = [one.asked for one in lessons if one.task == WORDS]
    (found,) = learnt.detect(shown.images, [asked])
    assert found.labels.tolist() == [0] * len(found.boxes)
    assert len(found.boxes) == sum(taught.noun(thing) == asked for thing in shown.things[0])
    (none,) = learnt.detect(shown.images, [asked], 1.0)
    assert none.boxes.shape == (0, 4)


def test_prompts_are_those_of_the_processor(learnt: Florence2, shown: scenes.Scenes, lessons: list) -> None:
    held = taught.columns(learnt.processor, lessons, 40, 48)
    count = SMALL.grid**2 + 1
    for lesson in lessons:
        theirs = learnt._prepare([lesson.task + lesson.asked], shown.images)["input_ids"][0]
        ours = held[lesson.task].prompts[0]
        assert theirs[:count].tolist() == [learnt.processor.image_token_id] * count
        assert theirs[count:].tolist() == ours[ours != 1].tolist()


def test_frozen_eyes_give_maps_once(words: str) -> None:
    config = FlorenceConfig(image_size=64, width=48, layers=1, context=64, stem=EYES[1])
    model = build(config, words)
    stem = model.model.vision_tower.convs[0]
    x = torch.rand(2, 3, 64, 64)
    stem.standardise(x)
    with torch.no_grad():
        whole = model.get_image_features(x).pooler_output
        later = model.get_image_features(stem.join(x)).pooler_output
    assert whole.shape == (2, config.grid**2 + 1, 48)
    torch.testing.assert_close(whole, later)
    assert not any(p.requires_grad for p in stem.eyes.parameters())


def test_neighbouring_bins_begin_alike(learnt: Florence2, words: str) -> None:
    torch.manual_seed(0)
    model, first = build(SMALL, words), learnt.processor.tokenizer.convert_tokens_to_ids("<loc_0>")
    table = torch.nn.functional.normalize(model.get_input_embeddings().weight[first : first + 1000], dim=1)
    assert (table[:-1] * table[1:]).sum(1).min() > 0.95
    assert (table[0] @ table[100:].T).max() < 0.9


@pytest.mark.usefixtures("untyped")
def test_bad_input_is_named(learnt: Florence2, shown: scenes.Scenes) -> None:
    with pytest.raises(ValueError, match="task: expected one of <CAPTION>, <OD>"):
        learnt.run("<OCR>", shown.images)
    with pytest.raises(ValueError, match="texts: expected none with <OD>, got"):
        learnt.run(OBJECTS, shown.images, ["a gear"])
    with pytest.raises(ValueError, match="texts: expected one an image with <REGION_TO_DESCRIPTION>, got None"):
        learnt.run(REGION, shown.images)
    with pytest.raises(ValueError, match="texts: expected one an image, 1, got 2"):
        learnt.run(SEGMENT, shown.images, ["a gear", "a nut"])
    with pytest.raises(ValueError, match="texts: expected some words in each, got an empty text at place 0"):
        learnt.run(SEGMENT, shown.images, [" "])
    with pytest.raises(ValueError, match="texts: expected prompts of at most 47 tokens, got a longer one"):
        learnt.run(SEGMENT, shown.images, ["the gear " * 50])
    with pytest.raises(ValueError, match="images: expected dtype uint8"):
        learnt.caption(shown.images.float())
    with pytest.raises(ValueError, match=r"box: expected \(left, top, right, bottom\) with left < right"):
        learnt.region((5, 5, 2, 9), (64, 64))
    with pytest.raises(ValueError, match="stem: expected one of efficientnet-lite0"):
        build(FlorenceConfig(stem="soup"), "[]")


def test_weights_come_back(learnt: Florence2, shown: scenes.Scenes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "florence2.safetensors"
    save(learnt.model, SMALL, words, path, {"seed": 1})
    again = florence.load(source(), CPU, path)
    assert json.loads(weights.header(path)["facts"]) == {"seed": 1}
    assert again.run(OBJECTS, shown.images) == learnt.run(OBJECTS, shown.images)
    shared = again.model.get_input_embeddings().weight
    assert again.model.lm_head.weight is shared
    assert again.model.model.language_model.decoder.embed_tokens.weight is shared
    assert not any("embed_tokens" in name or "lm_head" in name for name in weights.read(path))
    with pytest.raises(ValueError, match=r"expected a header with a Florence-2's config in clip\.safetensors"):
        florence.load(source(), CPU, weights.ASSETS / "clip.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no file nothing\.safetensors"):
        florence.load(source(), CPU, tmp_path / "nothing.safetensors")


@pytest.fixture
def checkpoint(words: str, tmp_path: Path) -> Path:
    """A small checkpoint of the published class in the library's own format."""
    torch.manual_seed(0)
    build(SMALL, words).save_pretrained(tmp_path)
    processor_for(SMALL, words).save_pretrained(tmp_path)
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_published_class_is_loaded_in_both_layouts(checkpoint: Path, layout: str, images: Tensor) -> None:
    rewrite(checkpoint, layout)
    found = florence.load(zoo.find("florence2", "paper"), CPU, checkpoint)
    assert isinstance(found.model, Florence2ForConditionalGeneration)
    assert isinstance(found.model.config, Florence2Config)
    assert "<OCR_WITH_REGION>" in found.tasks
    assert len(found.run(OBJECTS, images)) == len(found.run("<DENSE_REGION_CAPTION>", images)) == 4
    (checkpoint.parent / layout).unlink()
    with pytest.raises(FileNotFoundError, match=r"processor_config\.json"):
        florence.load(zoo.find("florence2", "paper"), CPU, checkpoint)


def test_what_is_not_cached_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(weights.WeightsUnavailable, match=r"florence-community/Florence-2-base .* are not cached here"):
        florence.load(zoo.find("florence2", "paper"), CPU, None, str(tmp_path))
