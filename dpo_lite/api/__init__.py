"""For Python code and notebooks: ``from dpo_lite import train, plan, compare, load, show``.

The libraries read what keeps them quiet as they are imported, so it is set before anything else.
"""

from dpo_lite.quiet import quiet_libraries

quiet_libraries()
