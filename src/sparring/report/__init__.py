"""Reports: tables for a terminal, figures, one self-contained HTML page. They read rows and run nothing."""
