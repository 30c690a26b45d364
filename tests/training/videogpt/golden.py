"""Reads the golden folder: what the published VideoGPT computed from given weights and inputs.

The folder is `ROBOMASK_GOLDEN`, or `shared/videogpt/golden` beside the repository. Everything is taken from its
`manifest.json`, so that any folder of the same layout will do, whatever its seeds, widths, strides and heads.

    @pytest.mark.parametrize("name", golden.cases("vqvae_eval"))
    def test_...(name):
        case = golden.load(name)
        model.load_state_dict(golden.weights(name))
        torch.testing.assert_close(model(case["in/video"]), case["out/recon"])
"""

import importlib.util
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from training.videogpt.prior import PriorConfig
from training.videogpt.vqvae import VQVAE, VQVAEConfig

FOLDER = Path(os.environ.get("ROBOMASK_GOLDEN") or Path(__file__).parents[4] / "shared/videogpt/golden")
ABSENT = f"no golden data: {FOLDER / 'manifest.json'} does not exist (set ROBOMASK_GOLDEN)"


@dataclass(frozen=True)
class Case:
    """One golden case: its manifest entry and its arrays, by their names in the file."""

    name: str
    entry: dict[str, Any]
    arrays: dict[str, Tensor]

    @property
    def config(self) -> dict[str, Any]:
        return self.entry["config"]

    @property
    def seed(self) -> int:
        return self.entry["seed"]

    def __getitem__(self, key: str) -> Tensor:
        return self.arrays[key]

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def group(self, prefix: str) -> dict[str, Tensor]:
        """Arrays whose names start with `prefix`, which is cut off."""
        return {key.removeprefix(prefix): value for key, value in self.arrays.items() if key.startswith(prefix)}


def cases(kind_prefix: str, *, but_not: str | None = None) -> list[Any]:
    """Names of the cases whose kind starts with `kind_prefix`, as parameters; one skipped parameter where none is.

    Kinds that start with `but_not` are left out.
    """
    if not (FOLDER / "manifest.json").exists():
        return [pytest.param(None, marks=pytest.mark.skip(reason=ABSENT), id="no-golden-data")]
    kinds = {name: entry["kind"] for name, entry in _manifest().items()}
    names = [name for name, kind in kinds.items() if kind.startswith(kind_prefix)]
    if but_not is not None:
        names = [name for name in names if not kinds[name].startswith(but_not)]
    if not names:
        reason = f"{FOLDER} has no case of kind {kind_prefix}*"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="no-such-case")]
    return [pytest.param(name, id=name) for name in names]


@lru_cache(maxsize=4)
def load(name: str) -> Case:
    """The case of that name; half precision is widened. The arrays are shared: do not write to them."""
    entry = _manifest()[name]
    with np.load(FOLDER / entry["file"]) as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    return Case(name, entry, {k: v.float() if v.dtype == torch.float16 else v for k, v in arrays.items()})


def weights(name: str, prefix: str = "") -> dict[str, Tensor]:
    """State dict of a case's model, or of its part `prefix` with the prefix cut off: stored or made by the recipe.

    Causal-mask buffers are left out: they follow from the shape.
    """
    case = load(name)
    stored = case.group("sd/")
    state = {key: value for key, value in stored.items() if key.startswith(prefix)}
    hashed_as = case.entry.get("recipe_prefix", "")
    recipe = _recipe()
    for key, shape in case.entry.get("state_keys", {}).items():
        if key.startswith(prefix) and key not in stored and not key.endswith("attn.mask"):
            state[key] = torch.from_numpy(recipe.one(hashed_as + key, shape, case.seed))
            if key.endswith("codebook.embeddings"):
                state[key] = state[key].half().float()  # stored and computed codebooks alike are exact in half
    return {key.removeprefix(prefix): value for key, value in state.items()}


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes that the case's state dict must have, causal-mask buffers left out."""
    case = load(name)
    stored = {key: value.shape for key, value in case.group("sd/").items()}
    keys = case.entry.get("state_keys", stored)
    return {key: tuple(shape) for key, shape in keys.items() if not key.endswith("attn.mask")}


def vqvae_config(name: str) -> VQVAEConfig:
    """Configuration of the case's VQ-VAE."""
    config = load(name).config
    return VQVAEConfig(**{k: tuple(v) if k == "downsample" else v for k, v in config.get("vqvae", config).items()})


def prior_config(name: str) -> PriorConfig:
    """Configuration of the case's prior; what it does not mention was off."""
    gpt = load(name).config["gpt"]
    return PriorConfig(
        vqvae=vqvae_config(name),
        n_cond_frames=gpt.get("n_cond_frames", 0),
        class_cond_dim=gpt["class_cond_dim"] if gpt.get("class_cond") else None,
        hidden_dim=gpt["hidden_dim"],
        heads=gpt["heads"],
        layers=gpt["layers"],
        attn_type=gpt["attn_type"],
    )


@lru_cache(maxsize=1)
def _manifest() -> dict[str, Any]:
    return json.loads((FOLDER / "manifest.json").read_text())["cases"]


@lru_cache(maxsize=1)
def _recipe() -> Any:
    """The folder's own rule that makes large weights from their names and a seed."""
    spec = importlib.util.spec_from_file_location("golden_recipe", FOLDER / "recipe.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def assert_same_codes(vqvae: VQVAE, video: Tensor, expected: Tensor) -> None:
    """Codes of a clip must be the expected ones wherever the nearest embedding is clearly the nearest."""
    with torch.no_grad():
        codes = vqvae.encode(video)
        vectors = vqvae.latents(video).movedim(1, -1)
        squared = torch.cdist(vectors.flatten(0, -2).double(), vqvae.codebook.embeddings.double()).square()
    nearest, second = squared.topk(2, largest=False).values.unbind(-1)
    clear = (second - nearest > 1e-3).view(codes.shape)
    assert torch.equal(codes[clear], expected[clear])
    assert (codes == expected).float().mean() > 0.99


def assert_same_gradients(model: nn.Module, expected: dict[str, Tensor]) -> None:
    """Every gradient must be the expected one as far as float32 tells.

    An activation that a rounding moves across a ReLU's corner changes whole gradients by a thousandth; a gradient that
    is zero but for roundings is measured against the largest one.
    """
    got = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    missing = expected.keys() - got.keys()
    assert not missing, f"no gradient: {sorted(missing)}"
    largest = max(float(gradient.norm()) for gradient in expected.values())
    for name, gradient in expected.items():
        bound = 5e-3 * float(gradient.norm()) + 1e-4 * largest
        assert float((got[name] - gradient).norm()) <= bound, name
