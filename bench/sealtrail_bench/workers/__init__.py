"""Processes that stand for one variant each: the pipeline with other ports."""
