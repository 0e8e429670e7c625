"""Records to files: report pages, tables and plots. No model is run."""
