"""SAM's heirs, by transformers' own classes: SAM 2 on single images, and SAM 3, which is asked in words.

    >>> from gadkit import zoo
    >>> zoo.find("sam-2", "paper").id, zoo.find("sam-3", "paper").id
    ('facebook/sam2.1-hiera-tiny', 'facebook/sam3')

Source: Ravi et al., SAM 2, 2024; Carion et al., SAM 3: Segment Anything with Concepts, 2025.
Book: objects/sam
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from gadkit import weights
from gadkit.checks import check_images, checked, share
from gadkit.objects.open_vocabulary import asked, published
from gadkit.objects.promptable import Given, OneImage
from gadkit.objects.protocols import Boxes, Segments
from gadkit.objects.vocabulary import byte_pairs

if TYPE_CHECKING:
    from transformers import Sam2Processor, Sam3Processor

THRESHOLD = 0.3  # of SAM 3's processor
WORDS = 32  # tokens that it pads a text to


class Sam2(OneImage):
    """A SAM 2 as a `Promptable`: images are squashed to a square, and every prompt is answered on its own."""

    @checked
    def __init__(self, model: nn.Module, processor: "Sam2Processor") -> None:
        self.model, self.processor = model.eval().requires_grad_(False), processor
        self.image_size: int = model.config.prompt_encoder_config.image_size
        self.side = model.prompt_encoder.mask_input_size[0]

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return self.model.device

    def _encode(self, image: UInt8[Tensor, "3 h w"]) -> list[Tensor]:
        pixels = self.processor.image_processor(images=[image.cpu()], return_tensors="pt")["pixel_values"]
        return self.model.get_image_embeddings(pixels.to(self.device))

    def _answer(self, embedding: list[Tensor], given: Given, several: bool) -> tuple[Tensor, Tensor]:
        height, width = self.original
        scale = torch.tensor([self.image_size / width, self.image_size / height], device=self.device)
        rows = [column for column in (given.points, given.boxes, given.logits) if column is not None]
        found = [self._one(embedding, given, i, scale, several) for i in range(len(rows[0]))]
        masks, iou = (torch.cat(some).float() for some in zip(*found, strict=True))
        return masks, iou

    def _one(
        self, embedding: list[Tensor], given: Given, i: int, scale: Float[Tensor, "2"], several: bool
    ) -> tuple[Tensor, Tensor]:
        """Logits (1, m, l, l) and expected overlap (1, m) of prompt i; transformers takes one mask a call."""
        points, labels, box, logits = (None if column is None else column[i] for column in vars(given).values())
        out = self.model(
            image_embeddings=embedding,
            input_points=None if points is None else (points * scale)[None, None],
            input_labels=None if labels is None else labels[None, None].long(),
            input_boxes=None if box is None else (box * scale.repeat(2))[None, None],
            input_masks=None if logits is None else logits[None, None],
            multimask_output=several,
        )
        return out.pred_masks[0], out.iou_scores[0]

    def enlarge(self, masks: Float[Tensor, "p m l l"]) -> Float[Tensor, "p m h w"]:
        """Logits at the size of the image that was set."""
        return F.interpolate(masks, self.original, mode="bilinear", align_corners=False)


class Sam3:
    """A SAM 3: every object that a text names, with its mask; as an `OpenVocabulary`, with its box."""

    @checked
    def __init__(self, model: nn.Module, processor: "Sam3Processor", threshold: float = THRESHOLD) -> None:
        self.model, self.processor, self.threshold = model.eval().requires_grad_(False), processor, threshold

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return self.model.device

    def segment(
        self, images: UInt8[Tensor, "b 3 h w"], texts: Sequence[str], threshold: float | None = None
    ) -> list[Segments]:
        """The objects of each image that a text names, the surest first; labels are places in the list of texts.

        The image is encoded once for all texts.  No object found is an answer with no segment.  Raises ValueError for
        no text, one that is empty, and for anything but uint8 RGB images.
        """
        return [Segments(masks, labels, scores) for masks, _, labels, scores in self._find(images, texts, threshold)]

    def detect(
        self, images: UInt8[Tensor, "b 3 h w"], texts: Sequence[str], threshold: float | None = None
    ) -> list[Boxes]:
        """The boxes of the same objects."""
        return [Boxes(boxes, scores, labels) for _, boxes, labels, scores in self._find(images, texts, threshold)]

    @torch.no_grad()
    def _find(self, images: Tensor, texts: Sequence[str], threshold: float | None) -> list[tuple[Tensor, ...]]:
        words, images = asked(texts), check_images(images)
        least = share("threshold", self.threshold if threshold is None else threshold, zero=True)
        ids = self.processor.tokenizer(
            words, return_tensors="pt", padding="max_length", max_length=WORDS, truncation=True
        )
        given = {name: value.to(self.device) for name, value in ids.items()}
        return [self._image(image, given, float(least)) for image in images]

    def _image(self, image: Tensor, ids: dict[str, Tensor], least: float) -> tuple[Tensor, ...]:
        pixels = self.processor.image_processor(images=[image.cpu()], return_tensors="pt")["pixel_values"]
        features = self.model.get_vision_features(pixels.to(self.device))
        found = []
        for label in range(len(ids["input_ids"])):
            text = {name: value[label : label + 1] for name, value in ids.items()}
            out = self.model(vision_embeds=features, **text)
            size = [tuple(image.shape[1:])]
            (one,) = self.processor.post_process_instance_segmentation(out, threshold=least, target_sizes=size)
            labels = torch.full((len(one["scores"]),), label, device=self.device)
            none = torch.zeros(0, *size[0], dtype=torch.bool, device=self.device)  # which the library does not enlarge
            masks = one["masks"].bool() if len(labels) else none
            found.append((masks, one["boxes"].float(), labels, one["scores"].float()))
        masks, boxes, labels, scores = (torch.cat(some) for some in zip(*found, strict=True))
        order = scores.argsort(descending=True, stable=True)
        return masks[order], boxes[order], labels[order], scores[order]


def load(
    source: weights.Weights, where: torch.device, file: Path | None = None, cache_dir: str | None = None
) -> Sam2 | Sam3:
    """A published SAM 2 or SAM 3 (option `kind`); `file` is the folder of a checkpoint, or a file in it.

    Raises FileNotFoundError for a file that is not there, ValueError for another network's, and `WeightsUnavailable`
    for weights that are neither cached nor reachable.
    """
    from transformers import Sam2Model, Sam2Processor, Sam3Model, Sam3Processor

    if source.options["kind"] == "sam2":
        model, processor = published(source, Sam2Model, Sam2Processor.from_pretrained, file, cache_dir)
        return Sam2(model.to(where), processor)
    model, processor = published(source, Sam3Model, Sam3Processor.from_pretrained, file, cache_dir)
    return Sam3(model.to(where), processor)


def small_sam2(seed: int = 0) -> Sam2:
    """An untrained SAM 2 for images of 128 pixels, with Hiera's four stages, drawn by the seed."""
    from transformers import Sam2Config, Sam2ImageProcessor, Sam2Model, Sam2Processor

    hiera = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 32,
        "num_attention_heads": 1,
        "image_size": [128, 128],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [32, 64, 128, 192],
        "num_attention_heads_per_stage": [1, 2, 4, 6],
        "window_size_per_stage": [8, 4, 4, 4],
        "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [4, 4],
    }
    config = Sam2Config(
        vision_config={
            "backbone_config": hiera,
            "backbone_channel_list": [192, 128, 64, 32],  # from the coarsest grid to the finest
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
            "fpn_hidden_size": 64,
        },
        prompt_encoder_config={"hidden_size": 64, "image_size": 128, "patch_size": 16, "mask_input_channels": 8},
        mask_decoder_config={"hidden_size": 64, "mlp_dim": 256, "num_attention_heads": 4, "iou_head_hidden_dim": 64},
    )
    images = Sam2ImageProcessor(size={"height": 128, "width": 128})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Sam2(Sam2Model(config), Sam2Processor(images, target_size=128))


