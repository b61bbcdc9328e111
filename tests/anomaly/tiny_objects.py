"""The smallest models that see objects, of the published architectures and with random weights.

Each is the library's own network behind the contract of `gadkit.objects.protocols`, for a test that needs any finder
and any segmenter, and no particular one.
"""

from collections.abc import Sequence
from functools import cache, partial

import torch
import torch.nn.functional as F
from segment_anything import SamPredictor
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn
from transformers import OwlViTConfig, OwlViTForObjectDetection

from gadkit import runtime
from gadkit.backbones.tiny import tokenizer
from gadkit.objects.protocols import Boxes, Masks

SIDE, CONTEXT = 32, 48


class Finder:
    """OWL-ViT: each patch has one box, and the text that fits it best."""

    def __init__(self, seed: int = 0) -> None:
        words = tokenizer()
        text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
        text |= {"vocab_size": words.vocab_size, "max_position_embeddings": CONTEXT, "pad_token_id": 0}
        text |= {"bos_token_id": words.sot_token_id, "eos_token_id": words.eot_token_id}
        vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
        vision |= {"image_size": SIDE, "patch_size": 8, "initializer_range": 0.3}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.model = OwlViTForObjectDetection(
                OwlViTConfig(text_config=text, vision_config=vision, projection_dim=32)
            ).eval()
            for layer in self.model.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.normal_(layer.weight, std=0.25)
        self.model.to(runtime.device())
        self.tokenizer, self.calls = words, 0

    @property
    def device(self) -> torch.device:
        return self.model.device

    @torch.no_grad()
    def detect(self, images: Tensor, texts: Sequence[str], threshold: float | None = None) -> list[Boxes]:
        self.calls += 1
        height, width = images.shape[2:]
        ids = self.tokenizer(list(texts))[:, :CONTEXT].repeat(len(images), 1).to(self.device)
        x = F.interpolate(images.float() / 255, (SIDE, SIDE), mode="bilinear", antialias=True)
        found = self.model(input_ids=ids, pixel_values=x - 0.5, attention_mask=(ids > 0).long())
        answers = []
        for logits, boxes in zip(found.logits.sigmoid(), found.pred_boxes, strict=True):
            scores, labels = logits.max(1)
            order = scores.argsort(descending=True)
            order = order[scores[order] > (0.1 if threshold is None else threshold)]
            corners = torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
            corners = corners * boxes.new_tensor([width, height, width, height])
            answers.append(Boxes(corners[order], scores[order], labels[order]))
        return answers


class Segmenter:
    """SAM, with its authors' predictor."""

    image_size = SIDE

    def __init__(self, seed: int = 0) -> None:
        grid = SIDE // 8
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = Sam(
                ImageEncoderViT(SIDE, 8, 3, 32, 1, 2, 2.0, 16, norm_layer=partial(nn.LayerNorm, eps=1e-6)),
                PromptEncoder(16, (grid, grid), (SIDE, SIDE), 4),
                MaskDecoder(
                    transformer_dim=16,
                    transformer=TwoWayTransformer(depth=1, embedding_dim=16, mlp_dim=32, num_heads=2),
                    iou_head_depth=2,
                    iou_head_hidden_dim=16,
                ),
            )
            for layer in model.mask_decoder.modules():
                if isinstance(layer, nn.Linear | nn.ConvTranspose2d):
                    nn.init.normal_(layer.weight, std=0.5)
        self.predictor, self.images = SamPredictor(model.eval().to(runtime.device())), 0

    @property
    def device(self) -> torch.device:
        return self.predictor.device

    def set_image(self, image: Tensor) -> "Segmenter":
        self.images += 1
        self.predictor.set_image(image.permute(1, 2, 0).contiguous().cpu().numpy())
        return self

    @torch.no_grad()
    def predict(
        self,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        logits: Tensor | None = None,
        several: bool = True,
    ) -> Masks:
        size = self.predictor.original_size
        placed = None if boxes is None else self.predictor.transform.apply_boxes_torch(boxes, size)
        found = self.predictor.predict_torch(points, labels, placed, logits, several)
        return Masks(*found)


@cache
def finder(seed: int = 0) -> Finder:
    """One for a whole run of the tests."""
    return Finder(seed)


@cache
def segmenter(seed: int = 0) -> Segmenter:
    """One for a whole run of the tests."""
    return Segmenter(seed)
