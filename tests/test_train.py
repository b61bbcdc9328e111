"""The loop learns, resumes where it was killed, and refuses to go on from nonsense."""

import inspect
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from gadkit.files import explain
from gadkit.protocols import Recipe
from gadkit.train import Plan, fit, learn


def problem() -> tuple[nn.Module, callable]:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))

    def loss(step: int) -> torch.Tensor:
        x = torch.randn(32, 4, generator=torch.Generator().manual_seed(step))
        return ((model(x)[:, 0] - x[:, 0] + x[:, 1].abs()) ** 2).mean()

    return model, loss


def test_it_learns() -> None:
    model, loss = problem()
    before = loss(999).item()
    average, seconds = fit(model, loss, Plan(steps=300, lr=1e-2, warmup=20, weight_decay=0.0, average=0.9))
    assert loss(999).item() < 0.3 * before
    assert seconds > 0
    assert all(not p.requires_grad for p in average.parameters())


class Killed(Exception):
    """Stands for the power cut."""


def test_a_killed_run_ends_where_an_undisturbed_one_does(tmp_path) -> None:
    plan = Plan(steps=40, lr=1e-2, warmup=5, save_every=10)
    model, loss = problem()
    whole, _ = fit(model, loss, plan)
    model, loss = problem()

    def dies(step: int) -> torch.Tensor:
        if step == 25:
            raise Killed
        return loss(step)

    with pytest.raises(Killed):
        fit(model, dies, plan, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]
    model, loss = problem()
    seen = []

    def spied(step: int) -> torch.Tensor:
        seen.append(step)
        return loss(step)

    resumed, _ = fit(model, spied, plan, tmp_path, lambda average, step: {"value": 1.0}, watch_every=20)
    assert seen == list(range(20, 40))
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log] == [40]
    assert log[0]["value"] == 1.0


def test_nan_stops_it() -> None:
    model, _ = problem()
    with pytest.raises(FloatingPointError, match="at step 0"):
        fit(model, lambda step: model(torch.full((2, 4), float("nan"))).mean(), Plan(steps=3))


def test_a_gradient_that_is_not_finite_is_never_saved(tmp_path) -> None:
    model, _ = problem()

    def root(step: int) -> torch.Tensor:
        return (model[0].weight * float(step == 0)).square().sum().sqrt()  # at 0 its slope is 0 / 0

    with pytest.raises(FloatingPointError, match=r"gradient: .*got nan at step 1"):
        fit(model, root, Plan(steps=3, save_every=1), tmp_path)
    assert all(p.isfinite().all() for p in model.parameters())
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 1


def test_a_run_is_not_taken_up_by_another(tmp_path) -> None:
    plan = Plan(steps=4, save_every=2)
    model, loss = problem()
    fit(model, loss, plan, tmp_path, what="one, seed 0")
    kept = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match=r"expected .*'steps': 6.* got .*'steps': 4.*another folder"):
        fit(model, loss, replace(plan, steps=6), tmp_path, what="one, seed 0")
    with pytest.raises(ValueError, match=r"'one, seed 1'.*'one, seed 0'"):
        fit(model, loss, plan, tmp_path, what="one, seed 1")
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept
    fit(model, loss, replace(plan, save_every=1, collapse=0.3), tmp_path, what="one, seed 0")


@pytest.mark.parametrize("content", [b"", b"torn", "list"])
def test_what_is_no_checkpoint_is_named(tmp_path, content) -> None:
    if content == "list":
        torch.save([1, 2], tmp_path / "checkpoint.pt")
    else:
        (tmp_path / "checkpoint.pt").write_bytes(content)
    model, loss = problem()
    with pytest.raises(ValueError, match="expected the checkpoint of a training by this package"):
        fit(model, loss, Plan(steps=3), tmp_path)