def small_sam3(seed: int = 0) -> Sam3:
    """An untrained SAM 3 for images of 112 pixels, with a text tower of this book's byte pairs, drawn by the seed."""
    from transformers import Sam3Config, Sam3ImageProcessor, Sam3Model, Sam3Processor

    words, layers = byte_pairs(), {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 256}
    sight = {
        "model_type": "sam3_vit_model",
        "hidden_size": 96,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": 112,
        "patch_size": 14,
        "window_size": 4,
        "global_attn_indexes": [1, 3],
        "pretrain_image_size": 112,
    }
    text = {
        "model_type": "clip_text_model",
        "vocab_size": len(words),
        "hidden_size": 96,
        "intermediate_size": 384,
        "projection_dim": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": WORDS,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
    }
    grids = [[32, 32], [16, 16], [8, 8]]
    config = Sam3Config(
        vision_config={"backbone_config": sight, "fpn_hidden_size": 64, "backbone_feature_sizes": grids},
        text_config=text,
        geometry_encoder_config=layers | {"num_layers": 1},
        detr_encoder_config=layers | {"num_layers": 2},
        detr_decoder_config=layers | {"num_layers": 2, "num_queries": 20},
        mask_decoder_config={"hidden_size": 64, "num_attention_heads": 4},
    )
    images = Sam3ImageProcessor(size={"height": 112, "width": 112})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Sam3(Sam3Model(config), Sam3Processor(images, words))
