"""Many runs of one recipe: a grid of settings × arms × seeds, compared in pairs of equal seed."""
