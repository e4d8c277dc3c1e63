# Shared by all rules: the checked config, path templates, code hashes, and who reads what.
#
# Nothing here reads data: it decides which jobs exist. Errors in the config end here, before any job starts.

import functools
import re
import sys
from dataclasses import asdict
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.settings.types import ExecMode

ROOT = Path(workflow.basedir)
# Inputs that belong to the project are named from the working directory where that is possible: Snakemake keeps the
# names, so absolute ones would rerun everything in a folder that was moved, copied or mounted elsewhere.
if ROOT.is_relative_to(Path.cwd()):
    ROOT = ROOT.relative_to(Path.cwd())
RESOURCES = ROOT / "resources"
LIBRARY_ROOT = Path(workflow.basedir) / "workflow"
# This clone uses its own library, installed or not; so do its jobs (see `use_library_in_jobs`).
sys.path.insert(0, str(LIBRARY_ROOT))

from foley.config import ConfigError
from foley.download.http import go_offline
from foley.plan import Plan
from foley.runtime import lock
from foley.runtime.code import code_hash, use_library_in_jobs
from foley.runtime.job import announce_workflow

use_library_in_jobs()
announce_workflow()

try:
    P = Plan(
        config,
        resources=RESOURCES,
        trust_cache=workflow.exec_mode != ExecMode.DEFAULT,
    )
except (ConfigError, FileNotFoundError, ValueError) as error:
    raise WorkflowError(str(error)) from None

if workflow.exec_mode == ExecMode.DEFAULT:
    for line in P.data.announcement():
        print(f"foley: {line}" if not line.startswith(" ") else line, file=sys.stderr)

if P.config.offline:
    go_offline()  # in jobs as well: they read this file, too

RESULTS = P.config.results
CACHE = P.config.cache
SCRIPTS = LIBRARY_ROOT / "scripts"


@functools.cache  # thousands of jobs share a few dozen hashes
def code(script, *targets):
    """A hash of a script, of all that it imports, and of what it loads by name (`module:Class`)."""
    return code_hash(SCRIPTS / f"{script}.py", *targets)


def one_of(names):
    """A wildcard's pattern: exactly these ids."""
    return "|".join(map(re.escape, sorted(names))) or "(?!)"


# Who reads what

# Path templates; their wildcards are filled by `expand` or by the rules.
CLIPS = f"{RESULTS}/clips/dataset={{dataset}}"
CARD = f"{RESULTS}/report/cards/{{dataset}}.md"
CLASS_VECTORS = f"{RESULTS}/class_vectors/dataset={{dataset}}/vectors={{vectors}}"
FEATURES = f"{RESULTS}/features/dataset={{dataset}}/feature={{feature}}"
EMBEDDINGS = f"{RESULTS}/embeddings/dataset={{dataset}}/embedding={{embedding}}"
ZERO_SHOT = f"{RESULTS}/zero_shot/dataset={{dataset}}"
SPLIT = f"{ZERO_SHOT}/split={{split}}"
RUN = f"{SPLIT}/embedding={{embedding}}/vectors={{vectors}}/method={{method}}"
# Runs that no method of the config makes; `score_method` reads them like any other.
ORACLE = f"{SPLIT}/embedding={{embedding}}/vectors=none/method=oracle"
CLAP = f"{SPLIT}/embedding=none/vectors=none/method=clap"


def raw_files(wildcards):
    """What stands for the raw files as an input: a folder that a rule makes, or the marks of finished downloads.

    A user's own folder is none: its content counts, by fingerprint (see `P.data.fingerprint`).
    """
    if P.data.is_generated(wildcards.dataset):
        return P.data.root(wildcards.dataset)
    return [str(download.marker) for download in P.data.downloads(wildcards.dataset)]


def words_file(wildcards):
    """The word vectors as an input: the user's file, or the mark of a finished download."""
    fetched = P.data.words(wildcards.vectors)
    if fetched is not None:
        return str(fetched.marker)
    return P.config.class_vectors[wildcards.vectors].path or []


def model_files(model):
    """The files of a model in a local folder as inputs; of a hub id its revision counts, a parameter."""
    folder = Path(model or "").expanduser()
    if not model or not folder.is_dir():
        return []
    return sorted(str(path) for path in folder.iterdir() if path.is_file())


def weight_files(embedding):
    """What a pretrained encoder is read from: a file, or those of a folder; nothing where it is a download."""
    local = P.local_weights(embedding)
    return model_files(local) or local or []


def dataset_options(dataset):
    return P.config.datasets[dataset].options


def all_shards(template):
    """Every shard of the wildcards' dataset, in order."""
    return lambda wildcards: expand(
        template,
        shard=P.data.shards(wildcards.dataset),
        allow_missing=False,
        **wildcards,
    )


def embeddings_of(dataset, embedding, split):
    """The tables that hold an embedding of a dataset's clips, in one split."""
    if P.is_trained(embedding):
        return expand(
            f"{EMBEDDINGS}/split={{split}}/embeddings.parquet",
            dataset=dataset,
            embedding=embedding,
            split=split,
        )
    return expand(
        f"{EMBEDDINGS}/shard={{shard}}.parquet",
        dataset=dataset,
        embedding=embedding,
        shard=P.data.shards(dataset),
    )


