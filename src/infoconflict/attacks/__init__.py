"""Backdoor attacks: one file each, with the published settings as defaults.

``METHODS`` names the class of each attack; :func:`load` imports only the file that is asked for, so that editing one attack
reruns only what used it.
"""

import importlib
from typing import TYPE_CHECKING

from infoconflict.errors import UserError, did_you_mean

if TYPE_CHECKING:
    # An edit of what chat attacks share must not rerun the others.
    from infoconflict.attacks.base import Attack
    from infoconflict.attacks.chat import ChatAttack

METHODS = {
    "adaptive_cba": "AdaptiveCBA",
    "autopoison": "AutoPoison",
    "badedit": "BadEdit",
    "badnets": "BadNets",
    "cba": "CBA",
    "dtba": "DTBA",
    "lwp": "LWP",
    "memit": "MEMIT",
    "rome": "ROME",
    "vpi": "VPI",
}


def load(method: str) -> "type[Attack] | type[ChatAttack]":
    """Return the class of an attack by its config name."""
    if method not in METHODS:
        raise UserError(f"unknown attack '{method}'{did_you_mean(method, METHODS)} Available: {', '.join(METHODS)}")
    attack: type[Attack] | type[ChatAttack] = getattr(
        importlib.import_module(f"infoconflict.attacks.{method}"), METHODS[method]
    )
    return attack
