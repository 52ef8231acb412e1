"""Commands a site has registered in QUEUECTL["COMMANDS"], for people to fill in what is left open.

A value becomes one argument or a part of one: never an argument more, never text for a shell, and
no option, unless the template says so.
"""

from .matching import could_make
from .parameters import Parameter
from .registration import registered
from .template import FIXED, Template

__all__ = ["FIXED", "Parameter", "Template", "could_make", "registered"]
