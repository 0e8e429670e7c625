"""Sets of real drawings: single emoji with human remarks, and scenes of them."""
