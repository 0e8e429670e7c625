"""What a recipe says: YAML to checked plain values. Imports no torch, and reads neither models nor data."""
