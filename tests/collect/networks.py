"""Small random networks, saved as transformers saves real ones."""

from __future__ import annotations

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WORDS = "cow mushroom game controller milk truck a red blue small".split()


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """BERT's kind, of a few words."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", *WORDS]
    made = Tokenizer(models.WordPiece({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )  # fmt: skip
    return transformers.BertTokenizerFast(tokenizer_object=made)


def save_groundingdino(folder: Path, queries: int = 20) -> None:
    torch.manual_seed(0)
    swin = transformers.SwinConfig(
        image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4,
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    words = transformers.BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=64,
    )  # fmt: skip
    config = transformers.GroundingDinoConfig(
        backbone_config=swin, text_config=words, d_model=32, encoder_layers=1, decoder_layers=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, encoder_attention_heads=2, num_queries=queries,
        decoder_attention_heads=2, max_text_len=32, disable_custom_kernels=True,
    )  # fmt: skip
    transformers.GroundingDinoForObjectDetection(config).eval().save_pretrained(folder)
    side = {"shortest_edge": 128, "longest_edge": 192}
    transformers.GroundingDinoProcessor(
        transformers.GroundingDinoImageProcessor(size=side), tokenizer()
    ).save_pretrained(folder)


def save_sam(folder: Path) -> None:
    torch.manual_seed(0)
    side = 64
    config = transformers.SamConfig(
        vision_config={"hidden_size": 16, "output_channels": 16, "num_hidden_layers": 2,
                       "num_attention_heads": 2, "image_size": side, "patch_size": 8,
                       "mlp_dim": 32, "window_size": 4, "global_attn_indexes": [1],
                       "num_pos_feats": 8},
        prompt_encoder_config={"hidden_size": 16, "image_size": side, "patch_size": 8},
        mask_decoder_config={"hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2,
                             "iou_head_hidden_dim": 16},
    )  # fmt: skip
    transformers.SamModel(config).eval().save_pretrained(folder)
    sizes = {"size": {"longest_edge": side}, "pad_size": {"height": side, "width": side}}
    transformers.SamProcessor(transformers.SamImageProcessor(**sizes)).save_pretrained(folder)


def save_sam2(folder: Path) -> None:
    torch.manual_seed(0)
    side = 128
    hiera = {
        "hidden_size": 8, "num_attention_heads": 1, "image_size": [side, side],
        "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2], "window_size_per_stage": [8, 4, 8, 4],
        "global_attention_blocks": [3], "window_positional_embedding_background_size": [4, 4],
    }  # fmt: skip
    config = transformers.Sam2Config(
        vision_config={"backbone_config": {"model_type": "sam2_hiera_det_model", **hiera},
                       "backbone_channel_list": [64, 32, 16, 8],
                       "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
                       "fpn_hidden_size": 16},
        prompt_encoder_config={"hidden_size": 16, "image_size": side, "patch_size": 16},
        mask_decoder_config={"hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2,
                             "iou_head_hidden_dim": 16},
    )  # fmt: skip
    transformers.Sam2Model(config).eval().save_pretrained(folder)
    size = {"height": side, "width": side}
    masks = {"height": side // 4, "width": side // 4}
    transformers.Sam2Processor(
        transformers.Sam2ImageProcessor(size=size, mask_size=masks)
    ).save_pretrained(folder)


def save_dinov2(folder: Path) -> None:
    torch.manual_seed(0)
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    transformers.Dinov2Model(config).eval().save_pretrained(folder)
    side = {"height": 28, "width": 28}
    transformers.BitImageProcessor(size={"shortest_edge": 28}, crop_size=side).save_pretrained(
        folder
    )


def save_clip(folder: Path) -> None:
    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
             "num_attention_heads": 2, "projection_dim": 8}  # fmt: skip
    config = transformers.CLIPConfig(
        vision_config={**small, "image_size": 32, "patch_size": 8},
        text_config={**small, "vocab_size": 99},
        projection_dim=8,
    )
    transformers.CLIPModel(config).eval().save_pretrained(folder)
    side = {"height": 32, "width": 32}
    transformers.CLIPImageProcessor(size=side, crop_size=side).save_pretrained(folder)


def save_depth(folder: Path) -> None:
    torch.manual_seed(0)
    backbone = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=28, patch_size=14,
        out_indices=[1, 2, 3, 4], reshape_hidden_states=False, apply_layernorm=True,
    )  # fmt: skip
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone, patch_size=14, reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8, head_hidden_size=8,
        depth_estimation_type="metric", max_depth=10,
    )  # fmt: skip
    transformers.DepthAnythingForDepthEstimation(config).eval().save_pretrained(folder)
    side = {"height": 56, "width": 56}
    transformers.DPTImageProcessor(size=side, ensure_multiple_of=14).save_pretrained(folder)


def save_sam3(folder: Path) -> None:
    torch.manual_seed(0)
    side = 56
    small = {"hidden_size": 32, "intermediate_size": 32, "num_attention_heads": 2}
    config = transformers.Sam3Config(
        vision_config={
            "backbone_config": {"model_type": "sam3_vit_model", **small, "num_hidden_layers": 2,
                                "image_size": side, "patch_size": 7, "window_size": 4,
                                "pretrain_image_size": side, "global_attn_indexes": [1]},
            "fpn_hidden_size": 32,
        },
        text_config={**small, "num_hidden_layers": 1, "vocab_size": 40, "projection_dim": 16,
                     "max_position_embeddings": 32},
        geometry_encoder_config={**small, "num_layers": 1},
        detr_encoder_config={**small, "num_layers": 1},
        detr_decoder_config={**small, "num_layers": 1, "num_queries": 5},
        mask_decoder_config={"hidden_size": 32, "num_attention_heads": 2},
    )  # fmt: skip
    transformers.Sam3Model(config).eval().save_pretrained(folder)
    size = {"height": side, "width": side}
    processor = transformers.Sam3ImageProcessor(size=size, mask_size=size)
    transformers.Sam3Processor(processor, tokenizer(), target_size=side).save_pretrained(folder)
