"""Sets of numbers to start from: `bair` as published, `cpu` for two cores and a couple of hours."""

from __future__ import annotations

from typing import Any

Preset = dict[str, Any]
"""Nested values of a run's configuration."""

VQVAE_PRESETS: dict[str, Preset] = {
    # The defaults of the configuration are the published numbers; 16 clips a GPU, Adam 3e-4 without schedule.
    "bair": {},
    "cpu": {
        # 4x16x16 latents: 1024 tokens instead of 4096, and a quarter of the positions in every residual block.
        "model": {"embedding_dim": 64, "n_codes": 512, "n_hiddens": 96, "n_res_layers": 2, "downsample": (4, 4, 4)},
        "augment": {"mirror": 0.5, "crop_px": 8, "colour": 0.5, "noise": 0.2},
        "optim": {"lr": 1e-3, "warmup_steps": 50, "final_lr_ratio": 0.02},
        "log": {"pictures_every": 3},
        "batch_size": 8,
        "epochs": 15,
        "steps_per_epoch": 100,
    },
}

PRIOR_PRESETS: dict[str, Preset] = {
    # 8 clips a GPU on 4 GPUs, Adam 3e-4, cosine to zero over all steps.
    "bair": {"optim": {"final_lr_ratio": 0.0}, "batch_size": 8},
    "cpu": {
        "model": {
            # 240 is the frame encoder's width too: keys and values then have equal widths, which the fused attention
            # of PyTorch asks for. 1024 tokens are few: attention is full and nothing is recomputed.
            "hidden_dim": 240,
            "heads": 4,
            "layers": 4,
            "dropout": 0.0,
            "attn_type": "full",
            "attn_dropout": 0.0,
            "recompute": False,
        },
        "start": "aligned",
        "augment": {"mirror": 0.5, "crop_px": 8, "colour": 0.5, "noise": 0.2},
        "optim": {"lr": 5e-4, "warmup_steps": 100, "final_lr_ratio": 0.02},
        "batch_size": 8,
        "epochs": 20,
        "steps_per_epoch": 100,
    },
}


def merged(defaults: Preset, given: Preset) -> Preset:
    """Fill what is not given from defaults, in nested groups too; neither argument changes.

    >>> merged({"optim": {"lr": 1, "steps": 2}}, {"optim": {"lr": 3}})
    {'optim': {'lr': 3, 'steps': 2}}
    """
    both = {**defaults, **given}
    for key, value in defaults.items():
        if isinstance(value, dict) and isinstance(given.get(key), dict):
            both[key] = merged(value, given[key])
    return both
