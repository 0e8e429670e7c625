"""The score file: Δ of every label token, kept with what it was made of."""
