"""Losses over prototypes: balanced assignments, self-distillation, and spreading out."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from gadkit.losses import dino_loss, ibot_loss, koleo, mae_loss, next_centre, sinkhorn, swav_loss


def scores(n: int = 16, k: int = 5, seed: int = 0) -> torch.Tensor:
    x = torch.randn(2, max(n, k), 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(x[0, :n], dim=1) @ F.normalize(x[1, :k], dim=1).T


class TestSinkhorn:
    """Soft assignments that use all prototypes alike."""

    @given(seed=st.integers(0, 99), shift=st.floats(-50, 50))
    def test_rows_sum_to_one_and_shifts_change_nothing(self, seed: int, shift: float) -> None:
        q = sinkhorn(scores(seed=seed))
        assert torch.allclose(q.sum(1), torch.ones_like(q[:, 0]), rtol=1e-12)
        assert torch.allclose(q, sinkhorn(scores(seed=seed) + shift), atol=1e-9)

    def test_columns_tend_to_equal_shares(self) -> None:
        share = 64 / 16
        off = [(sinkhorn(scores(64, 16), iterations=i).sum(0) / share - 1).abs().max() for i in (1, 3, 10, 50, 100)]
        assert off == sorted(off, reverse=True)
        assert off[1] > 0.3  # three iterations are SwAV's compromise, not a solution
        assert off[3] < 1e-5
        assert off[4] < 1e-9

    def test_it_agrees_with_lightly(self) -> None:
        from lightly.loss.swav_loss import sinkhorn as theirs

        for iterations in (1, 3, 8):
            expected = theirs(scores(), iterations=iterations, epsilon=0.05)
            assert torch.allclose(sinkhorn(scores(), 0.05, iterations), expected, rtol=1e-6)

    @pytest.mark.usefixtures("untyped")
    @pytest.mark.parametrize("iterations", [0, -1, 1.5])
    def test_less_than_one_iteration_is_refused(self, iterations: float) -> None:
        with pytest.raises(ValueError, match="iterations: expected a whole number"):
            sinkhorn(torch.eye(3), iterations=iterations)

    def test_half_precision_does_not_overflow(self) -> None:
        q = sinkhorn(20 * scores().half())  # exp(20 / 0.05) is infinite in any precision
        assert torch.isfinite(q).all()


class TestSwAV:
    """Swapped prediction."""

    def test_it_agrees_with_lightly(self) -> None:
        from lightly.loss import SwaVLoss

        views = [scores(seed=s) for s in range(5)]
        theirs = SwaVLoss(temperature=0.1, sinkhorn_epsilon=0.05, sinkhorn_iterations=3)(views[:2], views[2:])
        assert torch.allclose(swav_loss(views), theirs, rtol=1e-6)

    @given(k=st.integers(2, 60), views=st.integers(2, 6))
    def test_uniform_scores_cost_log_k(self, k: int, views: int) -> None:
        assert swav_loss([torch.zeros(7, k)] * views).item() == pytest.approx(math.log(k), rel=1e-5)

    def test_the_queue_agrees_with_lightly(self) -> None:
        from lightly.loss import SwaVLoss

        views, queue = [scores(seed=s) for s in range(4)], [scores(24, seed=9), scores(24, seed=10)]
        theirs = SwaVLoss(temperature=0.1, sinkhorn_epsilon=0.05, sinkhorn_iterations=3)(views[:2], views[2:], queue)
        assert torch.allclose(swav_loss(views, queue=queue), theirs, rtol=1e-6)
        assert not torch.allclose(swav_loss(views), theirs, rtol=1e-3)
        with pytest.raises(ValueError, match="each of the two large views, got 1"):
            swav_loss(views, queue=queue[:1])

    def test_one_view_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="two large views at least, got 1"):
            swav_loss([scores()])
        with pytest.raises(ValueError, match="two large views at least, got 0"):
            swav_loss([])


class TestDINO:
    """Self-distillation and its centre."""

    def test_loss_and_centre_agree_with_lightly_over_many_steps(self) -> None:
        from lightly.loss import DINOLoss

        theirs = DINOLoss(output_dim=5, warmup_teacher_temp_epochs=1, teacher_temp=0.04, center_momentum=0.9)
        centre = torch.zeros(5, dtype=torch.float64)
        for step in range(6):
            teacher = [scores(seed=10 * step + i) for i in range(2)]
            student = [scores(seed=10 * step + i + 3) for i in range(4)]
            expected = theirs(teacher, student, epoch=5)
            assert torch.allclose(dino_loss(teacher, student, centre), expected, rtol=1e-6)
            centre = next_centre(centre, teacher)  # after its use
            assert torch.allclose(centre, theirs.center.flatten(), rtol=1e-6)

    @pytest.mark.parametrize("k", [16, 65536])
    def test_uniform_outputs_cost_log_k(self, k: int) -> None:
        flat = [torch.zeros(3, k)] * 2
        assert dino_loss(flat, flat, torch.zeros(k)).item() == pytest.approx(math.log(k), rel=1e-5)

    def test_a_view_is_never_compared_with_itself(self) -> None:
        teacher, student = [scores(seed=0), scores(seed=1)], [scores(seed=2), scores(seed=3)]
        expected = []
        for t, s in ((0, 1), (1, 0)):
            target = (teacher[t] / 0.04).softmax(1)
            expected.append(-(target * (student[s] / 0.1).log_softmax(1)).sum(1).mean())
        assert torch.allclose(dino_loss(teacher, student, torch.zeros(5)), torch.stack(expected).mean(), rtol=1e-6)
        with pytest.raises(ValueError, match="got one view"):
            dino_loss(teacher[:1], student[:1], torch.zeros(5))

    def test_centring_and_sharpening_pull_apart(self) -> None:
        logits = [scores(64, 8)]
        sharp = (logits[0] / 1e-4).softmax(1)
        assert sharp.amax(1).min() > 0.99  # sharpening alone: one-hot
        centre = torch.zeros(8)
        constant = [torch.tensor([[5.0, 1, 0, 0, 0, 0, 0, 0]]).expand(64, -1)]
        for _ in range(200):
            centre = next_centre(centre, constant)
        flat = ((constant[0] - centre) / 0.04).softmax(1)
        assert torch.allclose(flat, torch.full_like(flat, 1 / 8), atol=1e-3)  # centring alone: uniform

    def test_no_gradient_reaches_the_teacher(self) -> None:
        t, s = scores().requires_grad_(), scores(seed=1).requires_grad_()
        dino_loss([t, t], [s, s], torch.zeros(5)).backward()
        assert t.grad is None
        assert s.grad is not None


class TestIBOT:
    """Masked patches."""

    def test_it_agrees_with_lightly(self) -> None:
        from lightly.loss import IBOTPatchLoss

        generator = torch.Generator().manual_seed(0)
        teacher, student = torch.randn(2, 4, 9, 6, generator=generator, dtype=torch.float64)
        mask = torch.rand(4, 9, generator=generator) < 0.5
        mask[:, 0] = True
        mask[2] = False  # an image without hidden patches counts, with 0
        theirs = IBOTPatchLoss(output_dim=6, teacher_temp=0.04, student_temp=0.1)
        expected = theirs(teacher[mask], student[mask], mask.view(4, 3, 3))
        assert torch.allclose(ibot_loss(teacher, student, mask, torch.zeros(6)), expected, rtol=1e-6)

    def test_lightlys_own_case(self) -> None:
        """Its tests expect 0.4057, from DINOv2's code: three images, of which the last hides nothing."""
        mask = torch.tensor([[True, False, True, False], [False, False, False, True], [False] * 4])
        teacher, student = torch.zeros(2, 3, 4, 2)
        teacher[mask] = torch.tensor([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]])
        student[mask] = torch.tensor([[0.7, 0.8], [0.9, 1.0], [1.1, 1.2]])
        loss = ibot_loss(teacher, student, mask, torch.zeros(2), 0.1, 0.2)
        assert loss.item() == pytest.approx(0.4057, rel=1e-4)

    def test_visible_patches_do_not_count(self) -> None:
        teacher, student = torch.randn(2, 3, 4, 6)
        mask = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]]).bool()
        other = torch.where(mask[..., None], student, torch.randn_like(student))
        value = ibot_loss(teacher, student, mask, torch.zeros(6))
        assert torch.equal(value, ibot_loss(teacher, other, mask, torch.zeros(6)))
        assert ibot_loss(teacher, student, mask[1:2].expand(3, -1), torch.zeros(6)) == 0


