"""`robomask ablate`: the paper's Table 1, measured on scenes held out, with spread."""

from __future__ import annotations

import sys

from pydantic_settings import CliApp

from training.ablation.config import AblateConfig
from training.ablation.study import ablate
from training.ablation.table import markdown, not_in_the_table
from training.commands.flags import repeat_flags
from training.commands.train import quieten_lightning


def main(argv: list[str]) -> int:
    """Run from the command line; returns the exit status."""
    config = CliApp.run(AblateConfig, cli_args=repeat_flags(argv))
    quieten_lightning()
    try:
        study = ablate(config)
    except (ValueError, OSError) as error:
        print(f"robomask ablate: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, SystemExit):  # Lightning turns the one into the other
        print(f"robomask ablate: interrupted; the same command goes on from {config.out}", file=sys.stderr)
        return 130
    print(markdown(study.table))
    if study.incomplete:
        print(f"robomask ablate: {not_in_the_table(study.incomplete)}", file=sys.stderr)
    print(f"{config.out}: table.md, table.json, masks.png")
    return 0
