"""A process that forks a writer for every line it is given; the writer's life is not its own.

Usage: victim.py STORE [RECIPE FIELDS AS JSON]. For each line on stdin it answers with the writer's
process id, and with its exit code once it is dead.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

spec = importlib.util.spec_from_file_location(
    "store_recipes", Path(__file__).parent / "conftest.py"
)
assert spec is not None
assert spec.loader is not None
recipes = importlib.util.module_from_spec(spec)
sys.modules["store_recipes"] = recipes
spec.loader.exec_module(recipes)

os.fsync = lambda fd: None  # as where it is measured how long a writer lives
recipe = recipes.Recipe(**json.loads(sys.argv[2] if len(sys.argv) > 2 else "{}"))
for _ in sys.stdin:
    writer = os.fork()
    if writer == 0:
        code = 1
        try:
            recipe.write(Path(sys.argv[1]))
            code = 0
        finally:
            os._exit(code)
    sys.stdout.write(f"{writer}\n")
    sys.stdout.flush()
    _, status = os.waitpid(writer, 0)
    sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
    sys.stdout.flush()
