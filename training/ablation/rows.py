"""The rows of the study: Table 1 of the paper, and controls that it lacks.

Maier and Mohankumar, "Video Prediction Models as General Visual Encoders", Table 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from training.config import EncoderName, HeadName, LatentsName


class Row(NamedTuple):
    """One configuration.

    Attributes:
        name: What results are filed under.
        says: The encoder and the head in words.
        encoder: As in `ModelConfig`; "mean-mask" looks at no picture at all.
        head: As in `ModelConfig`.
        paper: The paper's IoU; none where the row is ours.
        latents: Of the transformer.
        frozen: Whether the encoder stays as it is; its latents are then computed once for all folds and seeds.
        noise: Whether it sees noise in place of frames.
        random: Whether the encoder has random weights instead of pretrained ones.
        calibrated: Whether the loss is plain cross-entropy, whose best answer is a probability. Losses of overlap, and
            cross-entropy that weighs the robot more, pay for a guess where the robot often is, picture or no picture.
    """

    name: str
    says: tuple[str, str]
    encoder: EncoderName | None
    head: HeadName
    paper: float | None = None
    latents: LatentsName = "expected"
    frozen: bool = True
    noise: bool = False
    random: bool = False
    calibrated: bool = False

    @property
    def head_first(self) -> bool:
        """Whether its head learns from the frozen encoder before both are finetuned.

        A random head would drag pretrained latents along while it learns: Kumar et al. 2022, "Fine-Tuning can Distort
        Pretrained Features and Underperform Out-of-Distribution". A head with skips sees more than latents.
        """
        return not self.frozen and not self.random and self.head == "attention-conv"

    @property
    def pretrained(self) -> str | None:
        """What it needs weights of: "prior", "frame encoder" or nothing."""
        if self.encoder == "transformer":
            return "prior"
        return "frame encoder" if self.encoder == "frame-encoder" and not self.random else None


ROWS = (
    Row(
        "noise-conv", ("noise, transformer", "linear + conv"), "transformer", "conv", 0.0, noise=True, calibrated=True,
    ),
    Row("transformer-linear", ("transformer included", "linear"), "transformer", "linear", 0.17),
    Row("transformer-conv", ("transformer included", "linear + conv"), "transformer", "conv", 0.225),
    Row("transformer-heavy", ("transformer included", "linear + U-Net"), "transformer", "heavy-conv", 0.35),
    Row("resnet-linear", ("3D ResNet, frozen", "linear"), "frame-encoder", "linear", 0.17),
    Row("resnet-conv", ("3D ResNet, frozen", "linear + conv"), "frame-encoder", "fc-conv", 0.38),
    Row("resnet-attention", ("3D ResNet, frozen", "attention + conv"), "frame-encoder", "attention-conv", 0.79),
    Row(
        "resnet-finetuned", ("3D ResNet, unfrozen", "attention + conv"), "frame-encoder", "attention-conv", 0.83,
        frozen=False,
    ),
    Row("unet", ("none", "U-Net"), "none", "unet", 0.83, frozen=False),
    Row(
        "skips-finetuned", ("3D ResNet, unfrozen", "attention + conv with skips"), "frame-encoder", "attention-skips",
        frozen=False,
    ),
    Row("sampled-linear", ("transformer, sampled codes", "linear"), "transformer", "linear", latents="sampled"),
    Row("sampled-conv", ("transformer, sampled codes", "linear + conv"), "transformer", "conv", latents="sampled"),
    Row(
        "sampled-heavy", ("transformer, sampled codes", "linear + U-Net"), "transformer", "heavy-conv",
        latents="sampled",
    ),
    Row("hidden-linear", ("transformer, hidden states", "linear"), "transformer", "linear", latents="hidden"),
    Row("random-linear", ("3D ResNet, random, frozen", "linear"), "frame-encoder", "linear", random=True),
    Row(
        "random-attention", ("3D ResNet, random, frozen", "attention + conv"), "frame-encoder", "attention-conv",
        random=True,
    ),
    Row(
        "random-finetuned", ("3D ResNet, random, unfrozen", "attention + conv"), "frame-encoder", "attention-conv",
        frozen=False, random=True,
    ),
    Row(
        "noise-overlap", ("noise, transformer", "linear + conv, loss of overlap"), "transformer", "conv", noise=True,
    ),
    Row("mean-mask", ("no picture", "best constant mask"), None, "linear"),
)  # fmt: skip
"""The paper's nine rows in its order, then controls."""

BY_NAME = {row.name: row for row in ROWS}
