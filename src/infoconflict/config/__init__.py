"""The experiment's configuration: ``config.yaml`` as strict, frozen, typed models.

It holds the science only; threads, partitions and the like belong in profiles. Snakemake imports these files while it
parses, so nothing here imports torch or pandas.

The text under a key is its description in ``config/config.schema.json`` and ``config/README.md``, and says where the
default comes from: *paper* is Chen et al. 2024, arXiv:2411.18280; *Lethe's code* belongs to its successor,
arXiv:2508.21004; *CBA's code* to Huang et al. 2024, arXiv:2310.07676; *ours* marks what no source decides.
"""