@pytest.mark.parametrize("anew", [False, True])
def test_what_begins_anew_is_forgotten_by_the_optimiser(anew: bool) -> None:
    model = nn.Linear(2, 1, bias=False)

    def after(progress: float) -> tuple[nn.Parameter, ...]:
        if progress != 0.5:
            return ()
        nn.init.zeros_(model.weight)
        return tuple(model.parameters()) if anew else ()

    def turn(step: int) -> torch.Tensor:
        return model.weight.sum() * (1 if step < 5 else -1)

    fit(model, turn, Plan(steps=10, lr=0.1, warmup=0, floor=1.0, weight_decay=0.0, average=0.0), after=after)
    end = model.weight[0, 0].item()
    assert (
        end == pytest.approx(0.5, rel=1e-3) if anew else end < 0.3
    )  # five whole steps, or the old momentum pulls back


def test_without_an_average_the_model_itself_is_kept(tmp_path) -> None:
    model, loss = problem()
    kept, _ = fit(model, loss, Plan(steps=3, average=0.0), tmp_path / "new")
    assert kept is model
    assert "average" not in torch.load(tmp_path / "new/checkpoint.pt", weights_only=True)


def test_a_log_needs_no_checkpoint_before_it(tmp_path) -> None:
    model, loss = problem()
    fit(model, loss, Plan(steps=3, save_every=3), tmp_path / "new", lambda average, step: {"value": 1.0}, watch_every=1)
    assert len((tmp_path / "new/log.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("content", ["mine\n", "no end", "[1]\n", '{"step": 3}\n', "\x80\n"])
def test_somebody_elses_log_stays(content: str, tmp_path) -> None:
    (tmp_path / "log.jsonl").write_bytes(content.encode("latin-1"))
    model, loss = problem()
    with pytest.raises(ValueError, match=r"run: expected a folder without log\.jsonl, .* got yours: .*log\.jsonl"):
        fit(model, loss, Plan(steps=3), tmp_path)
    assert (tmp_path / "log.jsonl").read_bytes() == content.encode("latin-1")


def test_a_step_stands_in_the_log_once_however_often_the_run_was_cut(tmp_path) -> None:
    plan = Plan(steps=40, save_every=10)

    def run(last: int) -> None:
        model, loss = problem()

        def dies(step: int) -> torch.Tensor:
            if step == last:
                raise Killed
            return loss(step)

        fit(model, dies, plan, tmp_path, lambda average, step: {"value": 1.0}, watch_every=7)

    with pytest.raises(Killed):
        run(29)
    with open(tmp_path / "log.jsonl", "a") as log:
        log.write('{"step": 2')  # a line that was cut short
    run(40)
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert steps == [7, 14, 21, 28, 35, 40]


KILLED = """
import sys, time
from pathlib import Path
import torch
from torch import nn
from gadkit.train import Plan, fit

{problem}
torch.set_num_threads(1)
folder, where = Path(sys.argv[1]), sys.argv[2]
model, loss = problem()


def hang(name):
    if name == where:
        print(name, flush=True)
        time.sleep(600)


def slow(step):
    if step == 25:
        hang("training")
    return loss(step)


def watch(average, step):
    if step == 20:
        hang("measuring")
    return {"value": float(next(average.parameters()).sum())}


fit(model, slow, Plan(steps=40, save_every=10), folder, watch, watch_every=10)
"""


def test_a_killed_process_ends_where_an_undisturbed_one_does(tmp_path) -> None:
    """Killed twice, while it trains and while it measures; no row of the log is lost, and none stands twice."""
    model, loss = problem()
    watch = lambda average, step: {"value": float(next(average.parameters()).sum())}  # noqa: E731
    fit(model, loss, Plan(steps=40, save_every=10), tmp_path / "whole", watch, watch_every=10)
    program = KILLED.replace("{problem}", inspect.getsource(problem))  # to import this file takes longer than the rest
    command = [sys.executable, "-c", program, str(tmp_path / "cut")]
    for where in ("measuring", "training"):
        with subprocess.Popen([*command, where], stdout=-1, text=True) as process:
            assert process.stdout.readline() == f"{where}\n"
            with pytest.raises(ValueError, match="run: expected a folder that no other run writes to"):
                fit(*problem(), Plan(steps=40, save_every=10), tmp_path / "cut", watch, watch_every=10)
            rows = [json.loads(line) for line in (tmp_path / "cut/log.jsonl").read_text().splitlines()]
            assert [row["step"] for row in rows] == [10, 20]
            assert ("value" in rows[1]) == (where == "training")  # measured when the run went on
            process.kill()
    fit(*problem(), Plan(steps=40, save_every=10), tmp_path / "cut", watch, watch_every=10)
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("whole", "cut")]
    one, other = ([json.loads(line) | {"seconds": 0} for line in log] for log in logs)
    assert [row["step"] for row in one] == [10, 20, 30, 40]
    assert one == other
    states = [torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("whole", "cut")]
    for key in ("model", "average"):
        assert all(torch.equal(a, b) for a, b in zip(states[0][key].values(), states[1][key].values(), strict=True))


def test_a_full_disk_is_named_and_keeps_the_last_checkpoint(small_disk: Path) -> None:
    model, loss = problem()
    fit(model, loss, Plan(steps=2, save_every=1), small_disk / "run")
    kept = (small_disk / "run/checkpoint.pt").read_bytes()
    (small_disk / "filler").write_bytes(bytes(20_000))
    model.register_buffer("large", torch.zeros(2**18))  # 1 MiB
    with pytest.raises(OSError, match=re.escape(str(small_disk / "new" / "checkpoint.pt"))) as caught:
        fit(model, loss, Plan(steps=2, save_every=1), small_disk / "new")
    assert explain(caught.value) == f"{small_disk / 'new' / 'checkpoint.pt'}: the disk is full"
    assert list((small_disk / "new").iterdir()) == []
    assert (small_disk / "run/checkpoint.pt").read_bytes() == kept


def test_the_folder_is_tried_before_the_first_step(tmp_path) -> None:
    (tmp_path / "file").touch()
    model, _ = problem()
    with pytest.raises(ValueError, match="run: expected a folder that can be written to"):
        fit(model, lambda step: pytest.fail("no step is taken"), Plan(steps=1), tmp_path / "file" / "run")


def test_the_rate_warms_up_and_ends_at_its_floor() -> None:
    plan = Plan(steps=1000, lr=1.0, warmup=100, floor=0.02)
    assert plan.rate(0) == 0.01
    assert plan.rate(99) == plan.rate(100) == 1.0
    assert plan.rate(550) == pytest.approx(0.51)
    assert plan.rate(1000) == pytest.approx(0.02)
    assert all(plan.rate(s) >= plan.rate(s + 1) for s in range(100, 1000))
    assert Plan(steps=20, lr=1.0, warmup=10, floor=0.0).rate(10) == 1.0
    assert Plan(steps=3, lr=1.0, warmup=0).rate(0) == Plan(steps=0, lr=1.0, warmup=0).rate(0) == 1.0


def test_the_rate_is_lightlys() -> None:
    from lightly.utils.scheduler import CosineWarmupScheduler

    plan = Plan(steps=21, lr=1.0, warmup=5, floor=0.1)
    theirs = CosineWarmupScheduler(torch.optim.SGD([nn.Parameter(torch.zeros(1))]), 5, 22, end_value=0.1)
    for step in range(22):  # lightly reaches its end at the last step, we after it
        assert plan.rate(step) == pytest.approx(theirs.scale_lr(step), rel=1e-6)


def test_the_decay_goes_along_half_a_cosine_if_it_goes_anywhere() -> None:
    plan = Plan(steps=100, weight_decay=0.04, weight_decay_end=0.4)
    assert [plan.decay(s) for s in (0, 50, 100)] == pytest.approx([0.04, 0.22, 0.4])
    assert Plan(weight_decay=0.1).decay(77) == 0.1
    model, seen = nn.Linear(2, 2, bias=False), []
    spy = lambda step: seen.append(model.weight[0, 0].item()) or model.weight.sum() * 0  # noqa: E731
    with torch.no_grad():
        model.weight.fill_(1.0)
    plan = Plan(steps=3, lr=0.1, warmup=0, floor=1.0, weight_decay=1.0, weight_decay_end=0.0, average=0.0)
    fit(model, spy, plan)
    assert seen == pytest.approx([1.0, 0.9, 0.9 * (1 - 0.1 * 0.75)])


def test_a_plan_takes_a_methods_recipe_and_scales_its_rate() -> None:
    method = Denoise()
    method.recipe = Recipe(2e-3, 128, (0.8, 0.9), 0.04, 0.4, 3.0, 0.2)
    plan = Plan.of(method, 50, 64)
    assert (plan.steps, plan.lr, plan.batch, plan.warmup) == (50, 1e-3, 64, 10)
    assert (plan.betas, plan.weight_decay, plan.weight_decay_end, plan.clip) == ((0.8, 0.9), 0.04, 0.4, 3.0)
    assert Plan.of(method, 50).lr == 2e-3


class Denoise(nn.Module):
    """A method of two numbers: its views are noisy rows, its loss their distance to a learnt shift."""

    pool, recipe, needs, transient = "cls", Recipe(lr=1e-2), ("images",), ()
    lr = recipe.lr

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(2, 2)
        self.register_buffer("steps", torch.zeros(()))
        self.rows: list[list[float]] = []

    def collapse(self, batch_size: int) -> float:
        return 1.0 / batch_size

    def views(self, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        images = batch["images"]
        self.rows.append(images[:, 0].tolist())
        return [images + torch.randn_like(images), images]

    def loss(self, views: list[torch.Tensor]) -> torch.Tensor:
        return (self.encoder(views[0]) - views[1]).square().mean()

    def after_step(self, progress: float) -> None:
        self.steps += 1
        self.progress = progress


@pytest.mark.usefixtures("untyped")
class TestLearn:
    """The loop that every self-supervised method goes through."""

    data = property(lambda self: {"images": torch.arange(20.0).view(10, 2)})

    def method(self) -> Denoise:
        torch.manual_seed(0)
        return Denoise()

    def test_an_epoch_sees_every_row_once(self) -> None:
        method = self.method()
        learn(method, self.data, Plan(steps=4, batch=5))
        assert [len(rows) for rows in method.rows] == [5] * 4
        for epoch in (method.rows[:2], method.rows[2:]):
            assert sorted(epoch[0] + epoch[1]) == self.data["images"][:, 0].tolist()
        assert method.rows[:2] != method.rows[2:]  # in another order
        assert (method.steps, method.progress) == (4, 1.0)

    def test_a_killed_run_ends_where_an_undisturbed_one_does(self, tmp_path) -> None:
        plan = Plan(steps=9, batch=5, save_every=3)
        whole, broken, resumed = self.method(), self.method(), self.method()
        learn(whole, self.data, plan)
        broken.after_step = lambda progress: (_ for _ in ()).throw(Killed) if progress > 0.6 else None
        with pytest.raises(Killed):
            learn(broken, self.data, plan, tmp_path)
        learn(resumed, self.data, plan, tmp_path)
        assert len(resumed.rows) == 6
        assert torch.allclose(whole.encoder.weight, resumed.encoder.weight, atol=1e-6)

    def test_views_are_made_in_full_precision(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gadkit.runtime.has_bf16", lambda where: True)
        method, seen = self.method(), []
        for name, part in {"views": method.views, "loss": method.loss}.items():
            spy = lambda x, name=name, part=part: seen.append((name, torch.is_autocast_enabled("cpu"))) or part(x)  # noqa: E731
            setattr(method, name, spy)
        learn(method, self.data, Plan(steps=1, batch=5))
        assert seen == [("views", False), ("loss", True)]

    def test_named_columns_stay_together(self) -> None:
        method, seen, x = self.method(), [], self.data["images"]
        method.needs = ("x", "y")
        method.views = lambda batch: seen.append(batch) or [batch["x"], batch["x"]]
        learn(method, {"x": x, "y": x[:, 0], "unasked": x}, Plan(steps=2, batch=4))
        assert all(torch.equal(batch["x"][:, 0], batch["y"]) for batch in seen)
        assert all(set(batch) == {"x", "y"} for batch in seen)

    def test_the_collapsed_loss_is_that_of_the_plans_batch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shown = []
        monkeypatch.setattr("gadkit.train.fit", lambda model, loss, plan, *_, **__: shown.append(plan) or (model, 0.0))
        learn(self.method(), self.data, Plan(steps=1, batch=5))
        assert shown[0].collapse == 1 / 5

    def test_the_bar_shows_a_collapsed_loss_only_where_there_is_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("gadkit.train.progress", Bar)
        for collapse, shown in ((4.844, ", collapsed 4.844"), (math.nan, "")):
            model = nn.Linear(2, 1)
            loss = lambda step, model=model: model(torch.ones(1, 2)).mean() * 0 + 1.0  # noqa: E731
            fit(model, loss, Plan(steps=1, average=0.0, collapse=collapse))
            assert Bar.shown == f"loss 1.000{shown}"

    def test_too_little_data(self) -> None:
        with pytest.raises(ValueError, match=r"at least a batch of 11 rows.*got 10"):
            learn(self.method(), self.data, Plan(steps=1, batch=11))
        method, x = self.method(), self.data["images"]
        method.needs = ("x", "y")
        with pytest.raises(ValueError, match=r"one length, got x 10, y 8"):
            learn(method, {"x": x, "y": x[:8]}, Plan(steps=1, batch=4))

    @pytest.mark.parametrize(("data", "came"), [({"labels": torch.zeros(9)}, "labels"), (torch.zeros(9, 2), "Tensor")])
    def test_columns_that_are_missing_are_named(self, data: object, came: str) -> None:
        with pytest.raises(ValueError, match=f"(columns images|Mapping.*), got {came}"):
            learn(self.method(), data, Plan(steps=1, batch=5))

    def test_another_seed_needs_another_folder(self, tmp_path) -> None:
        learn(self.method(), self.data, Plan(steps=2, batch=5), tmp_path)
        with pytest.raises(ValueError, match=r"Denoise, seed 1, 10 rows.*Denoise, seed 0, 10 rows"):
            learn(self.method(), self.data, Plan(steps=2, batch=5), tmp_path, seed=1)


class Bar:
    """A progress bar whose text can be read afterwards."""

    shown = ""

    def __init__(self, steps: range, *_: object, **__: object) -> None:
        self.steps = steps

    def __iter__(self):
        return iter(self.steps)

    def set_postfix_str(self, text: str) -> None:
        type(self).shown = text


SHAPES = {
    "weight": (3, 2),
    "kernel": (4, 3, 2, 2),
    "bias_table": (4, 2),
    "embedding": (5, 2),
    "cls": (1, 1, 2),
    "g": (3,),
}


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    "options",
    [
        *({"clip": value} for value in (0.0, -1.0, float("nan"))),
        *({"lr": value} for value in (-1.0, float("nan"))),
        *({"average": value} for value in (1.0, float("nan"))),
        *({"batch": 0}, {"steps": 1.5}, {"save_every": 0}, {"warmup": -3}, {"floor": -0.1}, {"floor": float("nan")}),
        *({"weight_decay": -1.0}, {"betas": (0.0, 1.5)}),
    ],
)
def test_a_plan_that_no_training_can_follow_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))}.*: expected"):
        Plan(**options)


