"""Several models answer the same prompts from one loaded base; votes on what they said.

``from dpo_lite import compare`` means the function of that name (docs/python.md). Where this
package was imported before, Python gives the package instead, so it can be called as well.
"""

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    def __call__(self, *given: Any, **named: Any) -> Any:
        import dpo_lite

        return dpo_lite.__getattr__("compare")(*given, **named)


sys.modules[__name__].__class__ = _Callable
