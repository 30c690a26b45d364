# ruff: noqa: INP001 - a script beside the manifests, no package
"""Bring shared/robomask.env up to date with the service's settings; what is set there stays as it is.

python k8s/render_settings.py
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

FILE = Path(__file__).parent / "shared/robomask.env"
sys.path.insert(0, str(Path(__file__).parents[1]))

from service.settings import Settings  # noqa: E402 - the checkout this file is in

HEAD = """\
# Every setting of the service (`robomask serve --help`), most at its default; a line that starts with #ROBOMASK_ is
# left to the service, which chooses by what it finds. An overlay changes a setting with `behavior: merge`, one
# that a component sets by a patch of the ConfigMap. Secrets are none of these: the Deployment refers to them. After a
# change of the service's settings run k8s/render_settings.py.
"""


def render(now: str) -> str:
    """The file's new text, from its old one."""
    chosen = dict(re.findall(r"^(ROBOMASK_\w+)=(.*)$", now, flags=re.MULTILINE))
    left = set(re.findall(r"^#(ROBOMASK_\w+)=", now, flags=re.MULTILINE))
    parts = [HEAD]
    for name, field in Settings.model_fields.items():
        if "SecretStr" in str(field.annotation):
            continue
        variable = f"ROBOMASK_{name.upper()}"
        parts.append(f"# {field.description}")
        if variable in left or (variable not in chosen and (field.default is None or field.default_factory)):
            parts.append(f"#{variable}=\n")
        else:
            parts.append(f"{variable}={chosen.get(variable, field.default)}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    FILE.write_text(render(FILE.read_text()))
