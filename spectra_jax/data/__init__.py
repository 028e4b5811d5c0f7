"""Trials, their labels and their scores: read from files, tables, archives and datasets."""
