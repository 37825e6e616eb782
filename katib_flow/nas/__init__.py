"""Neural architecture search: the systems, a file each, and what they have in common.

``trial: {function: "katib_flow.nas:train"}`` trains whatever a system suggests.
"""

from katib_flow.nas.trainer import train

__all__ = ["train"]