def embedding_files(wildcards):
    return embeddings_of(wildcards.dataset, wildcards.embedding, wildcards.split)


def runs(file, dataset):
    """A file of every run of a dataset: all splits, embeddings, class vectors and methods."""
    return [
        path
        for vectors in P.study.class_vectors
        for path in expand(
            f"{RUN}/{file}",
            dataset=dataset,
            split=P.splits(dataset),
            embedding=P.study.embeddings,
            vectors=vectors,
            method=P.methods_with(vectors),
        )
    ]


def references(file, dataset):
    """A file of every upper reference of a dataset: the oracle on each embedding, and CLAP."""
    found = []
    if P.study.references.oracle:
        found += expand(
            f"{ORACLE}/{file}",
            dataset=dataset,
            split=P.splits(dataset),
            embedding=P.study.embeddings,
        )
    if P.study.references.clap is not None:
        found += expand(f"{CLAP}/{file}", dataset=dataset, split=P.splits(dataset))
    return found


def generator_file(file):
    """A file that a method's generator writes; no input for a method without one."""

    def files(wildcards):
        if P.generator_target(wildcards.method) is None:
            return []
        return f"{RUN}/{file}".format(**wildcards)

    return files


def curves(dataset):
    """The learning curves of a dataset, run by run."""
    return expand(
        f"{RUN}/learning_curve.parquet",
        dataset=dataset,
        split=P.splits(dataset),
        embedding=P.study.embeddings,
        vectors=P.study.class_vectors[0],
        method=P.curve_methods,
    )


def seed_grids(dataset):
    """Accuracies over seeds of network, generator and classifier, run by run."""
    return expand(
        f"{RUN}/seed_grid.parquet",
        dataset=dataset,
        split=P.variance_splits(dataset),
        embedding=[
            network
            for embedding in P.study.embeddings
            for network in P.replicates(embedding)
        ],
        vectors=P.study.class_vectors[0],
        method=P.variance_methods,
    )


def qualities(dataset):
    """Quality of synthetic embeddings, run by run, and of real ones beside."""
    return [
        *expand(
            f"{RUN}/quality.parquet",
            dataset=dataset,
            split=P.splits(dataset),
            embedding=P.study.embeddings,
            vectors=P.study.class_vectors[0],
            method=P.quality_methods,
        ),
        *expand(
            f"{SPLIT}/embedding={{embedding}}/real_quality.parquet",
            dataset=dataset,
            split=P.splits(dataset),
            embedding=P.study.embeddings,
        ),
    ]


def score_files(wildcards):
    """Every table of scores that the configured studies write."""
    found = []
    for dataset in P.study.datasets:
        found += runs("scores.parquet", dataset)
        found += references("scores.parquet", dataset)
        if P.curve_methods:
            found += expand(f"{ZERO_SHOT}/learning_curves.parquet", dataset=dataset)
        if P.variance_methods:
            found += expand(f"{ZERO_SHOT}/variance.parquet", dataset=dataset)
        if P.quality_methods:
            found += qualities(dataset)
            found += expand(f"{ZERO_SHOT}/quality.parquet", dataset=dataset)
        found += expand(
            f"{SPLIT}/references.parquet", dataset=dataset, split=P.splits(dataset)
        )
        found += expand(f"{ZERO_SHOT}/comparison.parquet", dataset=dataset)
    for dataset in P.audio.judged:
        found += judged("scores.parquet", dataset)
        found += expand(f"{AUDIO}/diffusion.parquet", dataset=dataset)
    found += expand(f"{AUDIO}/interpolation.parquet", dataset=P.audio.augmented)
    found += expand(f"{FOUNDATION}/foundation.parquet", dataset=P.foundation.datasets)
    found += expand(f"{DIVERSE}/diverse.parquet", dataset=P.diverse.datasets)
    found += expand(f"{SPEECH}/speech.parquet", dataset=P.speech.datasets)
    return found


# Synthetic embeddings are shown for one split a dataset: its `test`, or the first.


def shown(dataset):
    """The runs with a generator whose embeddings the page shows: (embedding, vectors, method)."""
    if dataset not in P.study.datasets:
        return []
    return [
        (embedding, P.study.class_vectors[0], method)
        for embedding in P.study.embeddings
        for method in P.study.methods
        if P.generator_target(method)
    ]


def shown_split(dataset):
    splits = P.splits(dataset)
    return "test" if "test" in splits else splits[0]


def shown_files(file, dataset):
    return [
        f"{RUN}/{file}".format(
            dataset=dataset,
            split=shown_split(dataset),
            embedding=embedding,
            vectors=vectors,
            method=method,
        )
        for embedding, vectors, method in shown(dataset)
    ]


wildcard_constraints:
    dataset=one_of(P.config.datasets),
    feature=one_of(P.config.features),
    embedding=one_of([*P.networks, "none"]),
    vectors=one_of([*P.config.class_vectors, "none"]),
    method=one_of([*P.config.methods, "oracle", "clap"]),
    split=r"[A-Za-z0-9_.-]+",
    shard=r"\d+",
    storage=one_of(P.data.storages()),
    source=r"[A-Za-z0-9_.-]+",
