"""The vision-language judge: real loading code on a small LLaVA, and how replies are read."""

import numpy as np
import pytest
import torch

from refany3d_core.training.evaluation.learned_measures import Compared
from refany3d_core.training.evaluation.vision_judge import VisionJudge, parsed

SIDE = 28
MARKED = "texture: 4\ngeometry: 2\naesthetics: 5"


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


def save_judge(transformers, folder, reply: str) -> None:
    """A small LLaVA that says `reply`, one token of its vocabulary, whatever it sees: its last norm
    is zero, so that all words are alike to it and the first one is said."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = [reply, "[UNK]", "<image>", "<end>", *"texture geometry 1 2 3 4 5".split()]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="[UNK]", pad_token="<end>", eos_token="<end>",
        additional_special_tokens=["<image>"],
    )  # fmt: skip
    template = (
        "{% for m in messages %}{% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<image> {% else %}{{ c['text'] }}{% endif %}"
        "{% endfor %}{% endfor %}"
    )
    size = {"height": SIDE, "width": SIDE}
    pictures = transformers.CLIPImageProcessor(size=size, crop_size=size, do_center_crop=False)
    transformers.LlavaProcessor(
        image_processor=pictures, tokenizer=tokenizer, chat_template=template, patch_size=14,
        vision_feature_select_strategy="default", image_token="<image>",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)  # fmt: skip
    torch.manual_seed(0)
    vision = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        image_size=SIDE, patch_size=14,
    )  # fmt: skip
    text = transformers.LlamaConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, vocab_size=len(words), max_position_embeddings=512,
    )  # fmt: skip
    model = transformers.LlavaForConditionalGeneration(transformers.LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=2, image_token_id=2,
    ))  # fmt: skip
    model.generation_config.eos_token_id = 0
    model.generation_config.pad_token_id = 3
    with torch.no_grad():
        model.model.language_model.norm.weight.zero_()
    model.save_pretrained(folder)


def compared() -> Compared:
    rng = np.random.default_rng(0)
    return Compared(rng.random((40, 40, 3)), rng.random((5, 40, 40, 3)), "a red cow on a beach")


def test_marks_of_a_checkpoint_are_read(transformers, tmp_path):
    save_judge(transformers, tmp_path, MARKED)
    judge = VisionJudge(tmp_path, "cpu")
    assert judge.reply(compared()) == MARKED
    assert judge(compared()) == {
        "judge_texture": 4, "judge_geometry": 2, "judge_aesthetics": 5, "judge_unread": 0,
    }  # fmt: skip


def test_a_reply_that_is_no_marks_is_counted(transformers, tmp_path):
    save_judge(transformers, tmp_path, "very good")
    found = VisionJudge(tmp_path, "cpu")(compared())
    assert found.pop("judge_unread") == 1 and all(np.isnan(v) for v in found.values())


def test_replies_are_read_strictly():
    marks = {"texture": 4, "geometry": 2, "aesthetics": 5}
    for reply in (MARKED, f"\n{MARKED}\n", MARKED.replace(":", " ="), MARKED.upper()):
        assert parsed(reply) == marks
    for reply in (
        "", "4 2 5", MARKED.replace("4", "6"), MARKED.replace("4", "4.5"), f"Sure! {MARKED}",
        MARKED.replace("4", "45"), "\n".join(MARKED.splitlines()[::-1]), f"{MARKED}\n{MARKED}",
    ):  # fmt: skip
        assert parsed(reply) is None, reply


def test_without_a_checkpoint_it_says_so(transformers, tmp_path):
    with pytest.raises(ValueError, match="judge: there is no folder 'none'"):
        VisionJudge(tmp_path / "none")
    with pytest.raises(ValueError, match="is no checkpoint for AutoModelForImageTextToText"):
        VisionJudge(tmp_path)
