"""What the clips of each source cost: time, and tokens of the model that wrote the prompts."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.studies.foundation.costs import Expense, write_costs

    write_costs(
        Path(snakemake.output[0]),
        [
            Expense(
                **expense
                | {
                    key: [Path(path) for path in expense[key]]
                    for key in ("clips", "measured", "benchmarks")
                    if key in expense
                }
                | ({"requests": Path(expense["requests"])} if "requests" in expense else {})
            )
            for expense in snakemake.params.expenses
        ],
        provenance=job.provenance,
    )
