"""The systems that start workers."""

from typing import Literal

Kind = Literal["slurm", "pbs", "sge", "lsf", "kubernetes"]
"""Batch systems, by dask-jobqueue, and Kubernetes, by dask-kubernetes' operator."""
