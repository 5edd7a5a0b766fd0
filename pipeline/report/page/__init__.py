"""The report as an HTML page: pure functions from rows and records to plain frozen values (one module for each part of
the page), charts drawn from these as SVG, and the templates, which the page of a run shares."""
