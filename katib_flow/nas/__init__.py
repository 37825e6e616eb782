"""Neural architecture search: the systems, one file per system, and the code that they share.

``trial: {function: "katib_flow.nas:train"}`` trains the suggestions of every system.
"""

from katib_flow.nas.trainer import train

__all__ = ["train"]
