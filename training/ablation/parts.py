"""Builds the networks of rows."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from training.ablation.cells import seeded
from training.ablation.latents import weights_digest
from training.config import ModelConfig
from training.pretrain.weights import read_frame_encoder, read_prior
from training.run import segmenter_of
from training.segmenter import take_pretrained
from training.videogpt.configuration import frame_encoder_shape

if TYPE_CHECKING:
    from training.ablation.config import AblateConfig
    from training.ablation.rows import Row
    from training.segmenter import Segmenter
    from training.videogpt.prior import Prior


class Parts:
    """Builds the networks of rows, and reads pretrained weights no more often than needed."""

    def __init__(self, config: AblateConfig) -> None:
        self.config = config
        self._digests: dict[str | None, str] = {None: ""}
        self.layers = config.layers
        if config.pretrained is not None:
            state = read_frame_encoder(config.pretrained).state_dict()
            layers, _, _ = frame_encoder_shape({name: tuple(tensor.shape) for name, tensor in state.items()})
            a, b, c, d = layers
            self.layers = (a, b, c, d)

    def model(self, row: Row, draw: int) -> ModelConfig:
        """A row as `robomask train` takes it."""
        if row.encoder is None:
            raise ValueError(f"row {row.name} has no network")
        return ModelConfig(
            encoder=row.encoder,
            head=row.head,
            frozen=row.frozen and row.encoder != "none",
            latents=row.latents,
            draw=draw if row.latents == "sampled" else 0,
            layers=self.layers,
            width=self.config.width,
            pretrained=self.config.pretrained if row.pretrained else None,
        )

    def build(self, model: ModelConfig, seed: int) -> Segmenter:
        """The network as it starts. Networks on the transformer share one, which no row trains."""
        if model.encoder == "transformer" and model.pretrained is not None:
            prior = self._prior  # before the seed is set: reading draws weights that it then replaces
            seeded(seed)
            return segmenter_of(model, prior)
        seeded(seed)
        segmenter = segmenter_of(model)
        if model.pretrained is not None:
            take_pretrained(segmenter, read_frame_encoder(model.pretrained))
        return segmenter

    def weights(self, row: Row) -> str:
        """A fingerprint of the pretrained weights that a row uses; "" where it uses none, or none are given."""
        kind = row.pretrained
        if self.config.pretrained is None:
            return ""
        if kind not in self._digests:
            part = self._prior if kind == "prior" else read_frame_encoder(self.config.pretrained)
            self._digests[kind] = weights_digest(part)
        return self._digests[kind]

    @cached_property
    def _prior(self) -> Prior:
        assert self.config.pretrained is not None  # noqa: S101 - rows that need it are refused without
        return read_prior(self.config.pretrained)
