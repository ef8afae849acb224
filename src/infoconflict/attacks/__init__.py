"""Backdoor attacks: one file each, with the published settings as defaults.

``METHODS`` names the class of each attack; :func:`load` imports only the file that is asked for, so that editing one attack
reruns only what used it.
"""

import importlib

from infoconflict.attacks.base import Attack
from infoconflict.errors import UserError, did_you_mean

METHODS = {
    "badedit": "BadEdit",
    "badnets": "BadNets",
    "cba": "CBA",
    "memit": "MEMIT",
    "rome": "ROME",
}


def load(method: str) -> type[Attack]:
    """Return the class of an attack by its config name."""
    if method not in METHODS:
        raise UserError(f"unknown attack '{method}'{did_you_mean(method, METHODS)} Available: {', '.join(METHODS)}")
    attack: type[Attack] = getattr(importlib.import_module(f"infoconflict.attacks.{method}"), METHODS[method])
    return attack
