"""Charts of the page: each is Vega-Lite, with a caption, a legend, and its numbers as a table."""
