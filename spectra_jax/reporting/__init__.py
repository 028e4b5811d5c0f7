"""One HTML page of everything that a score file says, with nothing to fetch: for a colleague, a phone, or paper.

    write_report([Path("scores.csv")], Path("report.html"), labels=read_labels("labels.parquet"))

    systems.py   score files with their labels, evaluated
    curves.py    numbers to draw: error rates with bands, histograms, reliability
    charts.py    those as Vega-Lite charts, each with a sentence and a table for who cannot see it
    clips.py     the trials worth hearing, their sound and spectrogram
    page.py      all of it on one page
    papers.py    DET and ROC curves as figures (matplotlib)

Needs the extra `report`.
"""
