"""Defenses: one file each, saying where it acts, what it needs, and what the model and the prompt of an answer become.

``METHODS`` names the class of each; :mod:`infoconflict.defenses.controls` what they are compared with. Light: nothing here
imports torch.
"""

from infoconflict.defenses.base import Defense
from infoconflict.defenses.conflict import Conflict
from infoconflict.defenses.external import External
from infoconflict.defenses.internal import Internal
from infoconflict.defenses.none import Undefended

METHODS: dict[str, type[Defense]] = {
    "none": Undefended,
    "internal": Internal,
    "external": External,
    "conflict": Conflict,
}