@pytest.mark.usefixtures("untyped")
def test_a_mask_that_would_broadcast_is_refused() -> None:
    x, mask = torch.randn(3, 4, 6), torch.ones(1, 4, dtype=torch.bool)
    with pytest.raises(
        ValueError,
        match=r"mask: expected .* beside teacher \(3, 4, 6\), student \(3, 4, 6\), .*, got .* shape \(1, 4\)",
    ):
        ibot_loss(x, x, mask, torch.zeros(6))
    for wrong in (mask.float(), mask[0].float()):
        with pytest.raises(ValueError, match=r"mask: expected .* beside prediction \(3, 4, 6\)"):
            mae_loss(x, x, wrong)
    with pytest.raises(ValueError, match="a mask that hides a patch"):
        mae_loss(x, x, torch.zeros(3, 4))


class TestKoLeo:
    """Spreading out."""

    def test_it_agrees_with_lightly(self) -> None:
        from lightly.loss import KoLeoLoss

        z = torch.randn(20, 6, dtype=torch.float64)
        assert torch.allclose(koleo(z), KoLeoLoss()(z), rtol=1e-6)

    def test_it_jumps_when_two_rows_coincide(self) -> None:
        z = torch.randn(6, 4)
        assert koleo(torch.cat([z[:5], z[:1]])) > koleo(z) + 3

    def test_one_row_has_no_neighbour(self) -> None:
        with pytest.raises(ValueError, match="at least 2 rows"):
            koleo(torch.randn(1, 4))


