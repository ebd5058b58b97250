"""What ``report.html`` shows: the template and what turns a report into its texts, tables and figures."""