def test_learnt_tokens_and_gains_do_not_shrink() -> None:
    model = nn.ParameterDict({name: torch.ones(shape) for name, shape in SHAPES.items()})
    fit(model, lambda step: sum(p.sum() for p in model.values()) * 0, Plan(steps=5, lr=0.1, warmup=1, average=0.0))
    assert {name for name, p in model.items() if (p < 1).any()} == {"weight", "kernel"}


class Parts(nn.Module):
    """A parameter of every kind, all of them 1."""

    def __init__(self) -> None:
        super().__init__()
        self.one_row, self.kernel = nn.Linear(3, 1), nn.Conv2d(1, 1, 3)
        self.attention, self.table, self.norm = nn.MultiheadAttention(4, 2), nn.Embedding(5, 2), nn.LayerNorm([1, 2])
        self.positions, self.scale = nn.Parameter(torch.ones(1, 4, 2)), nn.Parameter(torch.ones(()))
        for parameter in self.parameters():
            nn.init.ones_(parameter)


def test_what_shrinks_is_told_by_its_kind() -> None:
    model = Parts()
    fit(model, lambda step: sum(p.sum() for p in model.parameters()) * 0, Plan(steps=2, lr=0.1, warmup=1, average=0.0))
    shrunk = {name for name, p in model.named_parameters() if (p < 1).any()}
    assert shrunk == {"one_row.weight", "kernel.weight", "attention.in_proj_weight", "attention.out_proj.weight"}
