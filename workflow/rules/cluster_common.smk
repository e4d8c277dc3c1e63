# What a cluster needs to know of the rules (memory and time, more with each attempt), and how a run goes on whose main
# process was lost while its jobs were running.

from snakemake.persistence import PersistenceBase

from foley.runtime import slurm

# The name of the last run, unless it came to a good end.
LAST_RUN = Path(RESULTS) / ".slurm_run"


def memory(mb, of_input=0):
    """Resource `mem_mb`: MiB, so many times the input's size on top, doubled with each attempt."""

    def plain(wildcards, attempt):
        return mb * 2 ** (attempt - 1)

    def with_input(wildcards, input, attempt):
        return int(mb + of_input * input.size_mb) * 2 ** (attempt - 1)

    return with_input if of_input else plain


def minutes(first):
    """Resource `runtime`: minutes, doubled with each attempt."""
    return lambda wildcards, attempt: first * 2 ** (attempt - 1)


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


def take_over():
    """Hold the lock of the results; cancel what a lost run has left in Slurm's queue; note this run's name there."""
    guarded = lock.hold(Path(RESULTS) / ".lock")
    # Where the file system knows no locks, the jobs may be those of a run that lives.
    ended = slurm.cancel_lost_run(LAST_RUN, patience_s=300) if guarded else []
    if ended:
        print(
            f"foley: cancelled {len(ended)} jobs of a run whose main process is gone: {' '.join(ended)}",
            file=sys.stderr,
        )
    run = getattr(workflow.scheduler._executor, "run_uuid", None)
    if run is not None:
        slurm.note_run(LAST_RUN, run)


if workflow.exec_mode == ExecMode.REMOTE:
    record_own_outputs()


onstart:
    # Kernel-held, so that a killed run leaves no lock behind (profiles/default turns Snakemake's own off).
    take_over()


onsuccess:
    LAST_RUN.unlink(missing_ok=True)
