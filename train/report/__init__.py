"""What was measured, for people: reports, tables, plots and cards."""
