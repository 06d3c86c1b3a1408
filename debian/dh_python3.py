"""dh_python3 for binary packages named python-*, which Debian 12's takes for packages of Python 2, and skips.

Debian 13's has no such rule any more; this changes nothing there.
"""

import runpy
import sys

sys.path.insert(0, "/usr/share/dh-python")
import dhpython

if "cpython2" in getattr(dhpython, "PKG_NAME_TPLS", {}):
    dhpython.PKG_NAME_TPLS = {"cpython3": dhpython.PKG_NAME_TPLS["cpython3"]}
sys.argv = ["/usr/share/dh-python/dh_python3", *sys.argv[1:]]
runpy.run_path(sys.argv[0], run_name="__main__")
