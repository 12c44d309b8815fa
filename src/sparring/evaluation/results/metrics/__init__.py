"""The five papers' metrics, one family a file, each with its own denominator (PROTOCOL 2.5). ``report --metric NAME`` asks one of any run."""
