"""`robomask pretrain vqvae` and `robomask pretrain prior`: train VideoGPT from clips.

The same command, started on every node, trains on many: Lightning takes node and process numbers from the launcher.
All nodes need to see the run folder.
"""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, NamedTuple

from lightning.pytorch.utilities import rank_zero_only
from pydantic_settings import CliApp

from training.commands.flags import repeat_flags
from training.commands.train import quieten_lightning
from training.pretrain.config import PriorRunConfig, VQVAERunConfig
from training.pretrain.trainer import pretrain_prior, pretrain_vqvae

if TYPE_CHECKING:
    from collections.abc import Callable


class _Kind(NamedTuple):
    config: type[VQVAERunConfig | PriorRunConfig]
    run: Callable[..., dict[str, float]]
    does: str


KINDS = {
    "vqvae": _Kind(VQVAERunConfig, pretrain_vqvae, "clips to codes and back; comes first"),
    "prior": _Kind(PriorRunConfig, pretrain_prior, "predict the codes from a frame; gives the frame encoder"),
}


def main(argv: list[str]) -> int:
    """Run from the command line; returns the exit status."""
    if not argv or argv[0] not in KINDS:
        asked = bool(argv) and argv[0] in {"-h", "--help"}
        lines = [f"  {name}  {kind.does}" for name, kind in KINDS.items()]
        usage = "\n".join(["usage: robomask pretrain KIND [OPTIONS]", "", *lines, "", "KIND --help says more."])
        print(usage, file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    name, *rest = argv
    kind = KINDS[name]
    config = CliApp.run(kind.config, cli_args=repeat_flags(rest))
    quieten_lightning()
    warnings.filterwarnings("ignore", message=".*module.s. in eval mode at the start of training.*")  # the VQ-VAE
    say = rank_zero_only(print)
    say(config.model_dump_json(indent=2), flush=True)
    try:
        metrics = kind.run(config)
    except (ValueError, OSError) as error:
        print(f"robomask pretrain {name}: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, SystemExit):  # Lightning turns the one into the other
        print(f"robomask pretrain {name}: interrupted; the same command goes on from {config.out}", file=sys.stderr)
        return 130
    shown = ", ".join(f"{key} {value:.4g}" for key, value in metrics.items() if key.startswith("val_"))
    say(f"{config.out}: {shown}")
    return 0
