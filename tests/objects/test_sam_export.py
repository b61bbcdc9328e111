"""SAM's two graphs: what onnxruntime makes of an image and of clicks."""

import numpy as np
import onnxruntime
import pytest
import torch

from gadkit import zoo
from gadkit.nn.graphs import about_of
from gadkit.objects.architecture import SamConfig, build_sam
from gadkit.objects.export import decoder_to_onnx, encoder_to_onnx
from gadkit.objects.promptable import SAM


def check(sam: SAM, image: torch.Tensor) -> None:
    """Hold both graphs to a segmenter, on an image as large as the network's square."""
    encoder, decoder = encoder_to_onnx(sam), decoder_to_onnx(sam)
    sam.set_image(image)
    (embedding,) = onnxruntime.InferenceSession(encoder).run(None, {"pixels": image[None].float().numpy()})
    torch.testing.assert_close(torch.tensor(embedding), sam.embedding, atol=1e-4, rtol=0)
    session, side = onnxruntime.InferenceSession(decoder), sam.image_size
    assert about_of(decoder) == {"side": side}
    for points, labels in (([[0.4, 0.6]], [1]), ([[0.4, 0.6], [0.1, 0.2], [0.9, 0.5]], [1, 0, 1])):
        places = side * torch.tensor([points])
        expected = sam.predict(places, torch.tensor([labels]))
        given = {"embedding": embedding, "points": places.numpy(), "labels": np.array([labels], np.float32)}
        logits, iou = session.run(["logits", "iou"], given)
        torch.testing.assert_close(torch.tensor(logits), expected.logits, atol=1e-4, rtol=0)
        torch.testing.assert_close(torch.tensor(iou), expected.iou, atol=1e-4, rtol=0)


def test_both_graphs_of_an_untrained_sam(images: torch.Tensor) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sam = SAM(build_sam(SamConfig(size=32, width=16, depth=1, heads=2, dim=16, window=0, everywhere=(0,))))
    check(sam, images[0, :, :32, :32].contiguous())


@pytest.mark.slow
def test_both_graphs_of_the_shipped_sam(photographs: torch.Tensor) -> None:
    check(zoo.load("sam"), photographs[0, :, :128, :128].contiguous())
