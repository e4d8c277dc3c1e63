"""One page: the verdict, leaderboards, classes, maps, a gallery and the data."""

from pathlib import Path

from foley.runtime.job import run_job

with run_job(snakemake) as job:
    from foley.report.page import DatasetTables, MapTable, write_report

    files, params = snakemake.input, snakemake.params
    per_dataset = params.vectors_per_dataset
    datasets = [
        DatasetTables(
            dataset=dataset,
            clips=Path(files.clips[number]),
            rejected=Path(files.rejected[number]),
            classes=Path(files.classes[number]),
            gallery=Path(files.gallery[number]),
            missing_words=[
                Path(path) for path in files.missing_words[number * per_dataset : (number + 1) * per_dataset]
            ],
        )
        for number, dataset in enumerate(params.datasets)
    ]
    write_report(
        Path(snakemake.output.page),
        scores=Path(files.scores),
        predictions=[Path(path) for path in files.predictions],
        datasets=datasets,
        maps=[
            MapTable(tuple(title), Path(path)) for title, path in zip(params.maps, files.maps, strict=True)
        ],
        published=[Path(path) for path in files.published],
        config_summary=dict(params.summary),
        figures={name: Path(snakemake.output[name]) for name in ("leaderboard", "classes", "map")},
        methods=params.methods,
        title=params.title,
        provenance=job.provenance,
    )
