"""Parts of a page, one a file: each makes its content from a run; ``report.page`` and ``report.terminal`` draw it."""
