# What every rule shares: the checked config, path templates, code hashes, and who reads what.
#
# Nothing here reads data: it decides which jobs exist. Errors in the config end here, before any job starts.

import os
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import ExecMode

LIBRARY_ROOT = Path(workflow.basedir) / "workflow"
# Jobs of this clone use this clone's library, installed or not; scripts inherit the environment.
sys.path.insert(0, str(LIBRARY_ROOT))
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(LIBRARY_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
)

from foley.config import ConfigError
from foley.plan import Plan
from foley.runtime import lock
from foley.runtime.code import code_hash

try:
    P = Plan(
        config,
        resources=Path(workflow.basedir) / "resources",
        trust_cache=workflow.exec_mode != ExecMode.DEFAULT,
    )
except (ConfigError, FileNotFoundError, ValueError) as error:
    raise WorkflowError(str(error)) from None

RESULTS = P.config.results
CACHE = P.config.cache
SCRIPTS = LIBRARY_ROOT / "scripts"


def code(script, *targets):
    """A hash of a script, of all that it imports, and of what it loads by name (`module:Class`)."""
    return code_hash(SCRIPTS / f"{script}.py", *targets)


def one_of(names):
    """A wildcard's pattern: exactly these ids."""
    return "|".join(map(re.escape, sorted(names))) or "(?!)"


wildcard_constraints:
    dataset=one_of(P.config.datasets),
    feature=one_of(P.config.features),
    embedding=one_of(P.config.embeddings),
    vectors=one_of(P.config.class_vectors),
    method=one_of(P.config.methods),
    split=r"[A-Za-z0-9_.-]+",
    shard=r"\d+",


onstart:
    # Kernel-held, so that a killed run leaves no lock behind (profiles/default turns Snakemake's own off).
    lock.hold(Path(CACHE) / "lock")