@pytest.mark.parametrize("momentum", [-0.1, 1.5])
def test_a_centre_does_not_leave_what_it_is_the_mean_of(momentum: float) -> None:
    with pytest.raises(ValueError, match="momentum: expected a share"):
        next_centre(torch.zeros(5), [torch.randn(4, 5)], momentum)


@pytest.mark.parametrize(("momentum", "expected"), [(0.0, [2.0, 4.0]), (0.75, [8.0, 1.0]), (1.0, [10.0, 0.0])])
def test_a_centre_keeps_the_share_that_it_is_told(momentum: float, expected: list[float]) -> None:
    teacher = [torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 5.0], [3.0, 5.0]])]
    assert next_centre(torch.tensor([10.0, 0.0]), teacher, momentum).tolist() == expected


def test_koleo_of_two_rows_is_the_log_of_their_distance() -> None:
    z = torch.tensor([[3.0, 0.0], [0.0, 0.1]])  # on the circle they are the root of 2 apart
    assert koleo(z).item() == pytest.approx(-math.log(2) / 2)


@pytest.mark.usefixtures("untyped")
def test_no_view_and_no_image_have_no_loss() -> None:
    none = torch.zeros(0, 4, 6)
    with pytest.raises(ValueError, match="ibot: expected logits"):
        ibot_loss(none, none, torch.zeros(0, 4).bool(), torch.zeros(6))
    for teacher, student in (([], []), ([scores()], []), ([], [scores()])):
        with pytest.raises(ValueError, match="got one view in all"):
            dino_loss(teacher, student, torch.zeros(5))


def test_a_teacher_s_single_view_is_matched_by_the_others_only() -> None:
    teacher, student = scores(), [scores(seed=1), scores(seed=2)]
    target = ((teacher - 0.5) / 0.04).softmax(1)
    expected = -(target * (student[1] / 0.1).log_softmax(1)).sum(1).mean()
    found = dino_loss([teacher], student, torch.full((5,), 0.5, dtype=torch.float64))
    assert torch.allclose(found, expected, rtol=1e-6)
