"""What the cells of an ablation say together: paired comparisons over seeds, tables, plots and the page."""
