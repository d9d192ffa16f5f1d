"""Numbers, scans and label maps become pictures; all of matplotlib is here."""
