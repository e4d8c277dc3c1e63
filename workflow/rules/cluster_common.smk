# What a cluster needs to know of the rules (memory and time, more with each attempt), and how a run goes on whose main
# process was lost while its jobs were running.

from snakemake.persistence import PersistenceBase

from foley.runtime import slurm
from foley.runtime.job import announce_cluster_job, refuse_variables

# The name of the last run, unless it came to a good end.
LAST_RUN = Path(RESULTS) / ".slurm_run"


def memory(mb, of_input=0, processes=lambda wildcards: 1):
    """Resource `mem_mb`: MiB, so many times the input's size on top, for each process; doubled with each attempt."""

    def plain(wildcards, attempt):
        return slurm.ask_for(
            mb * processes(wildcards), attempt, P.config.cluster.max_mem_mb
        )

    def with_input(wildcards, input, attempt):
        each = mb + of_input * input.size_mb
        return slurm.ask_for(
            each * processes(wildcards), attempt, P.config.cluster.max_mem_mb
        )

    return with_input if of_input else plain


def minutes(first):
    """Resource `runtime`: minutes, doubled with each attempt."""
    return lambda wildcards, attempt: slurm.ask_for(
        first, attempt, P.config.cluster.max_runtime_min
    )


def record_own_outputs():
    """Let a job on a node record what it made it from, as the main process does once it hears of its end.

    A job may outlive the main process. Without a record its outputs would count as finished at the next start, and no
    change of a parameter or of the code would ever be noticed.
    """
    finished = PersistenceBase.finished

    async def recorded(persistence, job):
        ours = persistence.dag.workflow
        # Of the two processes that Slurm starts for a job, the inner one does the work.
        if ours.local_exec:
            ours.workflow_settings.exec_mode = ExecMode.DEFAULT
        try:
            await finished(persistence, job)
        finally:
            ours.workflow_settings.exec_mode = ExecMode.REMOTE

    PersistenceBase.finished = recorded


def say(message):
    print(f"foley: {message}", file=sys.stderr)


def take_over():
    """Hold the lock of the results; end what a lost run has left in Slurm's queue."""
    scratch = (workflow.resource_settings.default_resources or {}).get("tmpdir")
    try:
        # Before Snakemake makes a folder of that name.
        refuse_variables(str(getattr(scratch, "raw", "")))
        # Kernel-held, so that a killed run leaves no lock behind (profiles/default turns Snakemake's own off).
        unguarded = lock.hold(Path(RESULTS) / ".lock")
        if unguarded is not None:
            say(f"nothing keeps a second run out of this folder: {unguarded}")
        slurm.end_lost_run(LAST_RUN, patience_s=300, guarded=unguarded is None, say=say)
    except (RuntimeError, ValueError) as error:
        raise WorkflowError(str(error)) from None


def take_over_before_planning():
    """Take over once Snakemake is about to plan what it will do, and only then.

    Not while this file is read: dry runs, summaries, reports and the like read it, too. Not in `onstart`, which comes
    after the plan: jobs that end in between would be done again.
    """
    prepare = workflow._prepare_dag

    def prepare_alone(*arguments, **options):
        workflow._prepare_dag = prepare  # once: a report after the run plans again
        # Only what executes jobs has an executor, and a dry run has one that does nothing.
        if workflow.executor_plugin is not None and not workflow.dryrun:
            take_over()
            plugin = sys.modules[workflow.executor_plugin.executor.__module__]
            if plugin.__name__ == slurm.PLUGIN:
                slurm.watch_jobs(plugin, LAST_RUN)
        return prepare(*arguments, **options)

    workflow._prepare_dag = prepare_alone


if workflow.exec_mode == ExecMode.DEFAULT:
    take_over_before_planning()
elif workflow.exec_mode == ExecMode.REMOTE:
    announce_cluster_job()
    record_own_outputs()


onsuccess:
    LAST_RUN.unlink(missing_ok=True)
