"""The charts of the report, drawn by matplotlib as SVG whose colours are those of the page. matplotlib is imported when
a chart is drawn."""
