"""Results for readers: tables on a terminal, a page that fetches nothing, and figures for papers.

    write_report([Path("scores.csv")], Path("report.html"), labels=read_labels("labels.parquet"))

    console.py             tables that fit a terminal
    evaluation_table.py    an evaluation as such tables
    comparison_table.py    a comparison as such tables, and as CSV
    hints.py               hints about scores that look inverted
    page.py                the page: reads, evaluates, compares, writes
    systems.py             score files with their labels, evaluated
    sections.py            the sections of the page
    review.py, clips.py    the trials to review, and their audio
    curves.py              the numbers that charts draw
    charts/                charts in Vega-Lite, each with a caption and a table
    rendering.py           the template, filled
    papers.py              DET and ROC curves as figures

The page and the figures need the extra `report`.
"""
